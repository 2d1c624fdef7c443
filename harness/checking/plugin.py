"""`harness check`: a method or a benchmark, by name or file."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.contracts import plugins
from harness.contracts.benchmark import Benchmark
from harness.contracts.method import Method


def check_plugin(name: str, options: Mapping[str, Any], data: Path | None = None) -> Iterator[str]:
    """Try a method or benchmark, by name or file; yields what was tried. UsageError for the first broken contract."""
    if is_benchmark(name):
        from harness.checking.benchmark import check_benchmark

        yield from check_benchmark(name, options, data)
    else:
        from harness.checking.method import check_method  # imports torch

        method: Method = plugins.make("methods", name, Method, dict(options))
        yield from check_method(plugins.stem(name), method, options)


def is_benchmark(name: str) -> bool:
    """Whether a name or file is a benchmark's."""
    if not name.endswith(".py"):
        return name in plugins.names("benchmarks") and name not in plugins.names("methods")
    loaded = vars(plugins.module("benchmarks", name))
    own = [thing for thing in loaded.values() if isinstance(thing, type) and thing.__module__ == loaded["__name__"]]
    return any(issubclass(thing, Benchmark) for thing in own)
