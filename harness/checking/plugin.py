"""`harness check`: a plugin of any seam, by name or file."""

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from harness.contracts import borrowed, plugins
from harness.contracts.backend import Backend
from harness.contracts.benchmark import Benchmark
from harness.contracts.executor import Executor
from harness.contracts.family import Family
from harness.contracts.judge_kind import JudgeKind
from harness.contracts.method import Method
from harness.contracts.source import Source
from harness.contracts.testbed_kind import TestbedKind
from harness.system.errors import UsageError

Try = Callable[[str, Mapping[str, Any], Path | None], Iterator[str]]  # name or file, options, a folder; what was tried


class Seam(NamedTuple):
    """Where a seam's plugins are, what they are, and who tries one: "MODULE:FUNCTION" of this package."""

    package: str
    contract: type
    by: str


SEAMS = (
    Seam("methods", Method, "method:check_named"),
    Seam("benchmarks", Benchmark, "benchmark:check_benchmark"),
    Seam("harness.executors", Executor, "executor:check_executor"),  # before sources: their "local" is meant by a path
    Seam("harness.sources", Source, "source:check_source"),
    Seam("harness.judges", JudgeKind, "judge:check_judge"),
    Seam("harness.testbeds", TestbedKind, "testbed:check_testbed"),
    Seam("harness.backends", Backend, "model:check_backend"),
    Seam("harness.families", Family, "model:check_family"),
)


def check_plugin(name: str, options: Mapping[str, Any], data: Path | None = None) -> Iterator[str]:
    """Try a plugin, by name or file; yields what was tried, and what cannot be. UsageError for a broken contract.

    `data` is a folder that it needs: a benchmark's or a source's files, a model of a family.
    """
    seam = seam_of(name if borrowed.maker("benchmarks", name) else plugins.parted(name)[0])
    module, _, function = seam.by.partition(":")
    check: Try = getattr(import_module(f"harness.checking.{module}"), function)  # some import torch
    yield from check(name, options, data)


def seam_of(name: str) -> Seam:
    """Whose contract a name or file has; UsageError where there is none of that name, or the file has no one class."""
    if not name.endswith(".py"):
        for seam in SEAMS:
            if name in plugins.names(seam.package) or borrowed.maker(seam.package, name):
                return seam
        raise plugins.unknown("plugin", name, [known for seam in SEAMS for known in plugins.installed(seam.package)])
    loaded = vars(plugins.module(SEAMS[0].package, name))
    own = [thing for thing in loaded.values() if isinstance(thing, type) and thing.__module__ == loaded["__name__"]]
    found = [seam for seam in SEAMS if any(issubclass(thing, seam.contract) for thing in own)]
    if len(found) != 1:
        known = ", ".join(seam.contract.__name__ for seam in found or SEAMS)
        raise UsageError(f"{name} has {'several of' if found else 'no class of'} {known}; a plugin defines one.")
    return found[0]
