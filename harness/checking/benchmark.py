"""The half of `harness check` that tries a benchmark: items, scores of typical and odd responses, units, metrics."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np

from harness.checking.promises import asked, want
from harness.contracts import plugins
from harness.contracts.behind import behind
from harness.contracts.benchmark import Benchmark, Group, Metric, Unit, computed, totals
from harness.contracts.images import Places, StoreImages
from harness.contracts.judge import Ask, Judge
from harness.contracts.records import Item, Response, Score, Unscored
from harness.contracts.testbed_file import read_testbed
from harness.system.errors import UsageError
from harness.system.jsonl import dumps

RESPONSES = ("Yes, there is a red cup.", "", '\x00\x1b[2J\U0001f642 ]]>{"score": null}', "A. B. C. D. " * 200)
DRAWN = "llava150k"  # whose held-out examples are asked about
ITEMS = 20  # how many items' scores are tried


class FakeJudge:
    """Says in turn what judges say: a verdict, a number or two, a list, nonsense, nothing."""

    name = "fake"

    def __init__(self) -> None:
        words = ("incorrect", "[[1]]", "5", "correct", "Rating: 3, hallucination: no", "8 5", '["cup"]', "0.5")
        self.replies = (*words, "\x00?", "")
        self.asked = 0

    def reply(self, ask: Ask) -> str | Unscored:
        """The next reply; every eleventh question has none."""
        self.asked += 1
        at = self.asked % (len(self.replies) + 1)
        return self.replies[at] if at < len(self.replies) else Unscored(ask.id, "the fake judge says nothing")


def check_benchmark(name: str, options: Mapping[str, Any], data: Path | None) -> Iterator[str]:
    """A benchmark: its declarations, its items, scores, units and metrics.

    Items are those of `data`, of the folder beside an outside file, or of the embedded world.
    """
    here = plugins.stem(name)
    data = data or plugins.own_folder("benchmarks", name)
    benchmark = _made(name, options, drawn=data is None and not name.endswith(".py"))
    for what in ("label", "layout", "protocol"):
        want(isinstance(getattr(benchmark, what, None), str), here, what, "a text", benchmark)
    want(getattr(benchmark, "group", None) in get_args(Group), here, "group", " or ".join(get_args(Group)), benchmark)
    for what in ("max_new_tokens", "official_n"):
        want(type(getattr(benchmark, what, None)) is int, here, what, "a whole number", benchmark)
    metrics = getattr(benchmark, "metrics", ())
    right = isinstance(metrics, tuple) and metrics and all(isinstance(metric, Metric) for metric in metrics)
    want(bool(right), here, "metrics", "a tuple of Metric, the table's column first", benchmark)
    yield f"{here}: declares {len(metrics)} metrics"
    with TemporaryDirectory(prefix="harness-check-") as scratch:
        folder = data or _world(here, benchmark, Path(scratch) / "data")
        if folder is None:
            yield f"{here}: no items were tried; name a folder with its files: harness check {name} --data FOLDER"
            return
        store = Path(scratch) / "store"
        store.mkdir()
        images = StoreImages(Places(store), store, store)
        items = asked(here, "items", lambda: list(islice(benchmark.items(folder, images), 10_000)))
        _check_items(here, items)
        yield f"{here}: {len(items)} items with ids of their own"
        scored = list(_scores(here, benchmark, items[:ITEMS]))
        yield f"{here}: {len(scored)} scores of {len(RESPONSES) * min(ITEMS, len(items))} responses, the rest unscored"
        if scored:
            _check_metrics(here, benchmark, scored)
            yield f"{here}: metrics from sums, one by one and for arrays"


def drawn_items(name: str, scratch: Path) -> tuple[Benchmark, list[Item]]:
    """One of our benchmarks, and its items that the embedded world draws into a new folder; none if it draws none."""
    scratch.mkdir()
    benchmark = _made(name, {}, drawn=True)
    folder, images = _world(name, benchmark, scratch / "data"), StoreImages(Places(scratch), scratch, scratch)
    return benchmark, list(benchmark.items(folder, images)) if folder else []


def _made(name: str, options: Mapping[str, Any], drawn: bool) -> Benchmark:
    """A benchmark with these options; `drawn`: and those that the embedded world's files need."""
    own = read_testbed("mini").benchmarks.get(name, {}) if drawn else {}
    if plugins.plugin("benchmarks", name, Benchmark).heldout:
        own = {"source": DRAWN, **own}
    made: Benchmark = plugins.make("benchmarks", name, Benchmark, {**own, **options})
    return made


def _world(here: str, benchmark: Benchmark, folder: Path) -> Path | None:
    """The embedded world's files for a benchmark that it knows."""
    world = behind(read_testbed("mini").data)
    folder.mkdir()
    if benchmark.heldout:
        world.draw_source(DRAWN, "heldout", 0, 4, folder)
        return folder
    if here not in world.benchmarks or here not in plugins.installed("benchmarks"):
        return None
    world.draw_benchmark(here, "benchmark", 0, 4, folder)
    return folder


def _check_items(here: str, items: Sequence[object]) -> None:
    seen: set[str] = set()
    for item in items:
        if not isinstance(item, Item):
            raise UsageError(f"{here}.items gives a {type(item).__name__}; wanted: an Item per question.")
        if item.id in seen:
            raise UsageError(f"{here}.items gives the id {item.id!r} twice; wanted: an id of its own for every item.")
        seen.add(item.id)
        if not isinstance(item.prompt, str) or not item.prompt.strip():
            raise UsageError(f"{here}.items gives item {item.id!r} without a prompt.")
        asked(here, f"item {item.id} that is not plain data", lambda item=item: dumps(item))  # type: ignore[misc]
    if not items:
        raise UsageError(f"{here}.items gives no items.")


def _scores(here: str, benchmark: Benchmark, items: Sequence[Item]) -> Iterator[tuple[Item, Score]]:
    """Scores of typical, empty and odd responses; each item's first."""
    judge: Judge | None = FakeJudge() if benchmark.judged else None
    for item in items:
        for text in RESPONSES:
            said = Response(item.id, text, len(text.split()))
            got = asked(here, "score", lambda item=item, said=said: benchmark.score(item, said, judge))  # type: ignore[misc]
            if not isinstance(got, Score | Unscored):
                raise UsageError(
                    f"{here}.score gives a {type(got).__name__} for the response {text[:30]!r}; wanted: a Score or "
                    "Unscored."
                )
            if got.id != item.id:
                raise UsageError(f"{here}.score gives the id {got.id!r} for item {item.id!r}.")
            if isinstance(got, Unscored):
                continue
            for part, value in got.parts.items():
                if not isinstance(value, int | float) or not math.isfinite(value):
                    raise UsageError(f"{here}.score gives the part {part!r} = {value!r}; wanted: a finite number.")
            yield item, got


def _check_metrics(here: str, benchmark: Benchmark, scored: Sequence[tuple[Item, Score]]) -> None:
    first = list({item.id: (item, score) for item, score in scored}.values())
    units = asked(here, "units", lambda: benchmark.units(first))
    if not isinstance(units, list) or not all(isinstance(unit, Unit) for unit in units) or not units:
        raise UsageError(f"{here}.units gives {type(units).__name__} of other things than Units, or none.")
    sums = totals(units)
    values = asked(here, "compute", lambda: computed(benchmark, sums))
    arrays = asked(
        here,
        "compute on arrays",
        lambda: benchmark.compute({name: np.array([value, value]) for name, value in sums.items()}),
    )
    alone = {metric.id for metric in benchmark.metrics if metric.whole}
    lacking = [metric.id for metric in benchmark.metrics if metric.id not in values]
    if lacking:
        raise UsageError(f"{here}.compute gives no {', '.join(lacking)}, which metrics declares.")
    for name, value in values.items():
        both = np.broadcast_to(np.asarray(arrays.get(name, math.nan), dtype=float), (2,))
        if not np.allclose(both, math.nan if name in alone else float(value), equal_nan=True):
            raise UsageError(f"{here}.compute gives {name} = {value} for sums and {both.tolist()} for arrays of them.")
