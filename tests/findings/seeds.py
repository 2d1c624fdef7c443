"""Signs, orders, and how many trainings a printed difference takes: arithmetic on differences and their replicates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np

from reports.numerals import numeral
from reports.statistics import LEVEL, Array, common, interval, quantile
from tests.findings.scores import Scores
from tests.findings.wording import grid, span

POWER = 0.8
MOST = 100  # seeds that are looked at
NEVER, MORE = 0, MOST + 1  # no number is enough, since the images' spread alone hides it; or none so small


def flips(values: Array, axis: int) -> list[bool]:
    """Of each pair along an axis of a (n, m) array, whether signs differ; where there is no change is no sign."""
    lines = np.moveaxis(values, axis, -1)
    return [bool(one * other < 0) for line in lines for one, other in combinations(line, 2) if one and other]


def resampled(shares: Sequence[float], replicates: int = 2000) -> tuple[float, float, float]:
    """The mean of shares in percent, with a 95 % interval by resampling what they are of; NaN of none."""
    if not shares:
        return math.nan, math.nan, math.nan
    known = np.array(shares, dtype=float)
    rng = np.random.Generator(np.random.PCG64(len(known)))
    means = known[rng.integers(0, len(known), (replicates, len(known)))].mean(axis=1)
    low, high = np.quantile(means, [LEVEL / 2, 1 - LEVEL / 2])
    return float(known.mean()), float(low), float(high)


def tau(one: Array, other: Array) -> Array:
    """Kendall's tau-b along the first axis: 1 where two figures order things alike, -1 where they are opposite."""
    first, second = (np.array([np.sign(a - b) for a, b in combinations(figures, 2)]) for figures in (one, other))
    both = np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((first * second).sum(axis=0) / both)


Order = tuple[Sequence[float], Array]  # a figure of each row, more being better, and its replicates (rows, replicates)


def agreement(one: Order, other: Order) -> tuple[float, float, float]:
    """Kendall's tau of two orders, with its 95 % interval, images resampled."""
    middle = float(tau(np.array(one[0]), np.array(other[0])))
    return (middle, *interval([middle], tau(one[1], other[1])[None]))


def ranks(figures: Sequence[float] | Array) -> Array:
    """Places along the first axis, 1 for the largest; equal ones share the mean of theirs."""
    from scipy.stats import rankdata  # slow to import

    return np.asarray(rankdata(-np.asarray(figures), axis=0))


@dataclass(frozen=True)
class Spread:
    """Standard deviations of one training's difference: between bases, splits of one, and of what images alone do.

    `splits_low` and `splits_high`: the 95 % interval of the second, as of a normal sample.
    """

    bases: float
    splits: float
    splits_low: float
    splits_high: float
    images: float

    @classmethod
    def of(cls, values: Array, draws: Array) -> "Spread":
        """From (bases, splits) differences and their replicates (bases, splits, replicates)."""
        from scipy.stats import chi2  # slow to import

        many, each = values.shape
        within = float(values.var(axis=1, ddof=1).mean())
        between = max(0.0, float(values.mean(axis=1).var(ddof=1)) - within / each) if many > 1 else math.nan
        free = many * (each - 1)
        low, high = (math.sqrt(free * within / float(chi2.ppf(1 - side, free))) for side in (LEVEL / 2, 1 - LEVEL / 2))
        images = math.sqrt(float(np.mean([(common(one) * np.nanstd(one.mean(axis=0))) ** 2 for one in draws])))
        return cls(math.sqrt(between), math.sqrt(within), low, high, images)


def needed(difference: float, splits: float, images: float) -> int:
    """Seeds from two up that give p < 0.05 for a difference in four of five cases; NEVER or MORE where none does."""
    if sum(critical() * images) >= abs(difference):
        return NEVER
    for n in range(2, MOST + 1):
        if np.hypot(critical() * images, critical(n - 1) * splits / math.sqrt(n)).sum() <= abs(difference):
            return n
    return MORE


@cache
def critical(free: float = math.inf) -> Array:
    """The two quantiles that a difference has to pass, with so many degrees of freedom."""
    return np.array([quantile(p, free) for p in (LEVEL, 2 * (1 - POWER))])


@dataclass(frozen=True)
class Need:
    """A difference that the paper printed, and the seeds it takes: with so many units as here, and as it had.

    Each is (as measured, least, most) over the interval of the spread between splits.
    """

    rows: str
    benchmark: str
    printed: float
    digits: int
    spread: Spread
    here: Sequence[int]
    official: Sequence[int]

    @classmethod
    def of(cls, rows: str, label: str, printed: float, scores: Scores, row: str, control: str) -> "Need":
        """From our trainings of the same two methods."""
        spread = Spread.of(*scores.by_split(row, control))
        scale = math.sqrt(scores.count / scores.benchmark.official_units)
        splits = (spread.splits, spread.splits_low, spread.splits_high)
        here, official = ([needed(printed, each, images) for each in splits]
                          for images in (spread.images, scale * spread.images))  # fmt: skip
        return cls(rows, label, printed, scores.benchmark.metrics[0].digits, spread, here, official)


def in_words(count: int) -> str:
    """A number of seeds."""
    return {NEVER: "none is enough", MORE: f"over {MOST}"}.get(count, str(count))


def between(counts: Sequence[int], spread: Spread) -> str:
    """A number of seeds with its interval; none where no split changed anything, for then nothing is known of "
    "splits."""
    if not spread.splits:
        return "nothing varied"
    middle, *ends = map(in_words, counts)
    return middle if ends == [middle, middle] else f"{middle} [{ends[0]}, {ends[1]}]"


def table(needs: Sequence[Need]) -> str:
    """A line per printed difference."""
    heads = ["rows", "score", "printed", "sd: bases", "sd: splits", "sd: images", "seeds, our units", "official units"]
    lines = []
    for need in needs:
        digits, spread = need.digits + 1, need.spread
        within = f"{numeral(spread.splits, digits)} {span(spread.splits_low, spread.splits_high, digits, '')}"
        bases = "one base" if math.isnan(spread.bases) else numeral(spread.bases, digits)
        sizes = [bases, within, numeral(spread.images, digits)]
        lines.append([need.rows, need.benchmark, numeral(need.printed, need.digits, "+"), *sizes,
                      between(need.here, spread), between(need.official, spread)])  # fmt: skip
    return grid(heads, lines)


def verdict(needs: Sequence[Need], few: int = 5) -> str:
    """The sentence: how many of the printed differences so few seeds can show."""

    told, needs = [], [need for need in needs if need.spread.splits]
    for side, units in (("here", "as many units as here"), ("official", "the official numbers of units")):
        counts = [[NEVER < getattr(need, side)[at] <= few for need in needs].count(True) for at in range(3)]
        told.append(f"{counts[0]} [{counts[2]}, {counts[1]}] with {units}")
    return (
        f"Of {len(needs)} differences that Table 1 has between nSFT and another row, and that varied here, {few} "
        f"seeds or fewer would show {' and '.join(told)}, if a paper's trainings spread as these do"
    )
