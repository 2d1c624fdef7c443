"""A row or a column that fails says why, and the rest of the table is there and right."""

import csv
import errno
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.comparison import compare as comparing
from harness.comparison.compare import Finished
from harness.comparison.progress import Silent
from harness.contracts.benchmark import Metric
from harness.contracts.records import Item, Score
from harness.stages.score import Score as ScoreStage
from harness.stages.score import write_units
from harness.store.store import Store
from harness.system.errors import Denied, HarnessError, UsageError
from reports.report import report
from tests.reports.worlds import Accuracy
from tests.toy_bodies import ToyBodies, asked


def compared(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    fails: Mapping[str, BaseException] | None = None,
    methods: str = "sft,dpo",
    **more: Any,
) -> tuple[Finished, list[str]]:
    """A comparison whose bodies are toys; what it gave, and the titles of the stages whose bodies began."""
    toy = ToyBodies(fails or {})
    monkeypatch.setattr(comparing, "Bodies", toy)
    bed, wanted, runtime = asked(methods, **more)
    done = comparing.compare(wanted, bed, runtime, Store(folder / "store"), folder / "out", Silent(), page=False)
    return done, toy.ran


def cells(folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    """table.csv by row and metric."""
    with (folder / "table.csv").open(encoding="utf-8") as file:
        return {(row["method"], row["metric"]): row for row in csv.DictReader(file)}


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


LOST = {"build dpo": HarnessError("dpo finds | no [pair].")}


def test_a_row_that_fails_says_why_in_every_format_and_the_others_have_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, _ = compared(tmp_path, monkeypatch, LOST)
    assert done.status == 3 and {(one.row, one.stage) for one in done.failed} == {("dpo", "build dpo seed 0")}
    made = cells(done.out)
    assert made["dpo", "gqa/all"]["withheld"] == "failed: dpo finds | no [pair]."
    assert made["dpo", "gqa/all"]["value"] == ""
    assert (made["sft", "gqa/all"]["value"], made["sft", "gqa/all"]["n"]) == ("58.333333333333336", "12")
    for name, said in (("txt", "GT-DPO     failed: dpo finds | no [pair]."),
                       ("md", r"| GT-DPO | failed: dpo finds \| no \[pair\]. |"),
                       ("tex", r"\multicolumn{2}{l}{failed: dpo finds \textbar{} no {[}pair{]}.}")):  # fmt: skip
        text = (done.out / f"table.{name}").read_text(encoding="utf-8")
        assert said in text, name
    rows = [json.loads(line) for line in (done.out / "results.jsonl").read_text().splitlines()]
    assert {row["withheld"] for row in rows if row["method"] == "dpo"} == {"failed: dpo finds | no [pair]."}
    assert all("value" in row for row in rows if row["method"] == "sft" and row["metric"] == "gqa/all")


def test_the_manifest_and_the_report_of_an_incomplete_run_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, _ = compared(tmp_path, monkeypatch, LOST)
    told = manifest(done.out)
    assert told["finished"] is False
    assert [(one["row"], one["benchmark"]) for one in told["failed"]] == [("dpo", "gqa"), ("dpo", "sqa")]
    said = report([done.out], None, "", False, "md", None, None)
    assert "FAILED: GT-DPO: dpo finds" in said and "unfinished" in said


def test_holm_counts_only_the_comparisons_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, _ = compared(tmp_path, monkeypatch, LOST)
    assert "over 2 comparisons" in (done.out / "table.md").read_text(encoding="utf-8")


def test_the_same_command_again_tries_only_what_failed_and_prints_the_whole_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = compared(tmp_path / "whole", monkeypatch)
    compared(tmp_path, monkeypatch, LOST)
    again, ran = compared(tmp_path, monkeypatch)
    assert again.status == 0 and manifest(again.out)["finished"] is True
    assert {title for title in ran if "sft" in title or title.startswith(("split", "items"))} == set()
    assert "build dpo seed 0" in ran and "report" in ran
    for name in ("table.csv", "table.md", "results.jsonl"):
        assert (again.out / name).read_bytes() == (whole.out / name).read_bytes(), name


def test_a_column_that_fails_says_why_and_the_other_is_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, _ = compared(tmp_path, monkeypatch, {"items sqa": UsageError("no file.")})
    made = cells(done.out)
    assert done.status == 3
    assert {made[row, "sqa/img"]["withheld"] for row in ("baseline", "sft", "dpo")} == {"failed: no file."}
    assert made["dpo", "gqa/all"]["delta"] != ""
    assert "FAILED: baseline, SQA; Cont. SFT, SQA; GT-DPO, SQA: no file." in (done.out / "table.txt").read_text()


def test_one_seed_that_fails_leaves_the_others_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, _ = compared(tmp_path, monkeypatch, {"train dpo seed 1": ValueError("x")}, seeds=2)
    assert cells(done.out)["dpo", "gqa/all"]["value"] != ""
    text = (done.out / "table.txt").read_text(encoding="utf-8")
    assert "FAILED: GT-DPO (seed 1): unexpected ValueError: x." in text and "only 1 of the 2 seeds: GT-DPO" in text


def test_what_nobody_expected_ends_70_with_a_file_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a-key-that-is-long")
    done, _ = compared(tmp_path, monkeypatch, {"train dpo": ZeroDivisionError("sk-a-key-that-is-long")})
    assert done.status == 70 and cells(done.out)["sft", "gqa/all"]["value"]
    file = Path(done.failed[0].why.partition("traceback is in ")[2].partition(";")[0])
    text = file.read_text(encoding="utf-8")
    assert "ZeroDivisionError" in text and "Traceback" in text and "sk-a-key" not in text
    file.unlink()


@pytest.mark.parametrize(
    "fails",
    [
        {"split llava150k": UsageError("too few.")},
        {"data llava150k": UsageError("too few.")},
        {"score": UsageError("too few.")},
        {"build sft": OSError(errno.ENOSPC, "too few")},
    ],
)
def test_what_all_rows_share_ends_all_with_one_sentence(
    fails: dict[str, BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HarnessError, match="too few"):
        compared(tmp_path, monkeypatch, fails)
    assert manifest(tmp_path / "out")["finished"] is False
    assert not (tmp_path / "out" / "table.csv").exists()


def test_who_refuses_once_is_not_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = property(lambda score: {"name": "the judge"} if score.benchmark == "sqa" else "")
    monkeypatch.setattr(ScoreStage, "asks", judge)
    done, ran = compared(tmp_path, monkeypatch, {"score baseline sqa": Denied("401.")})
    assert [title for title in ran if "score" in title and "sqa" in title] == ["score baseline sqa seed 0"]
    assert {one.why for one in done.failed} == {"401."} and len(done.failed) == 3
    assert cells(done.out)["dpo", "gqa/all"]["delta"]


def test_a_metric_that_raises_fails_its_cell_before_any_table(tmp_path: Path) -> None:
    class Broken(Accuracy):
        def compute(self, totals: Any) -> dict[str, Any]:
            return {"acc/percent": 100.0 if totals["right"] > 0 else 0.0}  # not for arrays

    item = Item("a", None, "?", "a", {})
    with pytest.raises(ValueError, match="ambiguous"):
        write_units(tmp_path / "units.json", Broken(), [item], [Score("a", {"right": 1.0, "n": 1.0})])
    assert not (tmp_path / "units.json").exists()
    write_units(tmp_path / "units.json", Accuracy(), [item], [Score("a", {"right": 1.0, "n": 1.0})])
    assert (tmp_path / "units.json").exists()


@pytest.mark.parametrize(
    ("scale", "value", "off"),
    [
        ((0, 100), 100.1, True), ((0, 100), -0.1, True), ((100, 0), 100.1, True), ((0, 1), 50.0, True),
        ((0, 100), 100 + 1e-12, False), ((100, 0), 0.0, False), ((0, 100), math.nan, False),
        ((0, math.inf), 1e9, False), ((0, math.inf), -1.0, True),
    ],
)  # fmt: skip
def test_a_value_off_the_scale_of_its_metric_fails_its_cell(
    scale: tuple[float, float], value: float, off: bool, tmp_path: Path
) -> None:
    """It was printed as if it were right."""

    class Percent(Accuracy):
        metrics = (Metric("acc/percent", "accuracy", scale),)

        def compute(self, totals: Any) -> dict[str, Any]:
            return {
                "acc/percent": value + 0 * totals["n"],
                "acc/other": 1e9,
            }  # of what is not declared nothing is known

    def write() -> None:
        item = Item("a", None, "?", "a", {})
        write_units(tmp_path / "units.json", Percent(), [item], [Score("a", {"n": 1.0})])

    if off:
        with pytest.raises(
            HarnessError, match=r"acc/percent comes out as .* its own scale goes from .*Percent\.compute"
        ):
            write()
    else:
        write()


def test_out_on_another_comparison_s_folder_moves_that_one_aside_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was emptied without a word."""
    first, _ = compared(tmp_path, monkeypatch, methods="sft")
    kept = {file.name: file.read_bytes() for file in first.out.iterdir()}
    assert not first.moved and not compared(tmp_path, monkeypatch, methods="sft")[0].moved
    second, _ = compared(tmp_path, monkeypatch, methods="dpo")
    place = tmp_path / "out-2"
    assert second.told[:1] == (f"{first.out} held another comparison, which is in {place} now",)
    assert {file.name: file.read_bytes() for file in place.iterdir()} == kept
    assert {row for row, _ in cells(second.out)} == {"baseline", "dpo"}
    assert "Cont. SFT" in report([place], None, "", False, "md", None, None)  # it still finds its store
    third, _ = compared(tmp_path, monkeypatch, methods="sft")
    assert third.moved == (f"{first.out} held another comparison, which is in {tmp_path / 'out-3'} now",)


def test_a_folder_that_is_emptied_would_be_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing.run_folder, "aside", lambda *given: None)
    with pytest.raises(AssertionError):
        test_out_on_another_comparison_s_folder_moves_that_one_aside_and_says_where(tmp_path, monkeypatch)


def test_a_manifest_of_somebody_else_s_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    theirs = tmp_path / "out" / "manifest.json"
    theirs.write_text('{"name": "a web page"}')
    with pytest.raises(UsageError, match=r"no comparison of this version wrote; give another folder with --out"):
        compared(tmp_path, monkeypatch)
    assert theirs.read_text() == '{"name": "a web page"}'


def test_a_folder_that_holds_its_store_is_refused_rather_than_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "Bodies", ToyBodies({}))
    store = Store(tmp_path / "store")

    def run(methods: str) -> None:
        bed, wanted, runtime = asked(methods)
        comparing.compare(wanted, bed, runtime, store, tmp_path, Silent(), page=False)

    run("sft")
    with pytest.raises(UsageError, match=r"cannot be moved aside .*; give another folder with --out"):
        run("dpo")
    assert {row for row, _ in cells(tmp_path)} == {"baseline", "sft"}
