"""The comparison table from outcomes: differences to the baseline, intervals, totals, and what must be said.

Nothing in it depends on the order in which the outcomes come.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.contracts.benchmark import Benchmark, Group
from harness.contracts.row_names import BASELINE, CONTROLS
from reports.cautions import cautions
from reports.estimates import Estimate, estimate
from reports.findings import GROUPS, Cell, Column, Findings, Row, Setting
from reports.legend import MARKED, Detail
from reports.manifest import Failed
from reports.outcomes import MAX_UNSCORED, Outcome, withheld
from reports.statistics import FEW, LEAST, LEVEL, REPLICATES, holm, interval, mean, shown
from reports.totals import RULE, RULE_IN_WORDS, total, what_changes

# CHAIR falls when a model says less, so what shows it stands beside it, always: prefixes of metric ids and headings.
BESIDE = {"chair": {"chair/recall": "recall", "chair/words": "words"}}


def build(
    outcomes: Sequence[Outcome],
    benchmarks: Mapping[str, Benchmark],
    methods: Sequence[str],
    setting: Setting,
    replicates: int = REPLICATES,
    failed: Sequence[Failed] = (),
) -> Findings:
    """The table of `outcomes`: the baseline's row first, then `methods` in the order given.

    `benchmarks` are those of the comparison by file name; outcomes of other methods and benchmarks are left out. Holm's
    family is every difference shown, totals aside. Where nothing of a cell was scored because it `failed`, it says so.
    """
    order = [BASELINE, *(method for method in methods if method != BASELINE)]
    held = _by_cell([o for o in outcomes if o.method in order and o.benchmark in benchmarks])
    found = {
        name: estimate(
            benchmark,
            [o for (_, of), cell in held.items() if of == name and not withheld(benchmark, cell) for o in cell],
            tuple(BESIDE.get(name, ())),
            replicates,
        )
        for name, benchmark in benchmarks.items()
    }
    columns = tuple(columns_of(benchmarks, found))
    places = [(method, column) for method in order for column in columns if column.metric != "total"]
    estimates = {(m, c): found[c.benchmark][m][c.metric] for m, c in places if m in found[c.benchmark]}
    tested = {at: e.p for at, e in estimates.items() if at[0] not in CONTROLS and not math.isnan(e.p)}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    measured = _Measured(benchmarks, held, found, columns, estimates, adjusted, failed)
    rows = [measured.row(method) for method in order] if held else []
    notes = (
        *failures(failed, {row.method: row.label for row in rows}, benchmarks),
        *_notes(setting, columns, rows, held, benchmarks, list(estimates.values()), len(tested)),
        *cautions(columns, rows, found, len(tested), setting),
    )
    return Findings(setting, columns, tuple(rows), notes)


@dataclass(frozen=True)
class _Measured:
    """What rows are made of: outcomes by cell, estimates by benchmark and by place, Holm's p by place."""

    benchmarks: Mapping[str, Benchmark]
    held: Mapping[tuple[str, str], Sequence[Outcome]]
    found: Mapping[str, Mapping[str, Mapping[str, Estimate]]]
    columns: Sequence[Column]
    estimates: Mapping[tuple[str, Column], Estimate]
    adjusted: Mapping[tuple[str, Column], float]
    failed: Sequence[Failed]

    def row(self, method: str) -> Row:
        """One method's cells, column by column."""
        mine = sorted((o for (of, _), cell in self.held.items() if of == method for o in cell), key=lambda o: o.seed)
        theirs = [one for one in self.failed if one.row == method]
        lost = {one.benchmark: one.why for one in theirs if (method, one.benchmark) not in self.held}
        label = min((o.label for o in mine), default=next((one.label for one in theirs), method))
        cells = tuple(self._cell(method, column, lost) for column in self.columns)
        return Row(method, label, len({o.seed for o in mine}), cells)

    def _cell(self, method: str, column: Column, lost: Mapping[str, str]) -> Cell:
        if column.metric == "total":
            missing = [lost[name] for name in GROUPS[column.group][1] if name in lost]
            return replace(_total(column.group, method, self.benchmarks, self.found), failed=(*missing, "")[0])
        if column.benchmark in lost:
            return Cell(failed=lost[column.benchmark])
        benchmark, at = self.benchmarks[column.benchmark], (method, column)
        known, p_holm = self.held.get((method, column.benchmark), ()), self.adjusted.get(at, math.nan)
        level = LEVEL / max(len(self.adjusted), 1)
        return cell_of(self.estimates.get(at), p_holm, known, withheld(benchmark, known), benchmark.judged, level)


def failures(failed: Sequence[Failed], labels: Mapping[str, str], benchmarks: Mapping[str, Benchmark]) -> Iterator[str]:
    """One sentence per reason: which rows or cells it took."""
    for why in dict.fromkeys(one.why for one in failed):
        mine = [one for one in failed if one.why == why]
        yield f"FAILED: {'; '.join(_taken(mine, labels, benchmarks))}: {why}"


def _taken(failed: Sequence[Failed], labels: Mapping[str, str], benchmarks: Mapping[str, Benchmark]) -> Iterator[str]:
    """The rows that failed on every benchmark by their names, of others the cells."""
    seeds = {one.seed for one in failed}
    for row in dict.fromkeys(one.row for one in failed):
        names = dict.fromkeys(one.benchmark for one in failed if one.row == row)
        whole = names.keys() >= benchmarks.keys()
        of = ", ".join(benchmarks[name].label if name in benchmarks else name for name in names)
        label = labels.get(row, row)
        yield (label if whole else f"{label}, {of}") + (
            f" (seed {', '.join(map(str, sorted(seeds)))})" if seeds != {0} else ""
        )


def _by_cell(outcomes: Sequence[Outcome]) -> dict[tuple[str, str], tuple[Outcome, ...]]:
    """(method, benchmark) -> its outcomes, one per seed."""
    ordered = sorted(outcomes, key=lambda o: (o.method, o.benchmark, o.seed))
    names = dict.fromkeys((o.method, o.benchmark) for o in ordered)
    return {name: tuple(o for o in ordered if (o.method, o.benchmark) == name) for name in names}


def columns_of(
    benchmarks: Mapping[str, Benchmark], found: Mapping[str, Mapping[str, Mapping[str, Estimate]]]
) -> Iterator[Column]:
    """The paper's order, other benchmarks after it; a total only where the paper's three are all there."""
    for group, (_, printed) in GROUPS.items():
        others = sorted(name for name, b in benchmarks.items() if b.group == group and name not in printed)
        for name in (*(n for n in printed if n in benchmarks), *others):
            metric = benchmarks[name].metrics[0]
            yield Column(group, name, metric.id, benchmarks[name].label, metric.digits, not metric.higher_is_better)
            computed = dict.fromkeys(of for estimates in found[name].values() for of in estimates)
            for prefix, heading in BESIDE.get(name, {}).items():
                yield from (
                    Column(group, name, of, heading, 1, beside=True) for of in computed if of.startswith(prefix)
                )
        if all(name in benchmarks for name in printed):
            yield Column(group, "total", "total", "total", 1)


def cell_of(
    found: Estimate | None, p_holm: float, outcomes: Sequence[Outcome], reason: str, judged: bool, level: float
) -> Cell:
    """A cell by its estimate and corrected p; without a number where there is none, or where it is withheld."""
    unscored = sum(o.unscored for o in outcomes)
    if not found or reason:
        return Cell(unscored=unscored, withheld=reason)
    coverage = min(o.coverage for o in outcomes) if judged else math.nan
    low, high = shown(found.low, found.high)
    least = found.detectable(level)
    return Cell(found.value, found.delta, low, high, p_holm, found.n, unscored, coverage=coverage, detectable=least)


def _total(
    group: Group,
    method: str,
    benchmarks: Mapping[str, Benchmark],
    found: Mapping[str, Mapping[str, Mapping[str, Estimate]]],
) -> Cell:
    """The group's total with its interval: the rule on each seed's differences and on the bootstrap replicates.

    Benchmarks over the same images were resampled together, others independently.
    """
    terms = {name: found[name].get(method, {}).get(benchmarks[name].metrics[0].id) for name in RULE[group]}
    known = {name: term for name, term in terms.items() if term and term.deltas}
    seeds = {tuple(term.deltas) for term in known.values()}
    if len(known) < len(terms) or len(seeds) != 1:
        return Cell()
    deltas = [total(group, {name: term.deltas[seed] for name, term in known.items()}) for seed in seeds.pop()]
    low, high = shown(*interval(deltas, np.asarray(total(group, {name: term.draws for name, term in known.items()}))))
    return Cell(delta=mean(deltas), low=low, high=high, n=min(term.n for term in known.values()))


def _differences(columns: Sequence[Column], rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Label -> benchmark -> difference to the baseline, by the benchmarks' first metrics."""
    first = {column.benchmark: at for at, column in reversed(list(enumerate(columns))) if column.metric != "total"}
    found = {row.label: {name: row.cells[at].delta for name, at in first.items()} for row in rows}
    return {label: {n: d for n, d in known.items() if not math.isnan(d)} for label, known in found.items()}


def _notes(
    setting: Setting,
    columns: Sequence[Column],
    rows: Sequence[Row],
    held: Mapping[tuple[str, str], Sequence[Outcome]],
    benchmarks: Mapping[str, Benchmark],
    estimates: Sequence[Estimate],
    tests: int,
) -> Iterator[str]:
    """What must stand beside the numbers for them to be read rightly."""
    yield f"testbed: {setting.testbed_in_words}; protocol: {setting.protocol}"
    seeds = sorted({o.seed for cell in held.values() for o in cell})
    yield from _seeds(setting, rows, seeds)
    names = list(dict.fromkeys(column.benchmark for column in columns if column.metric != "total"))
    sizes = {
        name: max((len(o.units) + o.unscored for (_, of), cell in held.items() if of == name for o in cell), default=0)
        for name in names
    }
    yield Detail("units: " + ", ".join(f"{benchmarks[name].label} {size:,}" for name, size in sizes.items()))
    yield from few_images({name: benchmarks[name] for name in names if not benchmarks[name].metrics[0].whole}, held)
    if whole := [benchmarks[name].label for name in names if benchmarks[name].metrics[0].whole]:
        yield f"no interval and no test: {', '.join(whole)}, one figure of a whole set that no sum of items gives"
    if any(e.low == e.high for e in estimates):
        yield "no interval where nothing varied between the images: to resample them tells nothing"
    yield Detail("second figure: difference to the baseline on the same units; [95 % interval], images resampled")
    yield Detail(
        f"{MARKED}: Holm-adjusted p < {LEVEL:g} over {tests} comparisons (sign-flip by image"
        f"{', with variation between seeds' if len(seeds) > 1 else ''}); no mark: not resolved. Totals are not tested"
    )
    if any(column.metric == "total" for column in columns):
        yield Detail(RULE_IN_WORDS)
        changed = what_changes(_differences(columns, rows))
        yield from [changed if "the best would be" in changed else Detail(changed)] if changed else []
    if "chair" in names:
        yield Detail("CHAIR falls when captions mention less: read it with its recall and length")
    for row in rows:
        for name, size in sizes.items():
            cell = row.cells[next(place for place, column in enumerate(columns) if column.benchmark == name)]
            if not math.isnan(cell.delta) and cell.n < size:
                yield f"compared on the {cell.n:,} units scored in both: {row.label}, {benchmarks[name].label}"
    if any(not math.isnan(cell.coverage) for row in rows for cell in row.cells):
        yield Detail("in brackets behind a value: the share of the units that have the judge's verdict")
    yield from _judges(held, {row.method: row.label for row in rows}, benchmarks)
    yield from _repeats(rows, held, benchmarks)
    if any(cell.withheld for row in rows for cell in row.cells):
        yield Detail(
            f"n/a: more than {MAX_UNSCORED:.0%} of the units have no verdict (in brackets: the share that has one)"
        )


def _seeds(setting: Setting, rows: Sequence[Row], seeds: Sequence[int]) -> Iterator[str]:
    """What intervals hold with these seeds, and which rows have fewer."""
    if len(seeds) > 1:
        yield f"{len(seeds)} seeds ({', '.join(map(str, seeds))}): intervals hold images and {varied(setting, seeds)}"
    else:
        yield Detail("1 seed: does not include variation between base models")
    for row in rows:
        if row.seeds < len(seeds) and not row.failed:
            yield f"only {row.seeds} of the {len(seeds)} seeds: {row.label}"


def varied(setting: Setting, seeds: Sequence[int]) -> str:
    """What differs from seed to seed, and what therefore is not in an interval."""
    bases = setting.bases(seeds)
    if bases == len(seeds):
        return "seeds (base model, data)"
    of = "one base model" if bases == 1 else f"{bases} base models"
    return f"draws of the data with {of}: they say nothing of base models in general"


def few_images(benchmarks: Mapping[str, Benchmark], held: Mapping[tuple[str, str], Sequence[Outcome]]) -> Iterator[str]:
    """Which benchmarks have too few images for an interval, or few enough to doubt it."""
    least = {
        name: min((o.images for (_, of), cell in held.items() if of == name for o in cell if o.units), default=FEW)
        for name in benchmarks
    }
    too_few = [f"{benchmarks[name].label} {count}" for name, count in least.items() if count < LEAST]
    few = [f"{benchmarks[name].label} {count}" for name, count in least.items() if LEAST <= count < FEW]
    if too_few:
        yield f"no interval and no test below {LEAST} images, where one of 95 % does not hold: {', '.join(too_few)}"
    if few:
        yield f"fewer than {FEW} images, so 95 % intervals are rough (9 in 10 hold): {', '.join(few)}"


def _judges(
    held: Mapping[tuple[str, str], Sequence[Outcome]], labels: Mapping[str, str], benchmarks: Mapping[str, Benchmark]
) -> Iterator[str]:
    """Which model judged and at which host; verdicts of a server asked before are kept, and another's are others."""
    for name, benchmark in benchmarks.items():
        rows = {labels[row]: sorted({o.judged_by for o in cell}) for (row, of), cell in held.items() if of == name}
        judges = sorted({judge for mine in rows.values() for judge in mine if judge})
        if len(judges) == 1:
            yield f"{benchmark.label} judged by {judges[0]}"
        elif judges:
            told = (f"{label}: {' and '.join(filter(None, mine)) or 'not known'}" for label, mine in rows.items())
            yield f"NOT THE SAME JUDGE for {benchmark.label}, so its differences are no method's: {'; '.join(told)}"


def _repeats(
    rows: Sequence[Row], held: Mapping[tuple[str, str], Sequence[Outcome]], benchmarks: Mapping[str, Benchmark]
) -> Iterator[str]:
    """How far a judge's repeats of the same questions lie apart."""
    for name, benchmark in benchmarks.items():
        metric = benchmark.metrics[0]
        mine = {row.label: held.get((row.method, name), ()) for row in rows}
        spreads = {label: max((o.spread(metric.id) for o in cell), default=math.nan) for label, cell in mine.items()}
        told = [f"{sd:.{metric.digits + 1}f} ({label})" for label, sd in spreads.items() if not math.isnan(sd)]
        if told:
            runs = max(len(o.runs.get(metric.id, ())) for cell in mine.values() for o in cell)
            yield f"{benchmark.label}: mean of {runs} runs of the judge; sd between them {', '.join(told)}"
