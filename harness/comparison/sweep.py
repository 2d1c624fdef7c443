"""Chooses each method's learning rate: the same rates, on the tuning split and tuning images, by one rule for all.

The rule: the rate whose three totals (the paper's rule) have the largest sum, averaged over the seeds. Tuning shares
no scene with what a comparison trains on or scores.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import yaml

from harness.comparison.bill import check_access
from harness.comparison.compare import prepare
from harness.comparison.worker import Bodies
from harness.contracts.benchmark import benchmark_of
from harness.contracts.executor import Watcher
from harness.contracts.schedule import execute, insist, pending
from harness.contracts.settings import Runtime, Testbed
from harness.contracts.steps import Request
from harness.stages.score import Score
from harness.store.store import Store
from harness.system.errors import HarnessError
from reports.outcomes import measure, read_units
from reports.totals import RULE, total

FIRST_SEED = 1000
ROUNDING = 1e-9  # of sums of scores
Values = dict[tuple[str, int, str], float]  # (row, seed, benchmark) -> its first metric


@dataclass(frozen=True)
class Chosen:
    """The rates and how they were found, as text for a testbed file."""

    rates: dict[str, float]
    text: str


def choose(
    request: Request, testbed: Testbed, runtime: Runtime, store: Store, rates: Sequence[float], watcher: Watcher
) -> Chosen:
    """Train and score every method at every rate; resumable like any comparison.

    HarnessError, before anything runs, where a judge or writer that will be asked cannot be (`check_access`).
    """
    specs = tuple(
        spec.model_copy(update={"training": spec.training | {"learning_rate": rate}, "row": f"{spec.stem}@{rate:g}"})
        for spec in request.methods
        for rate in rates
    )
    tuning = replace(request, methods=specs, first_seed=FIRST_SEED, tuning=True)
    value: Values = {}
    with store.used():
        planned = prepare(tuning, testbed, runtime, store)
        todo = pending([planned.report], store, planned.steps)
        check_access(planned, todo, store, runtime)
        insist(execute(todo, Bodies(str(store.root), testbed, tuning, runtime), store, runtime, watcher))
        for cell in planned.cells:
            benchmark = benchmark_of(Score.of(cell.score))
            units, _ = read_units(store.sound(cell.score.stage.name) / "units.json")
            value[cell.row, cell.seed, cell.benchmark] = measure(benchmark, units)[benchmark.metrics[0].id]
    seeds = sorted({cell.seed for cell in planned.cells})
    lines = [f"# tuning split, seeds {seeds}, {testbed.name}{' (synthetic)' if testbed.synthetic else ''}"]
    rated: dict[str, float] = {}
    for spec in request.methods:
        gains = {rate: gain(value, f"{spec.stem}@{rate:g}") for rate in rates}
        top = best(gains)
        rated[spec.stem] = top[0]
        chosen = "  <- chosen" + (f", the first of {len(top)} equal ones: no rate was better" if top[1:] else "")
        for rate in rates:
            shown = ", ".join(f"{group} {change:+.2f}" for group, change in gains[rate].items())
            mark = chosen if rate == rated[spec.stem] else ""
            lines.append(f"# {spec.stem} {rate:g}: {shown}, sum {sum(gains[rate].values()):+.2f}{mark}")
    lines.append(yaml.safe_dump({"methods": {name: {"learning_rate": rate} for name, rate in rated.items()}}).rstrip())
    return Chosen(rated, "\n".join(lines))


def gain(value: Values, row: str) -> dict[str, float]:
    """Each group's total of a row over the baseline of the same seed, mean over seeds."""
    seeds = sorted({seed for _, seed, _ in value})
    sums: dict[str, float] = dict.fromkeys(RULE, 0.0)
    for seed in seeds:
        for group, names in RULE.items():
            deltas = {name: value[row, seed, name] - value["baseline", seed, name] for name in names}
            sums[group] += total(group, deltas) / len(seeds)
    return sums


def best(gains: Mapping[float, Mapping[str, float]]) -> list[float]:
    """The rates whose totals have the largest sum, which are several where sums differ by rounding alone.

    HarnessError where no rate has one: a benchmark without a value leaves none.
    """
    sums = {rate: whole for rate, groups in gains.items() if not math.isnan(whole := sum(groups.values()))}
    if not sums:
        raise HarnessError("no rate can be chosen: a benchmark of the three totals has no value; raise --limit.")
    return [rate for rate, each in sums.items() if max(sums.values()) - each < ROUNDING]
