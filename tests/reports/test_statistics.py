"""Intervals and tests by hand and by simulation, several seeds, and what they refuse; see also test_validity."""

import math
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom, norm
from worlds import NINE, SETTING, Accuracy, Pope, run

from harness.contracts.benchmark import Benchmark, Unit
from reports import results, statistics
from reports.estimates import Estimate, estimate
from reports.outcomes import Outcome, measure
from reports.statistics import Sums, bootstrap, common, detectable, holm, interval, p_value, sign_flip
from reports.tabulate import build

Units = Sequence[Unit]
WORLDS = 300
REPLICATES = 400


def world(
    rng: np.random.Generator, gain: float, images: int = 100, per_image: int = 4
) -> tuple[list[Unit], list[Unit]]:
    """A baseline and a method on the same questions.

    On 3 images of 5 both say the same (so pairing matters); on the others each is on its own, nearly all right or
    nearly all wrong (so clustering matters for the difference). The method is `gain` better in expectation.
    """
    same = rng.random((images, 1)) < 0.6
    shared = rng.random((images, per_image)) < rng.choice([0.1, 0.9], (images, 1))
    sides = []
    for more in (0.0, gain / 0.4):
        level = np.where(rng.random((images, 1)) < 0.5 + more / 0.8, 0.9, 0.1)
        right = np.where(same, shared, rng.random((images, per_image)) < level)
        parts = [(i, q, {"right": float(right[i, q]), "n": 1.0}) for i in range(images) for q in range(per_image)]
        sides.append([Unit(f"{i}/{q}", f"{i}", values) for i, q, values in parts])
    return sides[0], sides[1]


def outcomes(*pairs: tuple[Units, Units]) -> list[Outcome]:
    """One seed per pair."""
    return [
        Outcome(method, method, seed, "acc", units, 0, "")
        for seed, pair in enumerate(pairs)
        for method, units in zip(("baseline", "new"), pair, strict=True)
    ]


def honest(old: Units, new: Units) -> tuple[float, float, float]:
    """(low, high, p) as the report has them."""
    found = estimate(Accuracy(), outcomes((old, new)), replicates=REPLICATES)["new"]["acc/percent"]
    return found.low, found.high, found.p


def test_an_interval_holds_a_true_gain_and_the_test_finds_it() -> None:
    """Where the method is 5 points better; validity where nobody is better has a file of its own."""
    rng = np.random.default_rng(7)
    found = [honest(*world(rng, 0.05)) for _ in range(WORLDS)]
    assert 0.92 <= np.mean([low <= 5 <= high for low, high, _ in found]) <= 0.98
    assert np.mean([p < 0.05 for *_, p in found]) > 0.1


def test_seeds_are_a_source_of_variation_of_their_own() -> None:
    """Each base model shifts the difference: only the interval that knows it covers zero."""
    rng = np.random.default_rng(3)
    knowing, ignorant, positive = [], [], []
    for _ in range(200):
        pairs = [world(rng, float(shift), images=40, per_image=3) for shift in rng.normal(0, 0.08, size=3)]
        found = estimate(Accuracy(), outcomes(*pairs), replicates=300)["new"]["acc/percent"]
        low, high = interval([found.delta], found.draws.mean(axis=0, keepdims=True))
        knowing.append(found.low <= 0 <= found.high)
        ignorant.append(low <= 0 <= high)
        positive.append(found.p < 0.05)
    assert np.mean(knowing) > 0.92
    assert np.mean(ignorant) < 0.90
    assert np.mean(positive) < 0.09


def test_p_and_interval_agree_with_several_seeds() -> None:
    """The interval at the level p has its end at zero, by hand: t(p) and z(p) in quadrature."""
    from scipy.stats import t

    deltas = [1.0, 2.0, 3.0]
    moved = np.random.default_rng(0).normal(0, 0.3, 4000)
    p = p_value(deltas, np.stack([np.concatenate([[delta], moved]) for delta in deltas]))
    image, seed = moved.std(), 1 / math.sqrt(3)
    assert math.hypot(norm.isf(p / 2) * image, t.isf(p / 2, 2) * seed) == pytest.approx(2.0)
    low, high = interval(deltas, np.array([[1.5, 2.5] * 50] * 3))
    assert (2 - low) ** 2 == pytest.approx(0.5**2 + (4.302653 * seed) ** 2, rel=1e-6)
    assert high - 2 == pytest.approx(2 - low)


def test_seeds_that_agree_never_say_more_than_the_images_do() -> None:
    one = np.concatenate([[2.0], np.random.default_rng(0).normal(0, 1.0, 999)])[None]
    alone, three = float((np.abs(one) >= 2).mean()), np.repeat(one, 3, axis=0)
    assert p_value([2.0], one) == p_value([2.0] * 3, three) == alone
    assert p_value([2.0, 2.0 + 1e-9, 2.0 - 1e-9], three) == pytest.approx(alone, rel=0.2)
    assert p_value([1.0, 2.0, 3.0], three) > alone
    assert interval([2.0] * 3, 2 + three) == pytest.approx(2 + np.quantile(one, [0.025, 0.975]))


def test_no_variance_counts_twice() -> None:
    """What images do to one seed alone is in the seeds' standard deviation already: c = .25, a = 3, n = 3."""
    rng = np.random.default_rng(0)
    draws = rng.normal(0, 0.5, 20_000) + rng.normal(0, math.sqrt(3), (3, 20_000))
    assert common(draws) == pytest.approx(math.sqrt(0.25 / (0.25 + 3 / 3)), abs=0.02)
    assert common(draws[:1]) == 1.0
    assert common(rng.normal(0, 1, (3, 20_000))) == pytest.approx(0.0, abs=0.1)
    assert common(np.repeat(draws[:1], 3, axis=0)) == pytest.approx(1.0)


@pytest.mark.parametrize("tau", [0.0, 1.0, 5.0])
def test_several_seeds_cry_wolf_no_more_often_than_they_say(tau: float) -> None:
    """Base models shift the difference by `tau` standard errors: p is not too small, far out (for Holm) neither."""
    rng, worlds = np.random.default_rng(5), 4000
    moved = norm.ppf((np.arange(1000) + 0.5) / 1000)
    deltas = rng.normal(0, 1, (worlds, 1)) + rng.normal(0, tau, (worlds, 3))
    p = np.array([p_value(list(d), np.concatenate([d[:, None], np.tile(moved, (3, 1))], axis=1)) for d in deltas])
    for level in (0.05, 0.005):
        assert (p < level).sum() <= binom.ppf(0.999, worlds, level)


def test_the_detectable_difference_is_found_in_four_of_five_comparisons() -> None:
    """At one seed z(.975) + z(.8) = 2.80 standard errors; with 3 seeds, simulated."""
    rng = np.random.default_rng(1)
    moved = rng.normal(0, 1, 2000)
    assert detectable([0.0], moved[None]) == pytest.approx(2.80 * moved.std(), abs=0.01)
    assert math.isnan(detectable([0.0], np.zeros((1, 9))))
    found = []
    for _ in range(2000):
        deltas = list(rng.normal(0, 1) + rng.normal(0, 1, 3))
        least = detectable(deltas, np.tile(moved, (3, 1)))
        flips = np.concatenate([np.array(deltas)[:, None] + least, np.tile(moved, (3, 1))], axis=1)
        found.append(p_value([d + least for d in deltas], flips) < 0.05)
    assert 0.75 < np.mean(found) < 0.95


def all_right(images: int, questions: int = 1) -> tuple[list[Unit], list[Unit]]:
    """A baseline that is wrong on every question, and a method that is right."""
    ids = [(f"{image}/{q}", f"{image}") for image in range(images) for q in range(questions)]
    old = [Unit(id, image, {"right": 0.0, "n": 1.0}) for id, image in ids]
    return old, [replace(unit, parts={"right": 1.0, "n": 1.0}) for unit in old]


@pytest.mark.parametrize("images", [1, 2, 4, 9])
def test_few_images_have_a_value_and_neither_interval_nor_test(images: int) -> None:
    """Of two images 40 to 50 % of "95 %" intervals hold what they should; of one it was "100.0 [100.0, 100.0]"."""
    for pairs in ([all_right(images, 5)], [all_right(images, 5)] * 3):
        found = estimate(Accuracy(), outcomes(*pairs), replicates=50)
        assert (found["baseline"]["acc/percent"].value, found["new"]["acc/percent"].value) == (0, 100)
        assert found["new"]["acc/percent"].delta == 100
        for one in (found["baseline"]["acc/percent"], found["new"]["acc/percent"]):
            assert all(math.isnan(x) for x in (one.low, one.high, one.p, one.p_here, one.detectable()))


def test_an_interval_of_few_images_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "LEAST", 9)
    test_few_images_have_a_value_and_neither_interval_nor_test(4)
    with pytest.raises(AssertionError):
        test_few_images_have_a_value_and_neither_interval_nor_test(9)


def test_ten_images_have_an_interval_and_a_test() -> None:
    old, new = all_right(10)
    found = estimate(Accuracy(), outcomes((old, old[:5] + new[5:])), replicates=400)["new"]["acc/percent"]
    assert found.low < found.delta == 50 < found.high
    assert found.p == pytest.approx(2 / 2**5, abs=0.03)  # five images moved, all one way


def test_one_image_asked_often_is_one_image() -> None:
    """The units' number is no number of images."""
    found = estimate(Accuracy(), outcomes(all_right(1, 40)), replicates=50)["new"]["acc/percent"]
    assert math.isnan(found.low) and found.n == 40


def test_equal_answers_differ_by_nothing() -> None:
    old, _ = world(np.random.default_rng(0), 0.0)
    for pairs in ([(old, old)], [(old, old)] * 3):
        found = estimate(Accuracy(), outcomes(*pairs), replicates=200)["new"]["acc/percent"]
        assert (found.delta, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_holm_by_hand() -> None:
    """Sorted: .005 * 4 = .02, .01 * 3 = .03, .03 * 2 = .06, .04 * 1 -> .06 (never below the one before)."""
    assert holm([0.01, 0.04, math.nan, 0.03, 0.005]) == pytest.approx([0.03, 0.06, math.nan, 0.06, 0.02], nan_ok=True)
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_order_and_thread_count_do_not_show() -> None:
    """Thirds have no exact sum in floating point; the bits are the same for every order all the same."""
    rng = random.Random(0)
    units = [Unit(f"{i}", f"{i // 3}", {"right": (i % 4) / 3, "n": 1.0}) for i in range(300)]
    reference = bootstrap(Accuracy(), Sums.of([units]), 50)[0]["acc/percent"]
    for _ in range(5):
        rng.shuffle(units)
        assert (bootstrap(Accuracy(), Sums.of([units]), 50)[0]["acc/percent"] == reference).all()
    sums = Sums.of([units])
    rows = rng.sample(range(len(sums.clusters)), len(sums.clusters))
    assert (sums.parts.sum(axis=0) == sums.parts[rows][::-1].cumsum(axis=0)[-1]).all()


def test_bootstrap_is_the_multinomial_one() -> None:
    """Mean of the replicates near the value, spread near the formula for clusters: sd of image means / sqrt(images)."""
    old, _ = world(np.random.default_rng(5), 0.0, images=200)
    drawn = bootstrap(Accuracy(), Sums.of([old]), 4000)[0]["acc/percent"]
    right = np.array([unit.parts["right"] for unit in old]).reshape(200, 4)
    assert drawn.mean() == pytest.approx(100 * right.mean(), abs=0.15)
    assert drawn.std() == pytest.approx(100 * right.mean(axis=1).std() / math.sqrt(200), rel=0.05)


@pytest.mark.parametrize("mutant", [False, True])
def test_replicates_are_drawn_once_for_all_rows(monkeypatch: pytest.MonkeyPatch, mutant: bool) -> None:
    """Of a benchmark, for its estimates and again for its results; the mutant draws them for each row."""
    outcomes = [one for one in run([("sft", "SFT", 0.1), ("dpo", "DPO", 0.2)])
                if one.benchmark == "pope"]  # fmt: skip
    draws, drawn = list[str](), statistics._generator
    monkeypatch.setattr(statistics, "_generator", lambda name, *told: draws.append(name) or drawn(name, *told))
    if mutant:
        monkeypatch.setattr(results, "bootstrap", lambda benchmark, sums, replicates: [
            bootstrap(benchmark, sums, replicates)[place] for place in range(len(sums.images))])  # fmt: skip
    estimate(Pope("pope"), outcomes, replicates=50)
    list(results.results_rows(outcomes, {"pope": Pope("pope")}, SETTING, 50))
    assert draws.count("bootstrap") == (1 + len(outcomes) if mutant else 2)


def test_benchmarks_over_the_same_images_are_resampled_together() -> None:
    old, _ = world(np.random.default_rng(5), 0.0)
    one, two = (bootstrap(b, Sums.of([old]), 50)[0] for b in (Accuracy(), Pope("pope")))
    assert (np.argsort(one["acc/percent"], kind="stable") == np.argsort(two["pope/f1_macro3"], kind="stable")).all()


def test_sign_flip_starts_with_the_difference_observed() -> None:
    old, new = world(np.random.default_rng(5), 0.1)
    flipped = sign_flip(Pope("pope"), Sums.of([old, new]), [(0, 1)], 100)[0]["pope/f1_macro3"]
    assert flipped.shape == (101,)
    assert flipped[0] == pytest.approx(
        measure(Pope("pope"), new)["pope/f1_macro3"] - measure(Pope("pope"), old)["pope/f1_macro3"]
    )


def test_common_units_only_are_compared() -> None:
    old, new = world(np.random.default_rng(5), 0.1, images=50)
    found = estimate(Accuracy(), outcomes((old[6:], new[:-12])), replicates=100)["new"]["acc/percent"]
    assert found.n == 200 - 18
    common = [measure(Accuracy(), units)["acc/percent"] for units in (old[6:-12], new[6:-12])]
    assert found.delta == pytest.approx(common[1] - common[0])
    assert found.value == measure(Accuracy(), new[:-12])["acc/percent"]


@pytest.mark.parametrize("units", [[], [Unit("a", "a", {"right": 0.0, "n": 0.0})]])
def test_a_metric_that_is_not_defined_is_nan_everywhere(units: list[Unit]) -> None:
    found = estimate(Accuracy(), outcomes((units, units)), replicates=20)["new"]["acc/percent"]
    assert all(math.isnan(x) for x in (found.value, found.delta, found.low, found.high, found.p))


def test_a_seed_without_a_baseline_has_a_value_and_no_difference() -> None:
    old, new = world(np.random.default_rng(5), 0.1, images=30)
    alone = [o for o in outcomes((old, new)) if o.method == "new"]
    found: Estimate = estimate(Accuracy(), alone, replicates=50)["new"]["acc/percent"]
    assert found.low < found.value < found.high
    assert math.isnan(found.delta) and math.isnan(found.p)


def test_wrong_units_are_refused() -> None:
    old, new = world(np.random.default_rng(5), 0.1, images=3)
    with pytest.raises(ValueError, match="twice"):
        estimate(Accuracy(), outcomes((old, [*new, new[0]])))
    with pytest.raises(ValueError, match="another image"):
        estimate(Accuracy(), outcomes((old, [replace(unit, cluster="x") for unit in new])))
    with pytest.raises(ValueError, match="two outcomes"):
        estimate(Accuracy(), [*outcomes((old, new)), *outcomes((old, new))])


def test_a_large_comparison_takes_seconds() -> None:
    """4 methods, 9 benchmarks, 3 seeds, 3,000 units of 500 images each."""
    methods = [(name, name, 0.01 * place) for place, name in enumerate("abcd")]
    made, benchmarks = run(methods, seeds=(0, 1, 2), images=500, per_image=6), dict[str, Benchmark](NINE)
    began = time.process_time()
    build(made, benchmarks, list("abcd"), SETTING)
    assert time.process_time() - began < 5


def test_the_import_is_light() -> None:
    code = "import sys, reports.terminal, reports.results; print([m for m in ('torch', 'scipy') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
