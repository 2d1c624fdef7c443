"""`harness diff`: the figures of the runs' own tables on the items that both have, and no claim beyond them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.system.errors import UsageError
from reports import changes
from reports.report import Measured
from reports.runs import opened
from tests.commands.conftest import Said
from tests.fake_run import FakeRun, drawn

DPO = drawn({"baseline": 0.6, "dpo": 0.8})
Figures = dict[tuple[str, str], dict[str, Any]]


def diff(harness: Said, *words: object) -> tuple[Figures, dict[str, Any]]:
    """(row, metric) -> what is told of it, and the whole."""
    told = json.loads(harness("diff", *words, "--json"))
    return {(one["row"], one["metric"]): one for one in told["changes"]}, told


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_a_row_against_the_baseline_is_what_the_table_says(harness: Said, tmp_path: Path, seeds: tuple[int]) -> None:
    run = replace(DPO, seeds=seeds).write(tmp_path)
    with opened([run]) as (opened_run,):
        table = Measured.of(opened_run).findings
    found, _ = diff(harness, f"{run}:baseline", f"{run}:dpo")
    for column, old, new in zip(table.columns, table.rows[0].cells, table.rows[1].cells, strict=True):
        one = found["baseline -> dpo", column.metric]
        figures = (one["a"], one["b"], one["difference"], one["low"], one["high"], one["p_holm"], one["resolved"])
        assert figures == (old.value, new.value, new.delta, new.low, new.high, new.p_holm, new.resolved)


def test_the_other_way_round_has_the_other_sign(harness: Said, tmp_path: Path) -> None:
    run = DPO.write(tmp_path)
    there, _ = diff(harness, f"{run}:baseline", f"{run}:dpo")
    back, _ = diff(harness, f"{run}:dpo", f"{run}:baseline")
    one, other = there["baseline -> dpo", "sqa/img"], back["dpo -> baseline", "sqa/img"]
    assert one["difference"] == -other["difference"] != 0
    assert (one["better"], one["worse"]) == (other["worse"], other["better"])
    assert one["right_or_wrong"] and len(one["better"]) > len(one["worse"])


def test_two_runs_are_compared_row_by_row(harness: Said, tmp_path: Path) -> None:
    one, other = (
        DPO.write(tmp_path / "a"),
        replace(DPO, skill={"baseline": 0.6, "dpo": 0.5, "sft": 0.7}).write(tmp_path / "b"),
    )
    found, told = diff(harness, one, other)
    assert found["dpo", "sqa/img"]["difference"] < 0 and found["dpo", "sqa/img"]["resolved"]
    assert found["the baseline", "sqa/img"]["difference"] in (None, 0)
    assert told["only"] == [f"{other}: sft"]


def test_one_run_twice_has_no_difference(harness: Said, tmp_path: Path) -> None:
    run = DPO.write(tmp_path)
    shown = harness("diff", run, run)
    assert "settings: no difference found" in shown
    assert "dpo: not compared: the very same scores in both" in shown and "Holm" not in shown


def test_settings_are_told_with_both_values(harness: Said, tmp_path: Path) -> None:
    settings = {"packages": {"torch": "2.1"}, "setting": {"training": {"epochs": 1}}}
    one = replace(DPO, options={"beta": 0.1}, spoilt=settings).write(tmp_path / "a")
    settings = {"packages": {"torch": "2.2"}, "setting": {}}
    other = replace(DPO, options={"beta": 0.5}, spoilt=settings).write(tmp_path / "b")
    _, told = diff(harness, one, other)
    assert {
        'packages.torch: "2.1" and "2.2"', 'setting.training.epochs: 1 and "not set"',
        "dpo.options.beta: 0.1 and 0.5", "policy (GT-DPO, seed 0): build.options.beta, options.beta",
    } <= {*told["settings"]}  # fmt: skip


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (replace(DPO, judge="oracle:2"), "judges differ"),
        (replace(DPO, seeds=(5,)), "no seed was scored in both"),
        (replace(DPO, spoilt={"protocol": "lmms"}), "protocol differ"),
        (replace(DPO, skill={"baseline": 0.6, "dpo": 0.7}, unscored=100), "n/a (judge 58 %)"),
    ],
)
def test_what_cannot_be_compared_has_a_reason_and_no_number(
    harness: Said, tmp_path: Path, other: FakeRun, why: str
) -> None:
    one = replace(DPO, skill={"baseline": 0.5, "dpo": 0.6})
    found, _ = diff(harness, one.write(tmp_path / "a"), other.write(tmp_path / "b"))
    [told] = (told for (row, metric), told in found.items() if (row, told["benchmark"]) == ("dpo", "mmhal"))
    assert told["why"] == why
    assert told["difference"] is None and not told["resolved"] and "better" not in told


def shared(harness: Said, folder: Path) -> tuple[int, list[str]]:
    """The number of items compared between two runs, of which the second asked another fourth question."""
    one = FakeRun(items=4).write(folder / "a")
    other = FakeRun(items=4, questions={"item3": "another question"}).write(folder / "b")
    found, told = diff(harness, f"{one}:baseline", f"{other}:dpo")
    return found["baseline -> dpo", "gqa/all"]["n"], told["notes"]


def test_only_items_that_are_the_same_are_compared(harness: Said, tmp_path: Path) -> None:
    count, notes = shared(harness, tmp_path)
    assert count == 3
    assert "GQA is compared on 3 of 4 units, which are the same and scored in both: baseline -> dpo" in notes


def test_the_mutant_that_goes_by_ids_alone_is_caught(
    harness: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "_items", lambda cell: {f"item{number}": ["it"] for number in range(4)})
    assert shared(harness, tmp_path)[0] == 4


def test_few_images_are_not_tested(harness: Said, tmp_path: Path) -> None:
    run = FakeRun(items=4).write(tmp_path)
    shown = harness("diff", f"{run}:baseline", f"{run}:dpo")
    assert "not tested" in shown and "resolved" not in shown.replace("not resolved", "")
    assert "1 flipped to right (item1); 0 flipped to wrong" in shown
    assert "synthetic testbed: it says nothing about real models" in shown


def test_a_bundle_is_a_run_too(harness: Said, tmp_path: Path) -> None:
    run = DPO.write(tmp_path)
    harness("report", run, "--bundle", tmp_path / "x.zip")
    found, _ = diff(harness, f"{run}:baseline", f"{tmp_path / 'x.zip'}:dpo")
    assert found == diff(harness, f"{run}:baseline", f"{run}:dpo")[0]


def test_a_row_with_a_colon_in_its_name_is_found(harness: Said, tmp_path: Path) -> None:
    labels = {"baseline": "baseline", "nsft:turns=random": "nsft:turns=random"}
    run = FakeRun(rows=["nsft:turns=random"], labels=labels).write(tmp_path)
    found, _ = diff(harness, f"{run}:baseline", f"{run}:nsft:turns=random")
    assert ("baseline -> nsft:turns=random", "gqa/all") in found


@pytest.mark.parametrize(
    ("one", "other", "error"),
    [
        ("run", "run:dpo", "give a row of both, or of neither"),
        ("run:dpo", "run:dop", 'no row of run "dop"; did you mean "dpo"'),
        ("run", "nowhere", "nowhere is neither a run in"),
        ("run", "store", r"is store a folder|is .*store a folder"),
        ("run", "sized", "has a comparison for each of its sizes"),
    ],
)
def test_bad_input_is_a_sentence(harness: Said, tmp_path: Path, one: str, other: str, error: str) -> None:
    DPO.write(tmp_path)
    (tmp_path / "sized").mkdir()
    (tmp_path / "sized" / "sizes.json").write_text("{}")
    with pytest.raises(UsageError, match=error):
        harness("diff", one, other, "--in", tmp_path)
