"""Paired intervals and tests for any metric that is a function of summed parts, clustered by image.

Questions about one image are not independent, and two methods that answer the same questions are not either. So images
are resampled, never questions, and one draw serves the method and its baseline. The invariant: the same units give the
same bits, whatever their order, the number of threads or the linear algebra library.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.contracts.benchmark import Benchmark, Unit

Array = NDArray[np.float64]

LEVEL = 0.05
REPLICATES = 2000
# Of 2,000 simulated 95 % percentile intervals of a mean this many percent held it (normal, binary, paired binary): 50,
# 41 and 38 with 2 images, 86, 82 and 73 with 6, 90, 96 and 92 with 10, 93, 95 and 95 with 30.
LEAST = 10  # images below which there is no interval and no test
FEW = 30  # images below which an interval is flagged as rough
_MAX_UNDEFINED = 0.05  # share of replicates in which a metric may be 0/0 before its interval is given up
_WEIGHTS_AT_ONCE = 1 << 21


@dataclass(frozen=True, slots=True)
class Sums:
    """Parts summed by cluster: `parts` is (clusters, sets, names), on a grid where sums are exact in any order."""

    clusters: list[str]
    names: list[str]
    parts: Array
    images: list[int]  # of each set

    @classmethod
    def of(cls, sets: Sequence[Sequence[Unit]]) -> "Sums":
        """The sums of several sets of units, side by side over the clusters of all of them."""
        clusters = sorted({unit.cluster for units in sets for unit in units})
        names = sorted({name for units in sets for unit in units for name in unit.parts})
        place = {cluster: index for index, cluster in enumerate(clusters)}
        parts = np.zeros((len(clusters), len(sets), len(names)))
        for block, units in enumerate(sets):
            ordered = sorted(units, key=lambda unit: unit.id)
            rows = np.array([place[unit.cluster] for unit in ordered], dtype=np.intp)
            for column, name in enumerate(names):
                values = np.array([unit.parts.get(name, 0.0) for unit in ordered], dtype=float)
                parts[:, block, column] = np.bincount(rows, weights=values, minlength=len(clusters))
        return cls(clusters, names, _on_grid(parts), [len({unit.cluster for unit in units}) for units in sets])

    def metrics(self, benchmark: Benchmark, totals: Array) -> dict[str, Array]:
        """Metric id -> (replicates,) from totals (replicates, names); NaN where there are no units at all."""
        shape = totals.shape[0]
        if not self.names:
            return {metric.id: np.full(shape, np.nan) for metric in benchmark.metrics}
        with np.errstate(all="ignore"):
            values = benchmark.compute({name: totals[:, column] for column, name in enumerate(self.names)})
        return {name: np.broadcast_to(np.asarray(value, dtype=float), shape) for name, value in values.items()}


def bootstrap(benchmark: Benchmark, sums: Sums, replicates: int = REPLICATES) -> list[dict[str, Array]]:
    """Every metric of every set of units in each replicate of the cluster bootstrap.

    A replicate draws as many images as there are, with replacement, once for all sets: totals = W @ parts with W
    multinomial, metrics = compute(totals). The draw depends on the images' identities only, so that two benchmarks over
    the same images are resampled together. NaN for a set with fewer than `LEAST` images. Davison & Hinkley, Bootstrap
    Methods (1997), section 3.8.
    """
    images, sets, names = sums.parts.shape
    rng = _generator("bootstrap", sums.clusters)
    blocks = [np.empty((0, sets * names))]
    for rows in _chunks(replicates, images):
        drawn = rng.integers(0, max(images, 1), size=(rows, images)) + np.arange(rows)[:, None] * images
        weights = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(float)
        blocks.append(weights @ sums.parts.reshape(images, sets * names))
    totals = np.concatenate(blocks).reshape(replicates, sets, names)
    drawn = (sums.metrics(benchmark, totals[:, place]) for place in range(sets))
    return [metrics if count >= LEAST else _unknown(metrics) for metrics, count in zip(drawn, sums.images, strict=True)]


def sign_flip(
    benchmark: Benchmark, sums: Sums, pairs: Sequence[tuple[int, int]], replicates: int = REPLICATES
) -> list[dict[str, Array]]:
    """Every metric's difference (method - baseline) when the two change places at random, image by image.

    `pairs` are the places of (baseline, method) among the sets. Row 0 is the identity, the difference observed; the
    flips are the same for all pairs. Under the null hypothesis that method and baseline are exchangeable within an
    image, all rows are equally likely, so the share of rows at least as extreme as row 0 is an exact p-value at any
    number of images, where a bootstrap's is only asymptotic; below `LEAST` it is NaN. Good, Permutation, Parametric and
    Bootstrap Tests of Hypotheses (2005), section 3.2; counting row 0 is the +1 of Phipson & Smyth (2010).
    """
    images, _, names = sums.parts.shape
    old, new = ([pair[side] for pair in pairs] for side in (0, 1))
    change = (sums.parts[:, new] - sums.parts[:, old]).reshape(images, len(pairs) * names)
    rng = _generator("sign flip", sums.clusters)
    blocks = [np.zeros((1, len(pairs) * names))]
    for rows in _chunks(replicates, images):
        blocks.append(rng.integers(0, 2, size=(rows, images), dtype=np.int8).astype(float) @ change)
    moved = np.concatenate(blocks).reshape(replicates + 1, len(pairs), names)
    totals = sums.parts.sum(axis=0)
    found = []
    for place, (before, after) in enumerate(pairs):
        olds = sums.metrics(benchmark, totals[before] + moved[:, place])
        news = sums.metrics(benchmark, totals[after] - moved[:, place])
        moves = {name: news[name] - olds[name] for name in news}
        found.append(moves if min(sums.images[before], sums.images[after]) >= LEAST else _unknown(moves))
    return found


def _unknown(metrics: dict[str, Array]) -> dict[str, Array]:
    return {name: np.full_like(values, np.nan) for name, values in metrics.items()}


def interval(values: Sequence[float], draws: Array) -> tuple[float, float]:
    """95 % interval of the mean of `values`, one per seed; `draws` are their bootstrap replicates (seeds, replicates).

    One seed: the percentile interval, images only. n seeds: each side's half-width is sqrt(image^2 + seed^2) with
    seed = t(.975, n-1) * sd / sqrt(n). The sd holds what images do to one seed alone, so image is the percentile
    half-width times the root of `common`: no variance counts twice. It is never less than the images alone give.
    """
    centre, means = mean(values), np.mean(draws, axis=0)
    kept = ~np.isnan(means)
    if math.isnan(centre) or kept.mean() < 1 - _MAX_UNDEFINED:
        return math.nan, math.nan
    low, high = (float(q) for q in np.quantile(means[kept], [LEVEL / 2, 1 - LEVEL / 2]))
    if len(values) == 1:
        return low, high
    seed, share = quantile(LEVEL, len(values) - 1) * standard_error(values), common(draws[:, kept])
    below, above = (max(side, math.hypot(share * max(side, 0.0), seed)) for side in (centre - low, high - centre))
    return centre - below, centre + above


def shown(low: float, high: float) -> tuple[float, float]:
    """The interval as it may be printed: NaN for one without width, for where nothing varied resampling tells nothing.

    All of fifty right is no interval from 100 to 100: a rate of 94 % gives that once in twenty times.
    """
    return (math.nan, math.nan) if low == high else (low, high)


def p_value(values: Sequence[float], flipped: Array) -> float:
    """Two-sided p of the mean difference; `values` one per seed, `flipped` their `sign_flip`s (seeds, rows).

    One seed: the share of rows as extreme as the first. n seeds: the level at which the interval
    z(p)^2 * image^2 + t(p, n-1)^2 * seed^2 = mean^2 just reaches zero (image: the standard deviation over flips that
    the seeds have in `common`, seed: the standard error between seeds), and never less than the images alone give.
    Satterthwaite's degrees of freedom would find more, and too much: in 200,000 simulated null comparisons with 3 seeds
    whose variance dominates, p < 0.002 comes 9 times too often; with this rule it never comes too often.
    """
    images, seed = images_p(flipped), standard_error(values)
    if math.isnan(images) or len(values) == 1 or seed == 0 or images == 1:
        return images
    from scipy.optimize import brentq  # slow to import

    observed = abs(float(flipped[:, 0].mean()))
    image = common(flipped[:, 1:]) * float(np.nanstd(flipped[:, 1:].mean(axis=0)))

    def excess(p: float) -> float:
        return math.hypot(quantile(p) * image, quantile(p, len(values) - 1) * seed) - observed

    return float(brentq(excess, images, 1.0)) if excess(images) > 0 else images


def images_p(flipped: Array) -> float:
    """Two-sided p over images alone, for these very models: the share of rows (seeds, rows) as extreme as the first."""
    means = np.mean(flipped, axis=0)
    observed = abs(float(means[0]))
    if math.isnan(observed) or np.isnan(means).mean() > _MAX_UNDEFINED:
        return math.nan
    extreme = np.abs(means) >= observed * (1 - 1e-9)  # a difference summed in another order is the same difference
    return float((extreme | np.isnan(means)).mean())


def common(draws: Array) -> float:
    """How much of the spread of the seeds' mean is common to all seeds, 0 to 1, from draws (seeds, replicates).

    Draws of one image sample move the seeds together as far as an image is hard for all of them. Their mean has
    variance c + a/n, each has c + a; this is the root of c / (c + a/n).
    """
    seeds, whole = len(draws), float(np.nanvar(np.mean(draws, axis=0)))
    if seeds == 1 or whole == 0:
        return 1.0
    return math.sqrt(max(0.0, (seeds * whole - float(np.nanvar(draws, axis=1).mean())) / ((seeds - 1) * whole)))


def detectable(values: Sequence[float], draws: Array, level: float = LEVEL, power: float = 0.8) -> float:
    """The difference that has p < `level` with this power, given the spread seen; NaN where nothing varied at all."""
    if math.isnan(mean(values)) or np.isnan(draws).all():
        return math.nan
    whole, seed = float(np.nanstd(np.mean(draws, axis=0))), standard_error(values)
    if not whole and not seed:
        return math.nan
    least = sum(quantile(p) * whole for p in (level, 2 * (1 - power)))
    if len(values) == 1:
        return least
    image, df = common(draws) * whole, len(values) - 1
    return max(least, sum(math.hypot(quantile(p) * image, quantile(p, df) * seed) for p in (level, 2 * (1 - power))))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: max over j <= i of min(1, (m - j) p_(j)), j from 0; NaN is not a test and stays.

    Holm, A simple sequentially rejective multiple test procedure (1979).
    """
    order = sorted((p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    adjusted, running = [math.nan] * len(p_values), 0.0
    for rank, (p, index) in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * p))
        adjusted[index] = running
    return adjusted


def standard_error(values: Sequence[float]) -> float:
    """sd / sqrt(n), the sd with n - 1; 0 for one value."""
    if len(values) == 1:
        return 0.0
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))


def mean(values: Sequence[float]) -> float:
    """The mean, the same for any order; NaN of nothing."""
    return math.fsum(values) / len(values) if values else math.nan


def quantile(p: float, df: float = math.inf) -> float:
    """The two-sided critical value: P(|t| > it) = p with `df` degrees of freedom; the normal one's without."""
    from scipy.special import ndtri, stdtrit  # slow to import

    return -float(ndtri(p / 2) if math.isinf(df) else stdtrit(df, p / 2))


def _on_grid(parts: Array) -> Array:
    """`parts` rounded to multiples of 2^-k, k so that every sum of as many terms as there are rows is exact in float64.

    With n rows of at most m, partial sums stay below n * m < 2^e; on a grid of 2^(e-50) they are exact, so the order
    of addition cannot show. The rounding is below n * m * 1e-15 per part.
    """
    bound = parts.shape[0] * float(np.abs(parts).max(initial=0.0))
    step = 2.0 ** (math.frexp(bound)[1] - 50)
    rounded: Array = np.rint(parts / step) * step
    return rounded


def _generator(purpose: str, clusters: Sequence[str]) -> np.random.Generator:
    """Random numbers that depend on the images and on nothing else."""
    digest = hashlib.sha256("\0".join([purpose, *clusters]).encode("utf-8", "surrogatepass")).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))


def _chunks(replicates: int, clusters: int) -> Iterator[int]:
    size = max(1, _WEIGHTS_AT_ONCE // max(1, clusters))
    for start in range(0, replicates, size):
        yield min(size, replicates - start)
