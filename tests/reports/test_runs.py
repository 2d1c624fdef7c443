"""Runs are joined where they measured the same thing, and refused with the field where they did not."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.system.errors import HarnessError, UsageError
from reports.runs import Run, join, opened
from tests.fake_run import FakeRun, drawn

SFT = drawn({"baseline": 0.6, "sft": 0.65}, split="lock")
DPO = drawn({"baseline": 0.6, "dpo": 0.7}, split="lock")


def joined(folder: Path, *comparisons: FakeRun) -> Run:
    """Each written to a folder of its own, and all joined."""
    given = [comparison.write(folder / str(number)) for number, comparison in enumerate(comparisons)]
    with opened(given) as runs:
        run = join(runs)
        run.outcomes()
        return run


def test_rows_of_two_runs_stand_under_one_baseline(tmp_path: Path) -> None:
    run = joined(tmp_path, SFT, DPO)
    assert list(run.rows) == ["baseline", "sft", "dpo"]
    assert len(run.cells) == 3 * 2
    assert run.notes == () and run.missing == []


@pytest.mark.parametrize(
    ("other", "field"),
    [
        (replace(DPO, split="another"), 'split_lock (split seed 0): "lock" and "another"'),
        (replace(DPO, judge="oracle:2"), 'judges (mmhal): "oracle:1" and "oracle:2"'),
        (replace(DPO, spoilt={"protocol": "lmms"}), 'protocol: "llava" and "lmms"'),
        (replace(DPO, spoilt={"synthetic": False}), "synthetic: true and false"),
        (replace(DPO, scorer="lenient"), "baseline (sqa, seed 0): source"),
        (replace(DPO, skill={"baseline": 0.5, "dpo": 0.7}), "baseline (sqa, seed 0): skill"),
    ],
)
def test_what_differs_is_named(other: FakeRun, field: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        joined(tmp_path, SFT, other)
    assert field in str(refused.value)


def test_rows_over_other_seeds_are_not_put_beside_each_other(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"seeds: \[0, 1\] and \[0\]"):
        joined(tmp_path, replace(SFT, seeds=(0, 1)), replace(DPO, seeds=(0,)))


def test_a_published_name_with_other_weights_is_another_row(tmp_path: Path) -> None:
    """Two commands call two checkpoints `theirs`: one row of them would have columns of two models."""

    def theirs(weights: str, benchmark: str) -> FakeRun:
        told = {"published": {"theirs": weights}, "rows": {}, "trained": []}
        names = {"baseline": "baseline", "theirs": "theirs"}
        skill = {"baseline": 0.6, "theirs": 0.7}
        return drawn(skill, labels=names, benchmarks=(benchmark,), split="lock", spoilt=told)

    assert list(joined(tmp_path / "one", theirs("a", "sqa"), theirs("a", "gqa")).rows) == ["baseline", "theirs"]
    two = joined(tmp_path / "two", theirs("a", "sqa"), theirs("b", "gqa"))
    assert list(two.rows) == ["baseline", "theirs", "theirs#2"]
    assert {(cell.row, cell.benchmark) for cell in two.cells if cell.row != "baseline"} == {
        ("theirs", "sqa"), ("theirs#2", "gqa"),
    }  # fmt: skip


def test_a_run_away_from_its_store_says_so(tmp_path: Path) -> None:
    folder = DPO.write(tmp_path / "here")
    shutil.rmtree(tmp_path / "here" / "store")
    with pytest.raises(UsageError, match=r"its store .* is not there; say with --store"), opened([folder]):
        pass


def test_one_policy_in_two_runs_is_one_row(tmp_path: Path) -> None:
    run = joined(tmp_path, DPO, replace(DPO, seeds=(0, 1)))
    assert list(run.rows) == ["baseline", "dpo"]
    assert sorted((cell.row, cell.seed) for cell in run.cells if cell.benchmark == "sqa") == [
        ("baseline", 0), ("baseline", 1), ("dpo", 0), ("dpo", 1)
    ]  # fmt: skip


def test_two_policies_of_one_method_are_two_rows_and_a_note(tmp_path: Path) -> None:
    run = joined(tmp_path, DPO, replace(DPO, skill={"baseline": 0.6, "dpo": 0.8}, options={"beta": 0.5}))
    assert list(run.rows) == ["baseline", "dpo", "dpo#2"]
    assert run.rows["dpo#2"] == "GT-DPO (run)"
    assert "two runs of GT-DPO" in run.notes[0]
    values = {outcome.method: sum(unit.parts["img/sum"] for unit in outcome.units) for outcome in run.outcomes()[::2]}
    assert values["dpo#2"] > values["dpo"]


def test_what_is_not_in_the_store_is_a_missing_cell(tmp_path: Path) -> None:
    given = DPO.write(tmp_path)
    with opened([given]) as (run,):
        (run.store / run.cells[3].score / "manifest.json").unlink()
        assert run.missing == [run.cells[3]]
        assert len(run.outcomes()) == 3


def test_changed_scores_are_not_reported(tmp_path: Path) -> None:
    given = DPO.write(tmp_path)
    with opened([given]) as (run,):
        file = run.store / run.cells[0].score / "units.json"
        file.write_text(file.read_text().replace("1.0", "0.0", 1))
        with pytest.raises(HarnessError, match="not what was stored"):
            run.outcomes()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"store": "s", "stages": ["../../etc"], "cells": []}'])
def test_what_is_no_manifest_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with (
        pytest.raises(UsageError, match=r"run the comparison again|is not JSON|should hold one JSON object"),
        opened([tmp_path]),
    ):
        pass


def test_an_older_manifest_says_what_it_lacks(tmp_path: Path) -> None:
    given = DPO.write(tmp_path)
    manifest = json.loads((given / "manifest.json").read_text())
    (given / "manifest.json").write_text(json.dumps({k: v for k, v in manifest.items() if k != "judges"}))
    with pytest.raises(UsageError, match="has no judges"), opened([given]):
        pass


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for given, why in ((tmp_path / "file", "neither"), (tmp_path / "gone", "neither"), (tmp_path, "No such file")):
        with pytest.raises(UsageError, match=why), opened([given]):
            pass
