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

from harness.benchmark import Benchmark, Unit

Array = NDArray[np.float64]

LEVEL = 0.05
REPLICATES = 2000
_MAX_UNDEFINED = 0.05  # share of replicates in which a metric may be 0/0 before its interval is given up
_WEIGHTS_AT_ONCE = 1 << 21


@dataclass(frozen=True, slots=True)
class Sums:
    """Parts summed by cluster: `parts` is (clusters, sets, names), on a grid where sums are exact in any order."""

    clusters: list[str]
    names: list[str]
    parts: Array

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
        return cls(clusters, names, _on_grid(parts))

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
    the same images are resampled together. Davison & Hinkley, Bootstrap Methods (1997), section 3.8.
    """
    images, sets, names = sums.parts.shape
    rng = _generator("bootstrap", sums.clusters)
    blocks = [np.empty((0, sets * names))]
    for rows in _chunks(replicates, images):
        drawn = rng.integers(0, max(images, 1), size=(rows, images)) + np.arange(rows)[:, None] * images
        weights = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(float)
        blocks.append(weights @ sums.parts.reshape(images, sets * names))
    totals = np.concatenate(blocks).reshape(replicates, sets, names)
    return [sums.metrics(benchmark, totals[:, place]) for place in range(sets)]


def sign_flip(
    benchmark: Benchmark, sums: Sums, pairs: Sequence[tuple[int, int]], replicates: int = REPLICATES
) -> list[dict[str, Array]]:
    """Every metric's difference (method - baseline) when the two change places at random, image by image.

    `pairs` are the places of (baseline, method) among the sets. Row 0 is the identity, the difference observed; the
    flips are the same for all pairs. Under the null hypothesis that method and baseline are exchangeable within an
    image, all rows are equally likely, so the share of rows at least as extreme as row 0 is an exact p-value at any
    number of images, where a bootstrap's is only asymptotic. Good, Permutation, Parametric and Bootstrap Tests of
    Hypotheses (2005), section 3.2; counting row 0 is the +1 of Phipson & Smyth (2010).
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
        found.append({name: news[name] - olds[name] for name in news})
    return found


def interval(values: Sequence[float], draws: Array) -> tuple[float, float]:
    """95 % interval of the mean of `values`, one per seed; `draws` are the bootstrap replicates of that mean.

    One seed: the percentile interval, images only. n seeds: images and base models vary independently, so each side's
    half-width is sqrt(image^2 + seed^2) with seed = t(.975, n-1) * sd / sqrt(n). Where the images of the seeds differ,
    sd holds their noise too and the interval errs to the wide side.
    """
    centre, defined = mean(values), draws[~np.isnan(draws)]
    if math.isnan(centre) or len(defined) < (1 - _MAX_UNDEFINED) * len(draws):
        return math.nan, math.nan
    low, high = (float(q) for q in np.quantile(defined, [LEVEL / 2, 1 - LEVEL / 2]))
    if len(values) == 1:
        return low, high
    seed = _t_quantile(LEVEL, len(values) - 1) * standard_error(values)
    return centre - math.hypot(max(centre - low, 0.0), seed), centre + math.hypot(max(high - centre, 0.0), seed)


def p_value(values: Sequence[float], flipped: Array) -> float:
    """Two-sided p of the mean difference; `values` one per seed, `flipped` the seeds' mean of `sign_flip`.

    One seed: the share of rows of `flipped` as extreme as the first. n seeds: the level at which the interval
    z(p)^2 * image^2 + t(p, n-1)^2 * seed^2 = mean^2 just reaches zero (image: the standard deviation of `flipped`,
    seed: the standard error between seeds), and never less than the images alone give.
    """
    observed = float(flipped[0])
    if math.isnan(observed) or np.isnan(flipped).mean() > _MAX_UNDEFINED:
        return math.nan
    tie = 1e-9 * abs(observed)  # a difference summed in another order is the same difference
    extreme = np.abs(flipped) >= abs(observed) - tie
    images = float((extreme | np.isnan(flipped)).mean())
    seed = standard_error(values)
    if len(values) == 1 or seed == 0 or images == 1:
        return images
    from scipy.optimize import brentq  # slow to import
    from scipy.special import ndtri

    image = float(np.sqrt(np.nanmean(flipped**2)))

    def excess(p: float) -> float:
        return math.hypot(float(ndtri(p / 2)) * image, _t_quantile(p, len(values) - 1) * seed) - abs(observed)

    return float(brentq(excess, images, 1.0)) if excess(images) > 0 else images


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


def _t_quantile(p: float, df: int) -> float:
    """The two-sided critical value: P(|t| > it) = p."""
    from scipy.special import stdtrit  # slow to import

    return -float(stdtrit(df, p / 2))


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
