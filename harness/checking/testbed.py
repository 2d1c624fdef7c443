"""The part of `harness check` that tries a kind of testbed: what it draws, twice, and whether that can be read."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness.checking.promises import asked
from harness.contracts import plugins
from harness.contracts.behind import TESTBEDS, behind
from harness.contracts.benchmark import Benchmark
from harness.contracts.images import Places, StoreImages
from harness.contracts.judge_kind import JudgeKind
from harness.contracts.records import Dropped, Example, Item
from harness.contracts.source import declared
from harness.contracts.testbed_file import read_testbed
from harness.contracts.testbed_kind import TestbedKind
from harness.store.contents import listing
from harness.system.errors import UsageError

FEW = 4  # examples, or scenes


def check_testbed(name: str, options: Mapping[str, Any], data: Path | None) -> Iterator[str]:
    """A kind of testbed: every source and benchmark that it draws, its words for judges; no model is trained.

    `options` are its benchmarks', by their names (`--option "mme.subtasks=[existence]"`), beside those of the
    testbed that has its name.
    """
    here, given = plugins.stem(name), dict(options)
    if plugins.outside(TESTBEDS, name):
        bed = behind(name)
    else:
        kind = plugins.plugin(TESTBEDS, name, TestbedKind)
        bed = kind(str(data or kind.word), plugins.source(TESTBEDS, name))
        given = ({} if bed.home else read_testbed(name).benchmarks) | given
    if strange := next((each for each in options if each not in bed.benchmarks), ""):
        raise plugins.unknown(f"benchmark of {here}", strange, list(bed.benchmarks))
    if bed.home or not (bed.sources or bed.benchmarks):
        yield f"{here}: draws nothing; `harness doctor --testbed FILE` looks at the files of a testbed"
        return
    with TemporaryDirectory(prefix="harness-check-") as scratch:
        for each in bed.sources:
            out = _drawn_twice(here, each, Path(scratch), partial(bed.draw_source, each, "alignment", 0, FEW))
            count = len(asked(here, each, partial(_examples, each, out)))
            if count != FEW:
                raise UsageError(f"{here}.draw_source gives {count} examples of {each}; {FEW} were asked for.")
            yield f"{here}: draws {each}, the same twice, and it can be read"
        for each in bed.benchmarks:
            out = _drawn_twice(here, each, Path(scratch), partial(bed.draw_benchmark, each, "benchmark", 0, FEW))
            if not asked(here, each, partial(_items, each, given.get(each, {}), out)):
                raise UsageError(f"{here}.draw_benchmark gives files of {each} without a question.")
            yield f"{here}: draws {each}, the same twice, and it has questions"
    for word in bed.judges:
        if not issubclass(asked(here, "judge", partial(bed.judge, word)), JudgeKind):
            raise UsageError(f"{here}.judge gives no JudgeKind for {word!r}.")
        yield f"{here}: has the judge {word}"
    yield f"{here}: not tried: bars, and base models of its own"


def _drawn_twice(here: str, name: str, scratch: Path, draw: Callable[[Path], None]) -> Path:
    """What is drawn into a new folder; UsageError where it is not the same again."""
    folders = [scratch / name, scratch / f"{name} again"]
    for folder in folders:
        folder.mkdir()
        asked(here, f"drawing {name}", partial(draw, folder))
    if len({listing(folder) for folder in folders}) != 1:
        raise UsageError(f"{here} draws {name} differently the second time; wanted: the same bytes.")
    return folders[0]


def _examples(source: str, folder: Path) -> list[Example | Dropped]:
    return list(declared(source)(folder).load())


def _items(name: str, options: dict[str, Any], folder: Path) -> list[Item]:
    made: Benchmark = plugins.make("benchmarks", name, Benchmark, options)
    return list(made.items(folder, StoreImages(Places(folder), folder, folder)))
