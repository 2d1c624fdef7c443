"""Scores of one benchmark by row, base and split; what any row is better by than any other, with intervals.

The splits of a base are pooled, so that bases are what varies: three trainings of one base tell little of bases.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import chain
from operator import itemgetter
from typing import Literal, NamedTuple

import numpy as np

from harness.contracts.benchmark import Benchmark, Unit
from reports.outcomes import measure
from reports.statistics import (
    LEVEL,
    REPLICATES,
    Array,
    Sums,
    bootstrap,
    holm,
    images_p,
    interval,
    mean,
    p_value,
    shown,
    sign_flip,
)
from tests.findings.stored import Place, Units

Claim = Literal["general", "here", "none", "the same"]  # for bases like these, for these alone, for none
Of = Callable[[Mapping[str, Array]], Array]  # a figure, of what a benchmark computes


class Difference(NamedTuple):
    """What one row has more than another. `values`: one per base.

    `low` and `high` are the 95 % interval for bases like these, the others for these very bases, images resampled; so
    are the two p.
    """

    values: tuple[float, ...]
    low: float
    high: float
    low_here: float
    high_here: float
    p: float
    p_here: float

    @property
    def delta(self) -> float:
        """The mean over the bases."""
        return mean(self.values)

    @property
    def same(self) -> bool:
        """Whether there is none at all, on any base."""
        return not any(self.values)

    @property
    def bounds(self) -> tuple[float, float]:
        """The interval for bases like these; where there is none, for these."""
        return (self.low_here, self.high_here) if math.isnan(self.low) else (self.low, self.high)

    @property
    def claim(self) -> Claim:
        """For which bases it may be said that there is a difference: by p where there is one, else by the interval."""
        if self.same:
            return "the same"
        tested = not math.isnan(self.p_here)
        if self.p < LEVEL if tested else (self.low > 0 or self.high < 0):
            return "general"
        return "here" if (self.p_here < LEVEL if tested else self.low_here > 0 or self.high_here < 0) else "none"

    @property
    def resolved(self) -> bool:
        """For these bases at least."""
        return self.claim in ("general", "here")


def untested(values: Sequence[float], draws: Array) -> Difference:
    """A difference without a p, from values by base and their replicates (bases, replicates); of one base nothing is
    told of others.
    """
    here = shown(*interval([mean(values)], draws.mean(axis=0)[None]))
    general = shown(*interval(values, draws)) if len(values) > 1 else (math.nan, math.nan)
    return Difference(tuple(values), *general, *here, math.nan, math.nan)


def adjusted(family: Sequence[Difference]) -> list[Difference]:
    """The differences with both p after Holm's correction, over all that are shown together."""
    both = zip(holm([one.p for one in family]), holm([one.p_here for one in family]), strict=True)
    return [one._replace(p=p, p_here=here) for one, (p, here) in zip(family, both, strict=True)]


class Scores:
    """One benchmark's units, and its metrics in every replicate of the images' bootstrap."""

    def __init__(self, benchmark: Benchmark, units: Units, replicates: int = REPLICATES) -> None:
        self.benchmark, self.units, self.replicates = benchmark, units, replicates
        self.rows = list(dict.fromkeys(place.row for place in units))
        self.bases = sorted({place.base for place in units})
        self.splits = sorted({place.split for place in units})
        pooled = {(row, base): self._pooled(row, base) for row in self.rows for base in self.bases}
        sets: dict[tuple[str, ...] | Place, Sequence[Unit]] = {**pooled, **units}
        self.at = dict(zip(sets, range(len(sets)), strict=True))
        self.sums = Sums.of(list(sets.values()))
        self.measured = [{name: np.array(value) for name, value in measure(benchmark, own).items()}
                         for own in sets.values()]  # fmt: skip

    @cached_property
    def drawn(self) -> list[dict[str, Array]]:
        """Of each set, metric -> its replicates."""
        return bootstrap(self.benchmark, self.sums, self.replicates)

    @property
    def first(self) -> Of:
        """The benchmark's column."""
        return itemgetter(self.benchmark.metrics[0].id)

    def _pooled(self, row: str, base: str) -> list[Unit]:
        return list(chain.from_iterable(self.units[Place(row, base, split)] for split in self.splits))

    def value(self, row: str, of: Of | None = None) -> float:
        """The mean over the bases."""
        return mean([float((of or self.first)(self.measured[self.at[row, base]])) for base in self.bases])

    def draws(self, row: str, of: Of | None = None) -> Array:
        """The replicates of that mean."""
        found = [(of or self.first)(self.drawn[self.at[row, base]]) for base in self.bases]
        return np.asarray(np.mean(found, axis=0))

    def difference(self, row: str, control: str, of: Of | None = None) -> Difference:
        """What `row` has more than `control`, of a figure of both."""
        of = of or self.first
        pairs = [(self.at[control, base], self.at[row, base]) for base in self.bases]
        values = [float(of(self.measured[new]) - of(self.measured[old])) for old, new in pairs]
        draws = np.stack([of(self.drawn[new]) - of(self.drawn[old]) for old, new in pairs])
        flipped = np.stack([of(moved) for moved in sign_flip(self.benchmark, self.sums, pairs, self.replicates)])
        general = p_value(values, flipped) if len(pairs) > 1 else math.nan
        return untested(values, draws)._replace(p=general, p_here=images_p(flipped))

    def level(self, row: str, of: Of) -> Difference:
        """A figure of one row, which is a difference already."""
        values = [float(of(self.measured[self.at[row, base]])) for base in self.bases]
        return untested(values, np.stack([of(self.drawn[self.at[row, base]]) for base in self.bases]))

    def by_split(self, row: str, control: str) -> tuple[Array, Array]:
        """Differences of every single training, (bases, splits), and their replicates, (bases, splits, replicates)."""
        first, values, draws = self.first, [], []
        for base in self.bases:
            pairs = [(self.at[Place(control, base, s)], self.at[Place(row, base, s)]) for s in self.splits]
            values.append([float(first(self.measured[new]) - first(self.measured[old])) for old, new in pairs])
            draws.append([first(self.drawn[new]) - first(self.drawn[old]) for old, new in pairs])
        return np.array(values), np.array(draws)

    @property
    def better(self) -> int:
        """1 where more is better, else -1."""
        return 1 if self.benchmark.metrics[0].higher_is_better else -1

    @property
    def count(self) -> int:
        """How many units a training is scored on."""
        return len(next(iter(self.units.values())))


def share(kept: Sequence[bool]) -> float:
    """Percent; NaN of nothing."""
    return 100 * sum(kept) / len(kept) if kept else math.nan
