"""Items where a run got worse than the accepted one: what was asked, and what was said then and now."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.contracts.benchmark import Benchmark
from harness.contracts.row_names import BASELINE
from reports.items import Asked, moved, order
from reports.runs import Run, StoredCell

SHOWN = 3


@dataclass(frozen=True, slots=True)
class Lost:
    """One item of a unit whose score fell. `before` is "" where the accepted file keeps no responses."""

    row: str
    benchmark: str
    id: str
    prompt: str
    before: str
    after: str


def lost(accepted: Run, now: Run, rows: Sequence[str], names: Sequence[str], count: int = SHOWN) -> tuple[Lost, ...]:
    """The items that took most from the cells that lost most, of as many cells as there are; trained rows first."""
    benchmarks = now.benchmarks()
    found = [cell for row in rows for name in names for cell in _cells(accepted, now, row, name)]
    ranked = []
    for old, new in found:
        benchmark = benchmarks[new.benchmark]
        changed = moved(benchmark, new.outcome().units, old.outcome().units)
        worst, best = benchmark.metrics[0].scale
        fell = sorted((value, order(unit), unit) for unit, value in changed.items() if value < -1e-9)
        drop = sum(changed.values()) / abs(best - worst)
        ranked += [((new.row == BASELINE, at, drop), old, new, unit) for at, (*_, unit) in enumerate(fell[:count])]
    ranked.sort(key=lambda one: one[0])
    return tuple(item for _, old, new, unit in ranked[:count] for item in _item(benchmarks, old, new, unit))


def _cells(accepted: Run, now: Run, row: str, name: str) -> Iterator[tuple[StoredCell, StoredCell]]:
    """The first seed's cells that both have."""
    mine, theirs = (
        {cell.seed: cell for cell in run.cells if (cell.row, cell.benchmark) == (row, name) and cell.done}
        for run in (accepted, now)
    )
    if both := sorted(mine.keys() & theirs.keys()):
        yield mine[both[0]], theirs[both[0]]


def _item(benchmarks: dict[str, Benchmark], old: StoredCell, new: StoredCell, unit: str) -> Iterator[Lost]:
    """The item of a unit that was answered otherwise than before, or its first; nothing where it is not kept."""
    benchmark = benchmarks[new.benchmark]
    if not _kept(new):
        return
    here = Asked.of(benchmark, [new])
    said = here.responses.get(new.label, {})
    before = Asked.of(benchmark, [old]).responses.get(old.label, {}) if _kept(old) else {}
    names = sorted(here.of_unit(unit), key=lambda name: said.get(name) == before.get(name))
    for name in names[:1]:
        texts = here.items[name].prompt, before.get(name, ""), said.get(name, "")
        yield Lost(new.label, benchmark.label, name, *texts)


def _kept(cell: StoredCell) -> bool:
    """Whether its items and responses are there; an accepted file has units alone."""
    return all(
        (cell.store / stage / name).is_file()
        for stage, name in ((cell.items, "items.jsonl"), (cell.responses, "responses.jsonl"))
    )
