"""A task of lmms-eval as a column of a comparison, from the command to the reports of the finished run."""

from pathlib import Path

import pytest

from tests.e2e.conftest import SMALL_BED, Ran, harness
from tests.lmms import stock


def compare(home: Path, *more: str) -> Ran:
    columns = f"lmms:ai2d={home / 'ai2d'},lmms:mmmu_val={home / 'mmmu'}"
    words = ["compare", "--methods", "sft", "--benchmarks", columns, "--testbed", str(SMALL_BED)]
    return harness(*words, "--store", str(home / "store"), "--out", str(home / "out"), *more, cwd=home)


@pytest.mark.heavy
def test_tasks_are_columns_with_intervals_where_they_have_scores_per_document(tmp_path: Path) -> None:
    stock.write("ai2d", tmp_path / "ai2d", count=36)
    stock.write("mmmu_val", tmp_path / "mmmu", count=36)
    ran = compare(tmp_path)
    assert ran.status == 0, ran.stderr
    lines = (tmp_path / "out" / "table.csv").read_text().splitlines()
    head, *rows = (line.split(",") for line in lines)
    base = {row[3]: dict(zip(head, row, strict=True)) for row in rows if row[0] == "baseline"}
    assert base["lmms:ai2d"]["metric"] == "lmms:ai2d/exact_match" and float(base["lmms:ai2d"]["ci_lo"]) < 1
    assert base["lmms:mmmu_val"]["metric"] == "lmms:mmmu_val/mmmu_acc" and base["lmms:mmmu_val"]["ci_lo"] == ""
    note = "no interval and no test: lmms:mmmu_val, one figure of a whole set that no sum of items gives"
    assert note in " ".join(ran.stdout.split())
    assert "lmms_eval 0.7.3, version 0.0, content" in (tmp_path / "out" / "report.html").read_text()
    assert compare(tmp_path, "--json").json["stages_run"] == 0
    again = harness("report", str(tmp_path / "out"), cwd=tmp_path)
    assert again.status == 0 and "lmms:ai2d" in again.stdout and "left out" not in again.stdout
    seen = harness("view", str(tmp_path / "out"), "--static", str(tmp_path / "site"), cwd=tmp_path)
    assert seen.status == 0 and "72 items" in seen.stdout, seen.stdout + seen.stderr
    said = harness("export", str(tmp_path / "out"), "--responses", "sft", "--out", str(tmp_path / "said"), cwd=tmp_path)
    assert said.status == 0, said.stderr
