"""Two rows, or two runs row by row: what differs in their scores on the items that are the same in both.

The rules are those of the comparison's table: paired on the same units, images resampled, Holm's correction over every
difference shown, the same cautions. What cannot be compared says why, and has no number.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.contracts.benchmark import Benchmark
from harness.contracts.records import Item
from harness.contracts.row_names import BASELINE, CONTROLS
from harness.system.errors import UsageError
from harness.system.jsonl import dumps, read_jsonl
from reports.cautions import cautions
from reports.estimates import Estimate, estimate
from reports.findings import Cell, Column, Findings, Row, Setting
from reports.items import moved, order
from reports.legend import MARKED
from reports.outcomes import Outcome, withheld
from reports.runs import Run, StoredCell
from reports.statistics import LEVEL, holm
from reports.tabulate import BESIDE, cell_of, columns_of, few_images, varied

AFTER = "after"  # what the second row is to `estimate`; the first is its baseline


@dataclass(frozen=True, slots=True)
class Side:
    """One row of one run."""

    run: Run
    row: str

    def cells(self, benchmark: str) -> dict[int, StoredCell]:
        """Its scored cells by seed."""
        return {c.seed: c for c in self.run.cells if (c.row, c.benchmark) == (self.row, benchmark) and c.done}


@dataclass(frozen=True, slots=True)
class Paired:
    """One benchmark of two rows on what both scored; `why` it cannot be compared, `note` what must be said if it is.

    `before` and `after` have one outcome per seed, on the same units; `whole` are both rows' outcomes as they are.
    """

    before: Sequence[Outcome] = ()
    after: Sequence[Outcome] = ()
    whole: Sequence[Outcome] = ()
    why: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Moved:
    """The units that came out better and worse, in an order that has nothing to do with what they are.

    `right` says that nothing in it is ever partly so, so that better is right and worse is wrong.
    """

    better: tuple[str, ...]
    worse: tuple[str, ...]
    right: bool


@dataclass(frozen=True)
class Changes:
    """`findings` have a row per pair: values of the second, differences second - first. The rest is by (row, metric or
    benchmark): the first's value, what moved, why there is no number.
    """

    findings: Findings
    before: Mapping[tuple[str, str], float]
    moved: Mapping[tuple[str, str], Moved]
    why: Mapping[tuple[str, str], str]


@dataclass
class _Found:
    """What is gathered over pairs and benchmarks."""

    estimates: dict[str, dict[str, dict[str, Estimate]]]
    pairs: dict[tuple[str, str], Paired] = field(default_factory=dict)
    before: dict[tuple[str, str], float] = field(default_factory=dict)
    moved: dict[tuple[str, str], Moved] = field(default_factory=dict)
    why: dict[tuple[str, str], str] = field(default_factory=dict)


def changes(pairs: Mapping[str, tuple[Side, Side]]) -> Changes:
    """What differs between the first and the second of each pair, which has a label."""
    one, other = next(iter(pairs.values()))
    known = other.run.benchmarks()
    benchmarks = {name: benchmark for name, benchmark in one.run.benchmarks().items() if name in known}
    found = _Found({name: {} for name in benchmarks})
    for label, sides in pairs.items():
        for name, benchmark in benchmarks.items():
            _compare(found, label, name, benchmark, paired(*sides, name, benchmark))
    columns = [c for c in columns_of(benchmarks, found.estimates) if c.metric != "total"]
    tested = {
        (label, column): e.p
        for label, (first, second) in pairs.items()
        for column in columns
        if not {first.row, second.row} & {*CONTROLS}
        if (e := found.estimates[column.benchmark].get(label, {}).get(column.metric)) and e.p == e.p
    }
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    rows = [_row(found, label, benchmarks, columns, adjusted) for label in pairs]
    models = {
        seed: dumps([model, other.run.setting.models.get(seed)]) for seed, model in one.run.setting.models.items()
    }
    setting = replace(one.run.setting, models=models)
    notes = (
        *_notes(found, benchmarks, len(tested), setting),
        *cautions(columns, rows, found.estimates, len(tested), setting),
    )
    return Changes(Findings(setting, tuple(columns), tuple(rows), notes), found.before, found.moved, found.why)


def paired(one: Side, other: Side, name: str, benchmark: Benchmark) -> Paired:
    """One benchmark of two rows, on the seeds and the units that are the same in both."""
    if why := _unlike(one.run, other.run, name):
        return Paired(why=why)
    mine, theirs = one.cells(name), other.cells(name)
    seeds = sorted(mine.keys() & theirs.keys())
    if not seeds:
        return Paired(why="no seed was scored in both")
    if all(mine[seed].score == theirs[seed].score for seed in seeds):
        return Paired(why="the very same scores in both")
    before, after, whole, asked = list[Outcome](), list[Outcome](), list[Outcome](), set[int]()
    for seed in seeds:
        old, new = mine[seed].outcome(), theirs[seed].outcome()
        if old.judged_by != new.judged_by:
            return Paired(why=f"NOT THE SAME JUDGE: {old.judged_by or 'not known'} and {new.judged_by or 'not known'}")
        try:
            ids = _shared(mine[seed], theirs[seed], old, new)
        except UsageError as error:
            return Paired(why=f"whether its items are the same is not known: {error}")
        whole += [old, new]
        asked |= {len(o.units) + o.unscored for o in (old, new)}
        before.append(replace(old, method=BASELINE, units=[unit for unit in old.units if unit.id in ids]))
        after.append(replace(new, method=AFTER, units=[unit for unit in new.units if unit.id in ids]))
    least = min(len(outcome.units) for outcome in before)
    if not least:
        return Paired(why="no item is the same in both")
    if why := withheld(benchmark, whole):
        return Paired(why=why)
    said = (
        [f"on {least:,} of {max(asked):,} units, which are the same and scored in both"] if least < max(asked) else []
    )
    if mine.keys() != theirs.keys():
        said.append(f"with the seeds that both have: {', '.join(map(str, seeds))}")
    return Paired(before, after, whole, note=" and ".join(said))


def _unlike(one: Run, other: Run, name: str) -> str:
    """Why two runs' figures of one benchmark would be no difference between rows; empty where they are."""
    mine, theirs = (
        {
            "protocol": run.manifest.protocol,
            "synthetic": run.manifest.synthetic,
            "its options": run.manifest.benchmarks.get(name),
            "judges": run.manifest.judges.get(name),
        }
        for run in (one, other)
    )
    return next((f"{what} differ" for what, value in mine.items() if value != theirs[what]), "")


def _shared(one: StoredCell, other: StoredCell, old: Outcome, new: Outcome) -> set[str]:
    """The ids of the units that both scored and whose items are the same: id, question, picture and facts."""
    images = {unit.id: unit.cluster for unit in old.units}
    ids = {unit.id for unit in new.units if images.get(unit.id) == unit.cluster}
    if one.items == other.items:
        return ids
    mine, theirs = _items(one), _items(other)
    return {name for name in ids if mine.get(name) == theirs.get(name) and name in mine}


def _items(cell: StoredCell) -> dict[str, list[str]]:
    """Unit id -> its items, without where their pictures lie today."""
    found: dict[str, list[str]] = {}
    for item in read_jsonl(Item, cell.file(cell.items, "items.jsonl")):
        image = item.image.key if item.image else ""
        found.setdefault(item.unit, []).append(dumps([item.id, image, item.prompt, item.facts]))
    return {unit: sorted(items) for unit, items in found.items()}


def _compare(found: _Found, label: str, name: str, benchmark: Benchmark, pair: Paired) -> None:
    """One benchmark of one pair, into what is found."""
    if pair.why:
        found.why[label, name] = pair.why
        return
    found.pairs[label, name] = pair
    both = estimate(benchmark, [*pair.before, *pair.after], tuple(BESIDE.get(name, ())))
    found.estimates[name][label] = both[AFTER]
    found.before |= {(label, metric): e.value for metric, e in both[BASELINE].items()}
    better, worse = list[str](), list[str]()
    for old, new in zip(pair.before, pair.after, strict=True):
        which = f" (seed {new.seed})" if len(pair.after) > 1 else ""
        for unit, change in sorted(moved(benchmark, new.units, old.units).items(), key=lambda one: order(one[0])):
            if abs(change) > 1e-9:
                (better if change > 0 else worse).append(unit + which)
    parts = {part for outcome in (*pair.before, *pair.after) for unit in outcome.units for part in unit.parts.values()}
    found.moved[label, name] = Moved(tuple(better), tuple(worse), parts <= {0, 1})


def _row(
    found: _Found,
    label: str,
    benchmarks: Mapping[str, Benchmark],
    columns: Sequence[Column],
    adjusted: Mapping[tuple[str, Column], float],
) -> Row:
    cells = []
    for column in columns:
        e = found.estimates[column.benchmark].get(label, {}).get(column.metric)
        if e is None:
            cells.append(Cell())
            continue
        pair, judged = found.pairs[label, column.benchmark], benchmarks[column.benchmark].judged
        p, level = adjusted.get((label, column), float("nan")), LEVEL / max(len(adjusted), 1)
        cells.append(cell_of(e, p, pair.whole, "", judged, level))
    seeds = max((len(pair.after) for (of, _), pair in found.pairs.items() if of == label), default=0)
    return Row(label, label, seeds, tuple(cells))


def _notes(found: _Found, benchmarks: Mapping[str, Benchmark], tests: int, setting: Setting) -> Iterator[str]:
    """How to read the numbers, and what is compared on less than was scored."""
    seeds = sorted({outcome.seed for pair in found.pairs.values() for outcome in pair.after})
    if len(seeds) > 1:
        yield f"{len(seeds)} seeds ({', '.join(map(str, seeds))}): intervals hold images and {varied(setting, seeds)}"
    yield "B - A on the same units; [95 % interval], images resampled"
    yield (
        f"{MARKED}: Holm-adjusted p < {LEVEL:g} over {tests} comparisons (sign-flip by image"
        f"{', with variation between seeds' if len(seeds) > 1 else ''}); no mark: not resolved"
    )
    held = {at: (*pair.before, *pair.after) for at, pair in found.pairs.items()}
    yield from few_images({name: b for name, b in benchmarks.items() if found.estimates[name]}, held)
    every = [e for rows in found.estimates.values() for metrics in rows.values() for e in metrics.values()]
    if any(e.low == e.high for e in every):
        yield "no interval where nothing varied between the images: to resample them tells nothing"
    told: dict[tuple[str, str], list[str]] = {}
    for (label, name), pair in found.pairs.items():
        told.setdefault((pair.note, benchmarks[name].label), []).append(label)
    yield from (f"{of} is compared {note}: {', '.join(labels)}" for (note, of), labels in told.items() if note)
    if "chair" in benchmarks and found.estimates["chair"]:
        yield "CHAIR falls when captions mention less: read it with its recall and length"
