"""What must not change an estimate, a row or a gate, and what must: laws over made-up comparisons."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from worlds import NINE, SETTING, Accuracy, Pope, run

from harness.contracts.benchmark import Benchmark, Group, Metric, Totals, Unit, ratio
from harness.contracts.row_names import NOISE
from reports import estimates, findings, gate, tabulate
from reports.estimates import Estimate, estimate
from reports.findings import GROUPS, Cell, Findings
from reports.gate import Check, Gate, Verdict
from reports.items import moved
from reports.outcomes import Outcome, measure
from reports.statistics import Sums, interval
from reports.tabulate import build
from reports.totals import RULE
from reports.verdict import verdicts
from tests.laws import caught, law

REPLICATES = 200
SEEDS = st.integers(0, 2**31)


@dataclass(frozen=True)
class Errors(Benchmark):
    """Percent of units that are wrong: the same as `Accuracy`, seen from below."""

    label: ClassVar[str] = "ERR"
    group: ClassVar[Group] = "vqa"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("acc/percent", "errors", (100, 0)),)

    def compute(self, totals: Totals) -> dict[str, Any]:
        return {"acc/percent": 100 - ratio(totals["right"], totals["n"])}


@dataclass(frozen=True)
class Share(Accuracy):
    """The same in shares of one."""

    def compute(self, totals: Totals) -> dict[str, Any]:
        return {"acc/percent": ratio(totals["right"], totals["n"], 1.0)}


def side(rng: np.random.Generator, images: int, level: float) -> list[Unit]:
    """Answers to one to four questions about each image; what an image asks is the same for every side."""
    asked = [1 + image % 4 for image in range(images)]
    return [
        Unit(f"{image}/{at}", f"image {image}", {"right": float(rng.random() < level), "n": 1.0})
        for image in range(images)
        for at in range(asked[image])
    ]


def outcomes(seed: int, seeds: int = 1, images: int = 40) -> list[Outcome]:
    """A baseline and a method, with so many seeds."""
    rng = np.random.default_rng(seed)
    return [
        Outcome(method, method, number, "acc", side(rng, images, level), 0, "")
        for number in range(seeds)
        for method, level in (("baseline", 0.5), ("new", 0.6))
    ]


def figures(found: Estimate) -> tuple[float, ...]:
    """Everything that is printed of it."""
    return found.value, found.delta, found.low, found.high, float(found.n), found.p, found.p_here, found.detectable()


def of(made: Sequence[Outcome], benchmark: Benchmark | None = None) -> dict[str, Estimate]:
    """Method -> estimate of the first metric."""
    found = estimate(benchmark or Accuracy(), made, replicates=REPLICATES)
    return {method: metrics["acc/percent"] for method, metrics in found.items()}


def same(one: Mapping[str, Estimate], other: Mapping[str, Estimate], exactly: bool = True) -> None:
    """The same figures of every method, to the last bit or to rounding."""
    assert one.keys() == other.keys()
    for method, found in one.items():
        mine, theirs = figures(found), figures(other[method])
        if exactly:
            assert all(a == b or (a != a and b != b) for a, b in zip(mine, theirs, strict=True)), (mine, theirs)
        else:
            assert mine == pytest.approx(theirs, nan_ok=True, rel=1e-9, abs=1e-9)


def each(made: Sequence[Outcome], change: Callable[[Unit], Unit]) -> list[Outcome]:
    """Every unit changed."""
    return [replace(outcome, units=[change(unit) for unit in outcome.units]) for outcome in made]


@law(25)
@given(SEEDS, st.integers(1, 3), st.randoms(use_true_random=False))
def test_names_and_order_of_units_rows_and_seeds_are_nothing(seed: int, seeds: int, rng: Any) -> None:
    """To the last bit: units shuffled, questions renamed, outcomes in another order, the method called otherwise."""
    made = outcomes(seed, seeds)
    found = of(made)
    shuffled = [replace(one, units=rng.sample(list(one.units), len(one.units))) for one in made]
    same(of(rng.sample(shuffled, len(shuffled))), found)
    names = [f"q{number}" for number in range(len(made[0].units))]
    rng.shuffle(names)
    renamed = {unit.id: name for unit, name in zip(made[0].units, names, strict=True)}
    same(of(each(made, lambda unit: replace(unit, id=renamed[unit.id]))), found)
    other = [replace(one, method="zebra" if one.method == "new" else one.method, label="x") for one in made]
    same({"new" if name == "zebra" else name: e for name, e in of(other).items()}, found)


@law(25)
@given(SEEDS)
def test_the_same_seed_twice_says_no_more_than_once(seed: int) -> None:
    """The value and p are the same, the interval is that of the images alone, and the second base was no news."""
    once = outcomes(seed)
    twice = [*once, *(replace(outcome, seed=1) for outcome in once)]
    alone, both = of(once)["new"], of(twice)["new"]
    assert (both.value, both.delta, both.p, both.p_here, both.n) == (
        alone.value, alone.delta, alone.p, alone.p_here, alone.n
    )  # fmt: skip
    assert (both.low, both.high) == pytest.approx((alone.low, alone.high))


@law(25)
@given(SEEDS, st.integers(2, 4))
def test_every_question_asked_several_times_is_still_one_image(seed: int, times: int) -> None:
    """Copies of questions within their image move neither value nor interval nor p: images are the sample."""
    made = outcomes(seed)
    copied = [
        replace(one, units=[replace(unit, id=f"{unit.id} {copy}") for unit in one.units for copy in range(times)])
        for one in made
    ]
    found, again = of(made), of(copied)
    for method, before in found.items():
        now = again[method]
        assert now.n == times * before.n
        assert (now.value, now.delta, now.low, now.high, now.p) == pytest.approx(
            (before.value, before.delta, before.low, before.high, before.p), nan_ok=True, rel=1e-9, abs=1e-9
        )


def test_a_bootstrap_of_questions_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant that resamples units makes an interval narrower by copies."""

    class Wrong:
        @staticmethod
        def of(sets: Sequence[Sequence[Unit]]) -> Sums:
            return Sums.of([[replace(unit, cluster=unit.id) for unit in units] for units in sets])

    monkeypatch.setattr(estimates, "Sums", Wrong)
    caught(test_every_question_asked_several_times_is_still_one_image)


@law(15)
@given(SEEDS)
def test_twice_as_many_images_narrow_an_interval_by_the_root_of_two(seed: int) -> None:
    made = outcomes(seed, images=60)
    doubled = [
        replace(one, units=[*one.units, *(replace(u, id=f"{u.id}'", cluster=f"{u.cluster}'") for u in one.units)])
        for one in made
    ]
    before, now = (estimate(Accuracy(), some, replicates=3000)["new"]["acc/percent"] for some in (made, doubled))
    assert now.delta == pytest.approx(before.delta)
    assert (before.high - before.low) / (now.high - now.low) == pytest.approx(math.sqrt(2), rel=0.12)


@law(25)
@given(SEEDS, st.integers(1, 5))
def test_what_has_no_verdict_is_in_no_number(seed: int, lost: int) -> None:
    """An unscored item is counted, never a wrong answer; a unit that only one side has is in no difference."""
    made = outcomes(seed)
    same(of([replace(one, unscored=lost) for one in made]), of(made))
    more = [Unit(f"more {at}", f"image {at}", {"right": 1.0, "n": 1.0}) for at in range(lost)]
    fuller = [replace(one, units=[*one.units, *more]) if one.method == "new" else one for one in made]
    found, now = of(made)["new"], of(fuller)["new"]
    assert (now.delta, now.low, now.high, now.p, now.n) == (found.delta, found.low, found.high, found.p, found.n)
    assert now.value > found.value


def test_a_difference_of_means_over_other_units_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "_paired", lambda sets, before, after: (before, after))
    caught(test_what_has_no_verdict_is_in_no_number)


@law(25)
@given(SEEDS, st.integers(1, 3))
def test_a_metric_that_should_be_low_is_the_mirror_of_one_that_should_be_high(seed: int, seeds: int) -> None:
    made = outcomes(seed, seeds)
    high, low = of(made)["new"], of(made, Errors())["new"]
    assert (low.value, low.delta) == pytest.approx((100 - high.value, -high.delta))
    assert (low.low, low.high) == pytest.approx((-high.high, -high.low))
    assert (low.p, low.p_here) == pytest.approx((high.p, high.p_here))
    assert low.detectable() == pytest.approx(high.detectable())
    share = of(made, Share())["new"]
    assert (share.delta, share.low, share.high) == pytest.approx((high.delta / 100, high.low / 100, high.high / 100))
    assert share.p == pytest.approx(high.p)


@law(25)
@given(SEEDS, st.integers(1, 3))
def test_to_change_places_is_to_change_the_sign(seed: int, seeds: int) -> None:
    made = outcomes(seed, seeds)
    turned = [replace(one, method={"baseline": "new", "new": "baseline"}[one.method]) for one in made]
    found, back = of(made)["new"], of(turned)["new"]
    assert back.delta == pytest.approx(-found.delta)
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low))
    assert back.p == pytest.approx(found.p)


@law(25)
@given(SEEDS, st.sampled_from(["linear", "f1"]), st.integers(0, 60))
def test_a_unit_moves_a_metric_by_what_is_missing_without_it(seed: int, kind: str, at: int) -> None:
    """`moved` against the plain way: score the run once more with that one unit as it was."""
    benchmark: Benchmark = Accuracy() if kind == "linear" else Pope("pope")
    old, new = (outcome.units for outcome in outcomes(seed))
    metric = benchmark.metrics[0].id
    found = moved(benchmark, new, old)
    assert found.keys() == {unit.id for unit in new}
    place = at % len(new)
    swapped = [*new[:place], old[place], *new[place + 1 :]]
    expected = measure(benchmark, new)[metric] - measure(benchmark, swapped)[metric]
    assert found[new[place].id] == pytest.approx(expected, abs=1e-9)
    if kind == "linear":
        whole = measure(benchmark, new)[metric] - measure(benchmark, old)[metric]
        assert math.fsum(found.values()) == pytest.approx(whole, abs=1e-9)


METHODS = [("sft", "Cont. SFT", 0.02), ("nsft", "nSFT", 0.2), ("dpo", "GT-DPO", -0.1)]
WORLD = run(METHODS, images=40, per_image=3)
NAMES = [name for name, *_ in METHODS]


def table(
    made: Sequence[Outcome] = WORLD, methods: Sequence[str] = NAMES, benchmarks: Mapping[str, Benchmark] = NINE
) -> Findings:
    return build(made, benchmarks, methods, SETTING)


def cells(found: Findings) -> dict[tuple[str, str], Cell]:
    """(row, column's metric or group) -> cell."""
    return {
        (row.method, column.metric if column.metric != "total" else column.group): cell
        for row in found.rows
        for column, cell in zip(found.columns, row.cells, strict=True)
    }


WHOLE = table()


def plain(cell: Cell) -> tuple[Any, ...]:
    """A cell to compare, its dashes equal to one another."""
    values = (cell.value, cell.delta, cell.low, cell.high, cell.p_holm, cell.detectable, cell.coverage)
    return (*(None if value != value else value for value in values), cell.n, cell.unscored, cell.withheld)


@law(4)
@given(st.permutations(NAMES), st.randoms(use_true_random=False))
def test_a_table_knows_no_order_but_that_of_its_rows(names: list[str], rng: Any) -> None:
    found = table(rng.sample(WORLD, len(WORLD)), names)
    assert [row.method for row in found.rows] == ["baseline", *names]
    assert {at: plain(cell) for at, cell in cells(found).items()} == {at: plain(c) for at, c in cells(WHOLE).items()}
    assert set(found.notes) == set(WHOLE.notes) or names != NAMES


def test_every_difference_is_the_value_less_the_baselines_and_every_total_the_papers_sum() -> None:
    known = cells(WHOLE)
    for (row, metric), cell in known.items():
        if metric in GROUPS or row == "baseline":
            continue
        assert cell.delta == pytest.approx(cell.value - known["baseline", metric].value, abs=1e-9)
        assert cell.low <= cell.delta <= cell.high or (cell.delta == 0 and cell.low != cell.low)
    first = {name: benchmark.metrics[0].id for name, benchmark in NINE.items()}
    for group, rule in RULE.items():
        for row in NAMES:
            by_hand = sum(weight * known[row, first[name]].delta for name, weight in rule.items())
            assert known[row, group].delta == pytest.approx(by_hand, abs=1e-9)


def test_a_total_has_the_interval_of_independent_terms() -> None:
    """SQA, GQA and VQA^T are asked about images of the same names here, so they are resampled together: by hand."""
    made = [one for one in WORLD if one.method in ("baseline", "nsft")]
    draws, deltas = np.zeros(2000), 0.0
    for name, weight in RULE["hallucination"].items():
        found = estimate(NINE[name], [o for o in made if o.benchmark == name])["nsft"]
        one = found[NINE[name].metrics[0].id]
        draws, deltas = draws + weight * one.draws[0], deltas + weight * one.delta
    cell = cells(WHOLE)["nsft", "hallucination"]
    assert (cell.low, cell.high) == pytest.approx(interval([deltas], draws[None]))


def test_a_total_that_adds_up_intervals_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "WHOLE", replace_totals(WHOLE))
    caught(test_a_total_has_the_interval_of_independent_terms)


def replace_totals(found: Findings) -> Findings:
    """A mutant: a total's ends are the sums of its terms' ends."""
    rows = []
    for row in found.rows:
        known = dict(zip(found.columns, row.cells, strict=True))
        made = [
            cell if column.metric != "total" else replace(cell, **_ends(column.group, known))
            for column, cell in known.items()
        ]
        rows.append(replace(row, cells=tuple(made)))
    return replace(found, rows=tuple(rows))


def _ends(group: Group, known: Mapping[Any, Cell]) -> dict[str, float]:
    terms = {column.benchmark: cell for column, cell in known.items() if not column.beside and column.metric != "total"}
    return {end: sum(abs(w) * getattr(terms[name], end) for name, w in RULE[group].items()) for end in ("low", "high")}


def test_a_row_more_only_makes_marks_harder() -> None:
    fewer, known = cells(table(methods=NAMES[:2])), cells(WHOLE)
    for at, cell in fewer.items():
        now = known[at]
        assert (cell.value, cell.n) == (now.value, now.n) or cell.value != cell.value
        assert (cell.low, cell.high, cell.delta) == pytest.approx((now.low, now.high, now.delta), nan_ok=True)
        if cell.p_holm == cell.p_holm:
            assert now.p_holm >= cell.p_holm - 1e-12
            assert now.detectable >= cell.detectable - 1e-12 or now.detectable != now.detectable


def test_a_control_is_no_comparison_and_costs_nobody_a_mark() -> None:
    """The noise floor stands in the table; Holm's family and every other row are as without it."""
    noise = [replace(one, method=NOISE, label="noise floor") for one in WORLD if one.method == "baseline"]
    found = table([*WORLD, *noise], [*NAMES, NOISE])
    known = cells(found)
    assert all(plain(known[at]) == plain(cell) for at, cell in cells(WHOLE).items())
    assert all(cell.p_holm != cell.p_holm for (row, _), cell in known.items() if row == NOISE)
    assert [one.method for one in verdicts(found)] == NAMES


def test_a_control_in_holms_family_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tabulate, "CONTROLS", ())
    caught(test_a_control_is_no_comparison_and_costs_nobody_a_mark)


@law(20)
@given(st.sets(st.sampled_from(list(NINE)), min_size=1), st.sets(st.sampled_from(NAMES), min_size=1), st.data())
def test_a_table_of_what_is_there_never_fails_and_every_score_is_told_once(
    names: set[str], methods: set[str], data: st.DataObject
) -> None:
    """Any cells missing, unscored or few: each scored column of a row is in exactly one place of its verdict."""
    made = []
    for one in WORLD:
        if one.benchmark not in names or one.method not in {"baseline", *methods}:
            continue
        fate = data.draw(st.sampled_from(["whole"] * 6 + ["gone", "unscored", "few", "none"]))
        if fate != "gone":
            lost = {"unscored": 9}.get(fate, 0)
            made.append(replace(one, units={"few": one.units[:6], "none": []}.get(fate, one.units), unscored=lost))
    benchmarks = {name: NINE[name] for name in NINE if name in names}
    found = build(made, benchmarks, sorted(methods), SETTING, 20)
    assume(found.rows)
    scored = [column.label for column in found.columns if column.scored]
    for one in verdicts(found):
        told = [name for name, _ in (*one.better, *one.worse)] + [*one.unresolved, *one.untested]
        assert sorted(told) == sorted(scored)
        assert one.parts or not scored
    for row in found.rows:
        for column, cell in zip(found.columns, row.cells, strict=True):
            assert not (cell.withheld and cell.value == cell.value)
            assert cell.low != cell.low or cell.low < cell.high
            assert cell.p_holm != cell.p_holm or column.metric != "total"
            if column.scored and cell.resolved:
                assert column.outcome(cell) == ("better" if (cell.delta > 0) != column.lower else "worse")


def test_an_outcome_that_forgets_what_is_better_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(cell: Cell, lower: bool, scored: bool = True) -> str:
        return ("better" if cell.delta > 0 else "worse") if cell.resolved else ""

    assert any(
        column.outcome(cell) for row in WHOLE.rows for column, cell in zip(WHOLE.columns, row.cells, strict=True)
    )
    marks = {
        (r.method, c.metric): c.outcome(x) for r in WHOLE.rows for c, x in zip(WHOLE.columns, r.cells, strict=True)
    }
    assert marks["nsft", "chair/mean_is@listed"] == "better"  # it fell
    monkeypatch.setattr(findings, "outcome", wrong)
    now = {(r.method, c.metric): c.outcome(x) for r in WHOLE.rows for c, x in zip(WHOLE.columns, r.cells, strict=True)}
    assert now != marks


ORDER = [Verdict.REGRESSED, Verdict.INCONCLUSIVE, Verdict.PASSED]


@law(200)
@given(st.floats(-20, 20), st.floats(0, 10), st.floats(0, 10), st.floats(0, 1), st.floats(0, 8), st.floats(0, 8))
def test_a_gate_is_monotone_in_its_margin_and_blind_to_the_direction(
    centre: float, below: float, above: float, p: float, margin: float, more: float
) -> None:
    """A wider margin never makes a verdict worse; a mirrored metric has the same one; a better interval too."""
    high, low = Accuracy().metrics[0], Errors().metrics[0]
    found = Estimate(50.0, centre - below, centre + above, 100, p=p, deltas={0: centre})
    mirrored = replace(found, low=-found.high, high=-found.low, deltas={0: -centre})
    told = gate.judge("row", high, 50.0, found, margin).verdict
    assert gate.judge("row", low, 50.0, mirrored, margin).verdict == told
    assert ORDER.index(gate.judge("row", high, 50.0, found, margin + more).verdict) >= ORDER.index(told)
    lifted = replace(found, low=found.low + more, high=found.high + more, deltas={0: centre + more})
    assert ORDER.index(gate.judge("row", high, 50.0, lifted, margin).verdict) >= ORDER.index(told)
    if told == Verdict.REGRESSED:
        assert centre < -margin and p < 0.05
    if told == Verdict.PASSED:
        assert centre >= -margin


def by_the_value(label: str, metric: Metric, accepted: float, now: Estimate, margin: float) -> Check:
    """A mutant: higher is always better."""
    verdict = Verdict.REGRESSED if now.high < -margin and now.p < 0.05 else Verdict.PASSED
    return Check(label, metric.id, verdict if now.low < -margin else Verdict.PASSED, "")


def test_a_gate_that_forgets_the_direction_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "judge", by_the_value)
    caught(test_a_gate_is_monotone_in_its_margin_and_blind_to_the_direction)


@law(150)
@given(st.lists(st.sampled_from(list(Verdict)), max_size=6), st.booleans())
def test_the_exit_status_is_that_of_the_worst_check(told: list[Verdict], strict: bool) -> None:
    made = Gate(tuple(Check("r", "w", one, "") for one in told), (), (), strict)
    bad = {Verdict.REGRESSED, Verdict.OVER} | ({Verdict.INCONCLUSIVE} if strict else set())
    assert made.status == (1 if bad & set(told) else 3 if Verdict.INCOMPLETE in told else 0)
    assert made.status == replace(made, checks=made.checks[::-1]).status
