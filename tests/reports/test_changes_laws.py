"""`harness diff` of any two rows of any two runs: what one says, the other way round says with the other sign.

The runs differ in what may differ: seeds, questions, verdicts that are missing, skill. What is compared is found again
here by reading the stores' files.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import changes as module
from reports.changes import Changes, Side, changes, paired
from reports.findings import Cell
from reports.runs import Run, opened
from tests.fake_run import FakeRun, drawn
from tests.laws import caught, law

PLAIN = drawn({"baseline": 0.5, "dpo": 0.75, "sft": 0.45}, items=14)
ASKED = {f"{image}/{number}": "asked otherwise" for image, number in product(range(3), range(4))}
POOL: tuple[FakeRun, ...] = (
    PLAIN,
    replace(PLAIN, skill={"baseline": 0.5, "dpo": 0.6}),
    replace(PLAIN, seeds=(0, 1)),
    replace(PLAIN, seeds=(1, 2), skill={"baseline": 0.55, "dpo": 0.7}),
    replace(PLAIN, questions=ASKED),
    replace(PLAIN, unscored=1, skill={"baseline": 0.5, "dpo": 0.8}),
    replace(PLAIN, unscored=9),
    replace(PLAIN, judge="oracle:2"),
    replace(PLAIN, benchmarks=("sqa",), skill={"baseline": 0.4, "dpo": 0.9}),
)
RUNS: list[Run] = []
SIDE = st.tuples(st.integers(0, len(POOL) - 1), st.sampled_from(["baseline", "dpo"]))


@pytest.fixture(scope="module", autouse=True)
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    home = tmp_path_factory.mktemp("runs")
    with opened([made.write(home / str(number)) for number, made in enumerate(POOL)]) as found:
        RUNS[:] = found
        yield


def side(of: tuple[int, str]) -> Side:
    return Side(RUNS[of[0]], of[1])


def cells(found: Changes) -> dict[str, Cell]:
    """The first pair's cells by metric."""
    return {
        column.metric: cell for column, cell in zip(found.findings.columns, found.findings.rows[0].cells, strict=True)
    }


def same(one: float, other: float) -> bool:
    return one == pytest.approx(other, abs=1e-9, nan_ok=True)


@law(60)
@given(SIDE, SIDE)
def test_the_other_way_round_is_the_other_sign_in_every_figure(one: tuple[int, str], other: tuple[int, str]) -> None:
    there, back = changes({"x": (side(one), side(other))}), changes({"x": (side(other), side(one))})
    assert there.why.keys() == back.why.keys()
    for metric, cell in cells(there).items():
        turned = cells(back)[metric]
        assert same(cell.delta, -turned.delta) and same(cell.low, -turned.high) and same(cell.high, -turned.low)
        assert same(cell.p_holm, turned.p_holm) and cell.n == turned.n and same(cell.detectable, turned.detectable)
        if not math.isnan(cell.delta):
            assert same(there.before["x", metric], turned.value) and same(back.before["x", metric], cell.value)
            assert same(cell.value - turned.value, cell.delta)
    for name, moved in there.moved.items():
        assert (moved.better, moved.worse) == (back.moved[name].worse, back.moved[name].better)


def read(of: Side, benchmark: str) -> dict[int, tuple[dict[str, Any], dict[str, str]]]:
    """By seed: the units by id, and what each was asked, from the files themselves."""
    found = {}
    for seed, cell in of.cells(benchmark).items():
        units = json.loads((cell.store / cell.score / "units.json").read_text())["units"]
        lines = (cell.store / cell.items / "items.jsonl").read_text().splitlines()
        items = [json.loads(line) for line in lines]
        found[seed] = {unit["id"]: unit for unit in units}, {item["id"]: item["prompt"] for item in items}
    return found


@law(60)
@given(SIDE, SIDE, st.sampled_from(["sqa", "mmhal"]))
def test_what_is_compared_is_what_both_were_asked_and_both_have_verdicts_on(
    one: tuple[int, str], other: tuple[int, str], name: str
) -> None:
    known = RUNS[one[0]].benchmarks()
    if name not in known or name not in RUNS[other[0]].benchmarks():
        return
    pair = paired(side(one), side(other), name, known[name])
    mine, theirs = read(side(one), name), read(side(other), name)
    if pair.why:
        assert not pair.before and not pair.after
        return
    seeds = sorted(mine.keys() & theirs.keys())
    assert [outcome.seed for outcome in pair.before] == [outcome.seed for outcome in pair.after] == seeds
    for seed, old, new in zip(seeds, pair.before, pair.after, strict=True):
        (units, asked), (others, asked_there) = mine[seed], theirs[seed]
        both = {id for id in units.keys() & others.keys() if asked[id] == asked_there[id]}
        assert {unit.id for unit in old.units} == {unit.id for unit in new.units} == both
        assert all(dict(unit.parts) == units[unit.id]["parts"] for unit in old.units)
        assert all(dict(unit.parts) == others[unit.id]["parts"] for unit in new.units)
    whole = min(len(units) for units, _ in (*mine.values(), *theirs.values()))
    assert ("units, which are the same" in pair.note) or min(len(old.units) for old in pair.before) == whole


@law(40)
@given(SIDE, SIDE, SIDE)
def test_a_second_pair_takes_marks_away_and_no_figure(
    one: tuple[int, str], other: tuple[int, str], third: tuple[int, str]
) -> None:
    """Each difference that is shown is a test more; nothing else of the first pair changes."""
    pair = side(one), side(other)
    alone, beside = cells(changes({"x": pair})), cells(changes({"x": pair, "y": (side(one), side(third))}))
    for metric, cell in alone.items():
        again = beside[metric]
        assert replace(again, p_holm=0, detectable=0) == replace(cell, p_holm=0, detectable=0) or math.isnan(cell.delta)
        assert again.p_holm >= cell.p_holm or math.isnan(cell.p_holm)
        assert again.detectable >= cell.detectable or math.isnan(cell.detectable)


@pytest.mark.parametrize("number", range(len(POOL)))
def test_a_row_with_itself_is_no_comparison(number: int) -> None:
    found = changes({"x": (side((number, "dpo")), side((number, "dpo")))})
    assert set(found.why.values()) == {"the very same scores in both"} and not found.moved


@pytest.mark.parametrize(("one", "other", "why"), [(0, 7, "judges differ"), (0, 6, ""), (2, 3, ""), (0, 3, "no seed")])
def test_what_cannot_be_compared_says_so_either_way(one: int, other: int, why: str) -> None:
    for first, second in ((one, other), (other, one)):
        found = changes({"x": (side((first, "dpo")), side((second, "dpo")))})
        assert why in found.why.get(("x", "mmhal"), "")
        assert why == "" or ("x", "mmhal") not in found.moved


def by_ids(one: Any, other: Any, old: Any, new: Any) -> set[str]:
    """A mutant: what has one id is one question."""
    return {unit.id for unit in old.units} & {unit.id for unit in new.units}


def one_way(benchmark: Any, new: Any, old: Any) -> dict[str, float]:
    """A mutant: whatever moved got better."""
    return {unit: abs(value) for unit, value in real_moved(benchmark, new, old).items()}


real_moved = module.moved


@pytest.mark.parametrize(
    ("name", "wrong", "law_of"),
    [
        ("_shared", by_ids, test_what_is_compared_is_what_both_were_asked_and_both_have_verdicts_on),
        ("moved", one_way, test_the_other_way_round_is_the_other_sign_in_every_figure),
        ("holm", lambda values: [p / len(values) for p in values], test_a_second_pair_takes_marks_away_and_no_figure),
    ],
)
def test_another_idea_of_a_difference_would_be_caught(
    name: str, wrong: Any, law_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, wrong)
    caught(law_of)
