"""Laws of intervals and tests that hold for any numbers, against slow and plain ways to the same result."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import norm, t, ttest_1samp
from worlds import Accuracy, Pope

from harness.contracts.benchmark import Benchmark, Group, Metric, Totals, Unit
from reports import statistics
from reports.outcomes import measure
from reports.statistics import (
    Array,
    Sums,
    bootstrap,
    common,
    detectable,
    holm,
    images_p,
    interval,
    mean,
    p_value,
    quantile,
    sign_flip,
)
from tests.laws import caught, law

P_VALUES = st.lists(st.one_of(st.floats(0, 1), st.just(math.nan), st.sampled_from([0.01, 0.05])), max_size=8)
FINITE = st.floats(-50, 50).map(lambda x: round(x, 3))


@dataclass(frozen=True)
class Raw(Benchmark):
    """The sums themselves: each part is a metric."""

    label: ClassVar[str] = "RAW"
    group: ClassVar[Group] = "vqa"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("a", "a", (-1e9, 1e9)), Metric("b", "b", (-1e9, 1e9)))

    def compute(self, totals: Totals) -> dict[str, Any]:
        return dict(totals)


@st.composite
def pairs(draw: st.DrawFn, images: int = 10, most: int = 3) -> tuple[list[Unit], list[Unit]]:
    """A baseline and a method on the same questions about a few images, right or wrong as it comes."""
    old, new = list[Unit](), list[Unit]()
    for image in range(images):
        for question in range(draw(st.integers(1, most))):
            for side in (old, new):
                right = float(draw(st.booleans()))
                side.append(Unit(f"{image}/{question}", f"image {image}", {"right": right, "n": 1.0}))
    return old, new


def swapped(old: Sequence[Unit], new: Sequence[Unit], benchmark: Benchmark) -> list[float]:
    """The difference under each of the 2^n ways to let the two sides change places on whole images; the first as is."""
    images = sorted({unit.cluster for unit in old})
    differences = []
    for which in itertools.product((False, True), repeat=len(images)):
        turned = {image for image, turn in zip(images, which, strict=True) if turn}
        first = [b if a.cluster in turned else a for a, b in zip(old, new, strict=True)]
        second = [a if a.cluster in turned else b for a, b in zip(old, new, strict=True)]
        values = [measure(benchmark, side)[benchmark.metrics[0].id] for side in (first, second)]
        differences.append(values[1] - values[0])
    return differences


@law(8)
@given(pairs(), st.booleans())
def test_sign_flips_are_those_of_whole_images_and_their_p_is_the_exact_one(
    sides: tuple[list[Unit], list[Unit]], linear: bool
) -> None:
    """Ten images: all 1,024 ways are counted by hand, for a mean and for a metric that is not linear."""
    benchmark: Benchmark = Accuracy() if linear else Pope("pope")
    every = np.array(swapped(*sides, benchmark))
    metric, rows = benchmark.metrics[0].id, 8000
    assume(not np.isnan(every).any())
    flipped = sign_flip(benchmark, Sums.of(sides), [(0, 1)], rows)[0][metric]
    assert flipped[0] == pytest.approx(every[0], abs=1e-9)
    known = np.unique(np.round(every, 6))
    nearest = known[np.clip(np.searchsorted(known, flipped), 0, len(known) - 1)]
    below = known[np.clip(np.searchsorted(known, flipped) - 1, 0, len(known) - 1)]
    assert (np.minimum(abs(nearest - flipped), abs(below - flipped)) < 1e-5).all()
    exact = float((abs(every) >= abs(every[0]) * (1 - 1e-9)).mean())
    assert abs(images_p(flipped[None]) - exact) < 5 * math.sqrt(exact * (1 - exact) / rows) + 2 / rows


def one_side_only(benchmark: Benchmark, sums: Sums, pairs: Any, replicates: int = 2000) -> list[dict[str, Array]]:
    """A mutant: the method takes the baseline's answers, and the baseline keeps its own."""
    [(before, after)] = pairs
    change = sums.parts[:, after] - sums.parts[:, before]
    signs = np.random.default_rng(0).integers(0, 2, (replicates + 1, len(sums.clusters))).astype(float)
    signs[0] = 0
    totals = sums.parts.sum(axis=0)
    olds = sums.metrics(benchmark, np.tile(totals[before], (replicates + 1, 1)))
    news = sums.metrics(benchmark, totals[after] - signs @ change)
    return [{name: news[name] - olds[name] for name in news}]


def one_sided(flipped: Array) -> float:
    """A mutant: only rows above count."""
    return float((flipped.mean(axis=0) >= flipped.mean(axis=0)[0]).mean())


def question_by_question(sets: Sequence[Sequence[Unit]], right: type[Sums] = Sums) -> Sums:
    """A mutant: every question is an image of its own."""
    return right.of([[Unit(unit.id, unit.id, unit.parts) for unit in units] for units in sets])


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("sign_flip", one_side_only), ("images_p", one_sided)],
    ids=["one side only", "one-sided"],
)
def test_a_wrong_sign_flip_would_be_caught(name: str, wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), name, wrong)
    caught(test_sign_flips_are_those_of_whole_images_and_their_p_is_the_exact_one)


def test_a_sign_flip_by_question_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong:
        of = staticmethod(question_by_question)

    monkeypatch.setitem(globals(), "Sums", Wrong)
    caught(test_sign_flips_are_those_of_whole_images_and_their_p_is_the_exact_one)


@law(40)
@given(st.integers(10, 40), st.integers(1, 60), st.data())
def test_a_replicate_draws_as_many_images_as_there_are_and_the_same_for_all(
    images: int, replicates: int, data: st.DataObject
) -> None:
    """The draw's weights are read off parts that are one for one image; other parts must come out by these weights."""
    names = [f"image {number}" for number in range(images)]
    hot = [
        Unit(name, name, {f"w{at:02}": float(at == place) for at in range(images)}) for place, name in enumerate(names)
    ]
    values = data.draw(st.lists(st.integers(-9, 9), min_size=images, max_size=images))
    other = [Unit(name, name, {"a": float(value)}) for name, value in zip(names, values, strict=True)]
    one, two = bootstrap(Raw(), Sums.of([hot, other]), replicates)
    weights = np.stack([one[f"w{at:02}"] for at in range(images)], axis=1)
    assert weights.shape == (replicates, images)
    assert (weights.sum(axis=1) == images).all() and (weights >= 0).all() and (weights == np.rint(weights)).all()
    assert (weights @ np.array(values, dtype=float) == two["a"]).all()
    alone = bootstrap(Raw(), Sums.of([other]), replicates)[0]["a"]
    assert (alone == two["a"]).all()  # a set beside it does not change the draw


def test_a_draw_for_each_set_alone_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(benchmark: Benchmark, sums: Sums, replicates: int = 1) -> list[dict[str, Array]]:
        rng = np.random.default_rng(0)
        images, sets, _ = sums.parts.shape
        drawn = [rng.multinomial(images, [1 / images] * images, replicates) @ sums.parts[:, at] for at in range(sets)]
        return [sums.metrics(benchmark, totals) for totals in drawn]

    monkeypatch.setitem(globals(), "bootstrap", wrong)
    caught(test_a_replicate_draws_as_many_images_as_there_are_and_the_same_for_all)


def test_every_image_is_drawn_equally_often() -> None:
    """20 images, 4,000 replicates: each is drawn 4,000 times, give or take; twice in one draw in C(n,2)-fashion."""
    names = [f"{number:02}" for number in range(20)]
    hot = [Unit(name, name, {other: float(other == name) for other in names}) for name in names]
    drawn = bootstrap(Raw(), Sums.of([hot]), 4000)[0]
    weights = np.stack([drawn[name] for name in names], axis=1)
    assert abs(weights.mean(axis=0) - 1).max() < 5 * math.sqrt(0.95 / 4000)
    assert abs(weights.var(axis=0) - 0.95).max() < 0.15  # n p (1 - p)
    between = np.corrcoef(weights.T)[np.triu_indices(20, 1)]
    assert between.mean() == pytest.approx(-1 / 19, abs=0.005)
    assert abs(between).max() < 0.15


def closed(p_values: Sequence[float]) -> list[float]:
    """Holm's by closed testing: a hypothesis falls when every set with it falls, by Bonferroni within the set."""
    tests = [at for at, p in enumerate(p_values) if not math.isnan(p)]
    adjusted = [math.nan] * len(p_values)
    for at in tests:
        with_it = (
            {at, *others}
            for size in range(len(tests))
            for others in itertools.combinations([other for other in tests if other != at], size)
        )
        adjusted[at] = max(min(1.0, len(group) * min(p_values[one] for one in group)) for group in with_it)
    return adjusted


@law(150)
@given(P_VALUES)
def test_holm_is_closed_testing(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(closed(p_values), nan_ok=True)


@law(150)
@given(P_VALUES, st.floats(0, 1), st.randoms(use_true_random=False))
def test_holm_is_monotone_and_knows_no_order(p_values: list[float], another: float, rng: Any) -> None:
    adjusted = holm(p_values)
    tests = [at for at, p in enumerate(p_values) if not math.isnan(p)]
    for at in tests:
        assert p_values[at] <= adjusted[at] <= min(1, len(tests) * p_values[at])
        for other in tests:
            assert not p_values[at] < p_values[other] or adjusted[at] <= adjusted[other]
    order = list(range(len(p_values)))
    rng.shuffle(order)
    turned = holm([p_values[at] for at in order])
    assert turned == pytest.approx([adjusted[at] for at in order], nan_ok=True)
    more = holm([*p_values, another])[:-1]
    assert all(more[at] >= adjusted[at] - 1e-15 for at in tests)  # another test never makes one easier
    assert holm([*p_values, math.nan])[:-1] == pytest.approx(adjusted, nan_ok=True)


def hochberg(p_values: Sequence[float]) -> list[float]:
    """A mutant: step up, which is right only for tests that are independent."""
    order = sorted((p, at) for at, p in enumerate(p_values) if not math.isnan(p))
    adjusted, running = [math.nan] * len(p_values), 1.0
    for rank in reversed(range(len(order))):
        running = min(running, (len(order) - rank) * order[rank][0])
        adjusted[order[rank][1]] = running
    return adjusted


def bonferroni(p_values: Sequence[float]) -> list[float]:
    """A mutant that throws power away."""
    count = sum(not math.isnan(p) for p in p_values)
    return [min(1.0, p * count) if not math.isnan(p) else p for p in p_values]


def without_maximum(p_values: Sequence[float]) -> list[float]:
    """A mutant: a larger p may be adjusted to a smaller one."""
    order = sorted((p, at) for at, p in enumerate(p_values) if not math.isnan(p))
    adjusted = [math.nan] * len(p_values)
    for rank, (p, at) in enumerate(order):
        adjusted[at] = min(1.0, (len(order) - rank) * p)
    return adjusted


def nan_counts(p_values: Sequence[float], right: Callable[[Sequence[float]], list[float]] = holm) -> list[float]:
    """A mutant: what was not tested is counted."""
    found = right([1.0 if math.isnan(p) else p for p in p_values])
    return [math.nan if math.isnan(p) else q for p, q in zip(p_values, found, strict=True)]


@pytest.mark.parametrize("wrong", [hochberg, bonferroni, without_maximum, nan_counts])
def test_a_wrong_correction_would_be_caught(
    wrong: Callable[[Sequence[float]], list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "holm", wrong)
    caught(test_holm_is_closed_testing)


def test_holm_keeps_the_error_of_a_family_whatever_hangs_together() -> None:
    """Eight true null hypotheses, independent, alike, and opposed: any mark at all in at most 5 % of the families."""
    rng, families = np.random.default_rng(4), 4000
    for share in (0.0, 0.5, 0.99):
        z = math.sqrt(share) * rng.standard_normal((families, 1)) + math.sqrt(1 - share) * rng.standard_normal(
            (families, 8)
        )
        p = 2 * norm.sf(abs(z * np.array([1, -1] * 4)))
        wrong = sum(min(holm(list(row))) < 0.05 for row in p)
        assert wrong / families < 0.05 + 3 * math.sqrt(0.05 * 0.95 / families)


@law(60)
@given(
    st.lists(FINITE, min_size=1, max_size=5),
    st.floats(0.01, 30),
    FINITE,
    st.integers(0, 2**31),
    st.randoms(use_true_random=False),
)
def test_an_interval_moves_with_its_numbers_and_not_with_the_order_of_seeds(
    values: list[float], scale: float, shift: float, seed: int, rng: Any
) -> None:
    spread = np.random.default_rng(seed).normal(0, 1, (len(values), 400))
    draws = np.array(values)[:, None] + spread
    low, high = interval(values, draws)
    assert low <= high
    moved = interval([shift + scale * value for value in values], shift + scale * draws)
    assert moved == pytest.approx((shift + scale * low, shift + scale * high), abs=1e-6, rel=1e-6)
    mirrored = interval([-value for value in values], -draws)
    assert mirrored == pytest.approx((-high, -low), abs=1e-9)
    order = list(range(len(values)))
    rng.shuffle(order)
    assert interval([values[at] for at in order], draws[order]) == pytest.approx((low, high), abs=1e-9)
    images = np.quantile(draws.mean(axis=0), [0.025, 0.975])
    assert low <= images[0] + 1e-9 and high >= images[1] - 1e-9  # seeds never make it narrower


@law(60)
@given(st.lists(FINITE, min_size=2, max_size=6))
def test_without_variation_between_images_an_interval_and_a_p_are_students(values: list[float]) -> None:
    """What is left is the t-test on the seeds, by scipy."""
    assume(np.std(values) > 1e-6 and abs(mean(values)) > 1e-6)
    draws = np.repeat(np.array(values)[:, None], 50, axis=1)
    student = ttest_1samp(values, 0)
    ends = student.confidence_interval(0.95)
    assert interval(values, draws) == pytest.approx((ends.low, ends.high), rel=1e-6, abs=1e-9)
    still = np.concatenate([np.array(values)[:, None], np.zeros((len(values), 10**4))], axis=1)
    assert p_value(values, still) == pytest.approx(max(student.pvalue, 1 / 10_001), rel=1e-5)


def test_a_normal_quantile_for_few_seeds_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "quantile", lambda p, df=math.inf: float(norm.isf(p / 2)))
    caught(test_without_variation_between_images_an_interval_and_a_p_are_students)


def test_a_spread_by_n_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "standard_error", lambda values: float(np.std(values)) / math.sqrt(len(values)))
    caught(test_without_variation_between_images_an_interval_and_a_p_are_students)


@law(60)
@given(st.lists(FINITE, min_size=1, max_size=4), st.floats(0.01, 30), st.integers(0, 2**31))
def test_a_p_value_has_no_unit_no_sign_and_is_never_less_than_the_images_alone_give(
    values: list[float], scale: float, seed: int
) -> None:
    spread = np.random.default_rng(seed).normal(0, 3, (len(values), 300))
    flipped = np.concatenate([np.array(values)[:, None], spread], axis=1)
    p = p_value(values, flipped)
    assert images_p(flipped) <= p + 1e-12 <= 1 + 1e-9
    assert images_p(flipped) >= 1 / 301
    assert p_value([-value for value in values], -flipped) == pytest.approx(p, rel=1e-6)
    assert p_value([scale * value for value in values], scale * flipped) == pytest.approx(p, rel=1e-4)


@law(40)
@given(st.integers(1, 4), st.floats(0.001, 0.2), st.floats(0.01, 5), st.integers(0, 2**31))
def test_what_can_be_seen_grows_with_the_noise_and_with_what_is_asked(
    seeds: int, level: float, noise: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    values = list(rng.normal(0, 1, seeds))
    draws = np.array(values)[:, None] + rng.normal(0, noise, (seeds, 500))
    least = detectable(values, draws, level)
    assert detectable([7 * value for value in values], 7 * draws, level) == pytest.approx(7 * least)
    assert detectable(values, draws, level / 2) > least
    assert detectable(values, draws, level, power=0.95) > least
    wider = draws + rng.normal(0, 3 * noise, (seeds, 500))
    assert detectable(values, wider, level) > least * 0.99
    if seeds == 1:
        assert least == pytest.approx((norm.isf(level / 2) + norm.isf(0.2)) * draws.std(), rel=1e-6)


@law(40)
@given(st.integers(2, 5), st.floats(-9, 9), st.floats(0.1, 9), st.integers(0, 2**31))
def test_what_seeds_have_in_common_is_a_share(seeds: int, shift: float, scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    draws = rng.normal(0, 1, 300) * rng.random() + rng.normal(0, 1, (seeds, 300)) * rng.random()
    share = common(draws)
    assert 0 <= share <= 1 + 1e-9
    assert common(shift + scale * draws) == pytest.approx(share, abs=1e-6)
    assert common(draws[::-1]) == pytest.approx(share)
    assert common(np.repeat(draws[:1], seeds, axis=0)) == pytest.approx(1)


@pytest.mark.parametrize("undefined", [0, 20, 21, 400])
def test_a_metric_that_is_often_undefined_has_no_interval_and_no_test(undefined: int) -> None:
    """Of 400 replicates 20 may be 0/0, not one more; those count against a difference, never for it."""
    draws = np.random.default_rng(0).normal(5, 1, (1, 400))
    draws[0, :undefined] = math.nan
    low, high = interval([5.0], draws)
    assert math.isnan(low) == math.isnan(high) == (undefined > 20)
    flips = np.concatenate([[[50.0]], draws - 5], axis=1)
    p = images_p(flips)
    assert math.isnan(p) if undefined > 20 else p == pytest.approx((1 + undefined) / 401)


@law(60)
@given(
    st.lists(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), min_size=1, max_size=30),
    st.randoms(use_true_random=False),
)
def test_sums_by_image_are_the_same_in_any_order_and_hardly_rounded(rows: list[list[float]], rng: Any) -> None:
    units = [Unit(f"{at}", f"image {at % 7}", {"a": a, "b": b, "c": c}) for at, (a, b, c) in enumerate(rows)]
    sums = Sums.of([units])
    turned = list(units)
    rng.shuffle(turned)
    assert (Sums.of([turned]).parts == sums.parts).all()
    for order in (slice(None), slice(None, None, -1)):
        whole = np.zeros(3)
        for row in sums.parts[order, 0]:
            whole = whole + row
        assert (whole == sums.parts[:, 0].sum(axis=0)).all()
    exact = [math.fsum(unit.parts[name] for unit in units) for name in "abc"]
    bound = max(abs(number) for row in rows for number in row) * len(rows) ** 2 * 1e-14 + 1e-300
    assert np.abs(sums.parts[:, 0].sum(axis=0) - exact).max() <= bound


@law(30)
@given(st.floats(1e-6, 0.9), st.integers(1, 200))
def test_critical_values_are_scipys(p: float, df: int) -> None:
    assert quantile(p) == pytest.approx(norm.isf(p / 2), rel=1e-9)
    assert quantile(p, df) == pytest.approx(t.isf(p / 2, df), rel=1e-6)
    assert quantile(p, df) >= quantile(p) - 1e-12


@law(12)
@given(pairs(images=12), st.randoms(use_true_random=False))
def test_a_set_beside_others_on_other_images_is_drawn_with_them_all(
    sides: tuple[list[Unit], list[Unit]], rng: Any
) -> None:
    """The clusters are those of all sets together, so a set's own order or twin changes no bit of another's."""
    old, new = sides
    far = [Unit(f"far {at}", f"far {at}", {"right": 1.0, "n": 1.0}) for at in range(12)]
    drawn = bootstrap(Accuracy(), Sums.of([old, new, far]), 50)
    turned = bootstrap(Accuracy(), Sums.of([far, new[::-1], old]), 50)
    for one, two in zip(drawn, turned[::-1], strict=True):
        assert np.array_equal(one["acc/percent"], two["acc/percent"], equal_nan=True)
