"""The paper's totals from the paper's cells."""

import json
from importlib.resources import files
from typing import Any

import pytest

from harness.contracts.benchmark import Group
from reports.totals import RULE, total

PRINTED = {
    "sqa": "SQA", "gqa": "GQA", "textvqa": "VQAT", "mmvet": "MMVet", "mme": "MME", "mmb": "MMB",
    "pope": "POPE", "chair": "CHAIR", "mmhal": "MMHal",
}  # fmt: skip
TOTALS: dict[Group, str] = {"vqa": "total_vqa", "comprehension": "total_mm", "hallucination": "total_hal"}
ROWS: list[dict[str, Any]] = json.loads(files("reports").joinpath("paper_tables.json").read_text())["table1"]["rows"]
ROUNDING = 0.05  # half of the last printed digit


def deltas(row: dict[str, Any]) -> dict[str, float]:
    """The row's differences to the baseline of its block."""
    base = next(r for r in ROWS if r["data"] == row["data"] and r["method"] == "baseline")
    return {name: row[column] - base[column] for name, column in PRINTED.items()}


@pytest.mark.parametrize("group", TOTALS)
def test_gives_all_54_printed_totals(group: Group) -> None:
    assert len(ROWS) == 18
    for row in ROWS:
        assert total(group, deltas(row)) == pytest.approx(row[TOTALS[group]], abs=ROUNDING), row


@pytest.mark.parametrize(
    ("group", "change"),
    [("comprehension", {"mme": 1 / 20}), ("hallucination", {"mmhal": 20.0}), ("hallucination", {"chair": 1.0})],
)
def test_no_other_rule_gives_them(group: Group, change: dict[str, float]) -> None:
    other = {**RULE[group], **change}
    wrong = [
        row
        for row in ROWS
        if abs(sum(c * deltas(row)[name] for name, c in other.items()) - row[TOTALS[group]]) > ROUNDING
    ]
    assert len(wrong) >= 10


def test_a_missing_benchmark_is_an_error() -> None:
    with pytest.raises(KeyError):
        total("vqa", {"sqa": 1.0, "gqa": 1.0})
