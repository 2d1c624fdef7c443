"""From the scored cells of one benchmark to an estimate per method and metric, paired with the baseline by seed."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.contracts.benchmark import Benchmark, Unit
from harness.contracts.row_names import BASELINE
from reports.outcomes import Outcome, measure
from reports.statistics import (
    LEVEL,
    REPLICATES,
    Array,
    Sums,
    bootstrap,
    detectable,
    images_p,
    interval,
    mean,
    p_value,
    sign_flip,
)

ROBUST = "@robust"  # ends the id of a metric's twin by a parse that takes an answer for what it plainly means


@dataclass(frozen=True, slots=True)
class Estimate:
    """One metric of one method: the mean over its seeds and what it differs from the baseline's.

    `low` and `high` are the 95 % interval of `delta`, of `value` where there is none. `deltas` has one difference
    for each seed that both have, on the units that both have: `n`, with several seeds the fewest of them. `draws` are
    the bootstrap replicates of `deltas` (seeds, replicates). `p` is for seeds like these in general (other base models,
    where each has its own), `p_here` for these models.
    """

    value: float
    low: float
    high: float
    n: int
    p: float = math.nan
    p_here: float = math.nan
    deltas: Mapping[int, float] = field(default_factory=dict)
    draws: Array = field(default_factory=lambda: np.empty((0, 0)), repr=False)

    @property
    def delta(self) -> float:
        """Mean over the seeds of method - baseline; NaN for the baseline."""
        return mean(list(self.deltas.values()))

    def detectable(self, level: float = LEVEL) -> float:
        """The difference that would have p < `level` in 4 of 5 such comparisons; NaN where it cannot be told."""
        return detectable(list(self.deltas.values()), self.draws, level) if self.deltas else math.nan


def estimate(
    benchmark: Benchmark, outcomes: Iterable[Outcome], beside: Sequence[str] = (), replicates: int = REPLICATES
) -> dict[str, dict[str, Estimate]]:
    """Method -> metric id -> estimate, from one benchmark's outcomes.

    The metrics are the benchmark's first, its twin under a robust parse where there is one, and those it computes whose
    ids begin with one of `beside`. ValueError for two outcomes of one method and seed, or for units that are not the
    baseline's.
    """
    cells: dict[tuple[str, int], Outcome] = {}
    for outcome in sorted(outcomes, key=lambda o: (o.method != BASELINE, o.method, o.seed)):
        if (outcome.method, outcome.seed) in cells:
            raise ValueError(f"two outcomes of {outcome.method!r}, seed {outcome.seed}, on {outcome.benchmark!r}")
        cells[outcome.method, outcome.seed] = outcome
    sets: list[Sequence[Unit]] = [outcome.units for outcome in cells.values()]
    own = dict(zip(cells, range(len(sets)), strict=True))
    pairs: dict[tuple[str, int], tuple[int, int]] = {}
    for (method, seed), place in own.items():
        if method != BASELINE and (BASELINE, seed) in own:
            pairs[method, seed] = _paired(sets, own[BASELINE, seed], place)
    measured, sums = [measure(benchmark, units) for units in sets], Sums.of(sets)
    drawn = bootstrap(benchmark, sums, replicates)
    flipped = dict(zip(pairs, sign_flip(benchmark, sums, list(pairs.values()), replicates), strict=True))

    def one(method: str, metric: str) -> Estimate:
        mine = [place for (name, _), place in own.items() if name == method]
        values = [measured[place].get(metric, math.nan) for place in mine]
        common = {seed: pair for (name, seed), pair in pairs.items() if name == method}
        if not common:
            low, high = interval(values, np.stack([drawn[place][metric] for place in mine]))
            return Estimate(mean(values), low, high, min(len(sets[place]) for place in mine))
        deltas = {
            seed: measured[new].get(metric, math.nan) - measured[old].get(metric, math.nan)
            for seed, (old, new) in common.items()
        }
        draws = np.stack([drawn[new][metric] - drawn[old][metric] for old, new in common.values()])
        flips = np.stack([flipped[method, seed][metric] for seed in common])
        low, high = interval(list(deltas.values()), draws)
        n = min(len(sets[old]) for old, _ in common.values())
        p = p_value(list(deltas.values()), flips)
        return Estimate(mean(values), low, high, n, p, images_p(flips), deltas, draws)

    computed = (name for name in (drawn[0] if drawn else ()) if name.startswith(tuple(beside)))
    column = benchmark.metrics[0].id
    twin = [name for name in (drawn[0] if drawn else ()) if name == column + ROBUST]
    wanted = dict.fromkeys([column, *twin, *computed])
    return {method: {name: one(method, name) for name in wanted} for method in dict.fromkeys(m for m, _ in cells)}


def _paired(sets: list[Sequence[Unit]], before: int, after: int) -> tuple[int, int]:
    """The places of two sets with the same ids: the two given, or their common units, which join `sets`."""
    old, new = ({unit.id: unit for unit in sets[place]} for place in (before, after))
    if len(old) < len(sets[before]) or len(new) < len(sets[after]):
        raise ValueError("a unit id occurs twice")
    ids = old.keys() & new.keys()
    for name in ids:
        if old[name].cluster != new[name].cluster:
            raise ValueError(f"unit {name!r} belongs to another image in the baseline: these are not the same units")
    places = []
    for place, units in ((before, old), (after, new)):
        if len(ids) == len(units):
            places.append(place)
        else:
            places.append(len(sets))
            sets.append([units[name] for name in sorted(ids)])
    return places[0], places[1]
