"""What each figure shows of a run: from outcomes and stage facts to the numbers that `reports.figures` draws."""

import math
from collections.abc import Collection, Mapping, Sequence
from functools import partial

from harness.contracts.benchmark import Benchmark
from harness.contracts.row_names import BASELINE
from reports import figures
from reports.cards import KINDS, by_row, mean_of, roles
from reports.facts import RowFacts
from reports.findings import GROUPS, Findings
from reports.layouts import SOURCES
from reports.layouts import method as method_of
from reports.outcomes import Outcome, measure, withheld
from reports.statistics import mean

Draw = figures.Draw | None  # None: there is nothing to draw
NINE = [name for _, printed in GROUPS.values() for name in printed]
PEAKS = ("peak_device_gib", "peak_host_gib")


def cost(facts: Sequence[RowFacts]) -> Draw:
    """Figure 2: what every trained row took."""
    trained = {name: rows for name, rows in by_row(facts) if rows[0].made}
    seconds = {
        name: {kind: value for kind in KINDS if math.isfinite(value := mean_of(rows, (kind,), "seconds"))}
        for name, rows in trained.items()
    }
    memory = {}
    for name, rows in trained.items():
        peaks = [max((row.peak(("train",), peak) or 0.0 for row in rows), default=0.0) for peak in PEAKS]
        memory[name] = (next(filter(None, peaks), math.nan), roles(rows[0]))  # the device's where there is one
    return partial(figures.cost, seconds, memory) if any(seconds.values()) else None


def intervals(findings: Findings) -> Draw:
    """Differences to the baseline with their intervals, a panel per column."""
    panels: dict[str, figures.Panel] = {}
    for at, column in enumerate(findings.columns):
        title = f"{GROUPS[column.group][0]} total" if column.metric == "total" else column.label
        known = {
            row.label: figures.Interval(cell.delta, cell.low, cell.high, cell.resolved, cell.detectable)
            for row in findings.rows
            if row.method != BASELINE and math.isfinite((cell := row.cells[at]).delta)
        }
        if known:
            better = 0 if column.beside else -1 if column.lower else 1
            panels[title] = figures.Panel(known, better)
    return partial(figures.intervals, panels) if panels else None


def curves(facts: Sequence[RowFacts]) -> Draw:
    """Every row's training logs, those of its rounds one after another."""
    logs = {
        name: [log for row in rows if (log := [line for stage in row.of("train") for line in stage.log])]
        for name, rows in by_row(facts)
    }
    logs = {name: many for name, many in logs.items() if many}
    return partial(figures.curves, logs) if logs else None


def distribution(outcomes: Sequence[Outcome], benchmarks: Mapping[str, Benchmark]) -> Draw:
    """Figure 6: the judged benchmarks, unit by unit, all seeds together; in-domain ones alone if there are any.

    One of which a row's cell is withheld is left out and named: shares of the units that got a verdict are no figure.
    """
    judged = [name for name, benchmark in benchmarks.items() if benchmark.judged]
    wanted = [one for one in judged if one == "indomain"] or judged
    panels: dict[str, tuple[tuple[float, float], dict[str, list[float]]]] = {}
    without = unjudged(outcomes, {name: benchmarks[name] for name in wanted})
    for name in (name for name in wanted if name not in without):
        benchmark, scores = benchmarks[name], dict[str, list[float]]()
        metric = benchmark.metrics[0]
        for outcome in (o for o in outcomes if o.benchmark == name):
            values = [measure(benchmark, [unit])[metric.id] for unit in outcome.units]
            scores.setdefault(outcome.label, []).extend(values)
        if scores:
            panels[metric.label] = (benchmark.ends, scores)
    return partial(figures.distribution, panels, list(without.values())) if panels else None


def unjudged(outcomes: Sequence[Outcome], benchmarks: Mapping[str, Benchmark]) -> dict[str, str]:
    """Name -> label of the benchmarks of which some row's cell is withheld."""
    lost = {o.benchmark for o in outcomes if o.benchmark in benchmarks and withheld(benchmarks[o.benchmark], [o])}
    return {name: benchmark.label for name, benchmark in benchmarks.items() if name in lost}


def scaling(points: Sequence[tuple[int, str, Findings, Sequence[Outcome], Mapping[str, Benchmark]]]) -> Draw:
    """Figure 4 from (examples, data source, table, outcomes, benchmarks) of several runs."""
    panels: dict[str, dict[str, list[figures.Point]]] = {}
    average: dict[str, dict[str, float]] = {}
    largest = {data: max(n for n, other, *_ in points if other == data) for _, data, *_ in points}
    at_largest = [point for point in points if point[0] == largest[point[1]]]
    without = dict[str, str]()
    for *_, outcomes, benchmarks in at_largest:
        without |= unjudged(outcomes, {name: benchmarks[name] for name in NINE if name in benchmarks})
    for n, data, findings, *_ in points:
        where = f" ({SOURCES.get(data, data)})" if len(largest) > 1 else ""
        for at, column in enumerate(findings.columns):
            if column.metric == "total":
                lines = panels.setdefault(GROUPS[column.group][0] + where, {})
                for row in findings.rows:
                    cell = row.cells[at]
                    if row.method != BASELINE and math.isfinite(cell.delta):
                        lines.setdefault(row.label, []).append((n, cell.delta, cell.low, cell.high))
    for _, data, findings, outcomes, benchmarks in at_largest:
        means = {row.label: level(row.method, outcomes, benchmarks, without) for row in findings.rows}
        known = {name: value for name, value in means.items() if math.isfinite(value)}
        average.setdefault(SOURCES.get(data, data), {}).update(known)
    panels = {title: lines for title, lines in panels.items() if lines}
    average = {data: means for data, means in average.items() if means}
    return partial(figures.scaling, panels, average, list(without.values())) if panels else None


def level(
    method: str, outcomes: Sequence[Outcome], benchmarks: Mapping[str, Benchmark], without: Collection[str] = ()
) -> float:
    """Mean of the nine benchmarks, each from 0 (its worst end) to 100 (its best); NaN unless all are there.

    Those in `without` take no part. The rule is ours: the paper names none for its Figure 4d.
    """
    levels = []
    for name in (name for name in NINE if name not in without):
        mine = [o for o in outcomes if (o.method, o.benchmark) == (method, name)]
        if not mine or name not in benchmarks:
            return math.nan
        worst, best = benchmarks[name].ends
        values = [measure(benchmarks[name], outcome.units)[benchmarks[name].metrics[0].id] for outcome in mine]
        levels.append(100 * (mean(values) - worst) / (best - worst) if best != worst else math.nan)
    return mean(levels)


def lens(facts: Sequence[RowFacts]) -> Draw:
    """The negative-supervision lens of every row that has one; see `lens_of`."""
    rows = {name: lens_of(members) for name, members in by_row(facts)}
    rows = {name: known for name, known in rows.items() if known}
    kinds = list(dict.fromkeys(key for known in rows.values() for key in known if key.startswith("corrected/")))
    corrected = {
        kind.removeprefix("corrected/"): {name: known[kind] for name, known in rows.items() if kind in known}
        for kind in kinds
    }
    return partial(figures.lens, rows, corrected) if rows else None


def lens_of(members: Sequence[RowFacts]) -> dict[str, float]:
    """Mean log-probs of chosen and rejected before and after training, and log (t2 / t1), Eq. 10 and 13.

    From stages of kind "lens" where a run has them (numbers "before/chosen", ..., "log_t2_t1", "corrected/TYPE"), else
    from the training's own log: its first and last tenth of steps, on the pairs trained on. log t1 - log t2 is the
    reward margin over beta. Empty for a method without pairs.
    """
    measured = [stage.measured for row in members for stage in row.of("lens")]
    if measured:
        names = sorted({name for one in measured for name in one})
        return {name: mean([one[name] for one in measured if name in one]) for name in names}
    logs = [
        stage.log for row in members for stage in row.of("train") if any("logps/chosen" in line for line in stage.log)
    ]
    found: dict[str, list[float]] = {}
    for log in logs:
        tenth = max(1, len(log) // 10)
        for side in ("chosen", "rejected"):
            for when, lines in (("before", log[:tenth]), ("after", log[-tenth:])):
                values = [line[f"logps/{side}"] for line in lines if f"logps/{side}" in line]
                found.setdefault(f"{when}/{side}", []).append(mean(values))
        margins = [line["rewards/margins"] for line in log[-tenth:] if "rewards/margins" in line]
        beta = getattr(method_of(members[0].method, members[0].options), "beta", math.nan)
        found.setdefault("log_t2_t1", []).append(-mean(margins) / beta if beta else math.nan)
    return {name: mean(values) for name, values in found.items()}
