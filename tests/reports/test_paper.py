"""The paper's tables: its own numbers as printed, ours in its layout, and what is not put into one column."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from worlds import NINE, SETTING, run

from benchmarks.indomain import Indomain
from harness.contracts.benchmark import Benchmark, Unit
from harness.contracts.judge import Ask
from harness.contracts.records import Item, Response, Score
from harness.system.errors import UsageError
from reports import latex, layouts, markdown, spreadsheet
from reports.findings import Setting
from reports.grid import Entry, Grid
from reports.layouts import LAYOUTS
from reports.outcomes import Outcome
from reports.paper import Part, paper_table
from reports.tabulate import build
from reports.totals import what_changes

METHODS = [("sft", "Cont. SFT", 0.0), ("nsft", "nSFT", 0.15), ("dpo", "GT-DPO", 0.05)]
REAL = Setting("llava-1.5-7b", "llava", False)
PAPER = Path(__file__).parents[3] / "shared" / "paper.txt"


def part(
    data: str = "llava150k",
    setting: Setting = SETTING,
    outcomes: Sequence[Outcome] | None = None,
    benchmarks: Mapping[str, Benchmark] = NINE,
    methods: Mapping[str, tuple[str, dict[str, Any]]] | None = None,
) -> Part:
    """A measured comparison of three methods."""
    found = run(METHODS) if outcomes is None else outcomes
    specs = methods or {name: (name, {}) for name, *_ in METHODS}
    table = build(found, benchmarks, list(specs), setting, 20)
    return Part(f"runs/{data}", data, table, found, benchmarks, specs)


def entry(grid: Grid, row: str, column: str, block: str = "") -> Entry:
    """The cell of a row (by its first name) under a heading."""
    line = next(line for line in grid.lines if line.names[0] == row and block in ("", line.block))
    return line.entries[[head.label for head in grid.heads].index(column)]


@pytest.mark.parametrize("number", LAYOUTS)
def test_the_papers_own_tables_print_in_every_format(number: int) -> None:
    grid = paper_table(number, [])
    rows = layouts.printed()[f"table{number}"]["rows"]
    cells = sum(row[key] is not None for row in rows for key in layouts.printed()[f"table{number}"]["columns"])
    assert sum(e.value == e.value for line in grid.lines for e in line.entries) == cells
    assert grid.notes[-1] == layouts.printed()["source"]
    assert r"\toprule" in latex.table(grid) and "| --- |" in markdown.table(grid)


@pytest.mark.skipif(not PAPER.is_file(), reason="the paper's text is not at hand")
@pytest.mark.parametrize("number", [1, 3, 4, 5, 6])
def test_the_printed_numbers_are_those_of_the_papers_text(number: int) -> None:
    """Every row of the transcription is found in the paper as one line of figures."""
    lines = [re.findall(r"[-+]?\d+\.\d+|\b\d{4}\b", line) for line in PAPER.read_text(encoding="utf-8").splitlines()]
    for line in paper_table(number, []).lines:
        figures = [round(e.value, 2) for e in line.entries if e.value == e.value]
        assert any([round(float(x), 2) for x in found][-len(figures) :] == figures for found in lines if found), line


def test_table_1_has_the_papers_groups_columns_and_order() -> None:
    grid = paper_table(1, [part()])
    assert [head.label for head in grid.heads] == [
        *"SQA GQA VQA^T total MMVet MME MMB total POPE CHAIR MMHal total".split()
    ]
    assert [line.names[0] for line in grid.lines] == ["baseline", "GT-DPO", "Cont. SFT", "nSFT"]
    assert {line.block for line in grid.lines} == {"LLaVA-150k"}
    assert [head.label for head in grid.heads if head.lower] == ["CHAIR"]


def test_table_1_prints_totals_in_brackets_and_marks_what_is_resolved() -> None:
    outcomes = run([("nsft", "nSFT", 0.3)], images=200)
    table = build(outcomes, NINE, ["nsft"], SETTING, 500)
    shown = markdown.table(paper_table(1, [Part("r", "llava150k", table, outcomes, NINE, {"nsft": ("nsft", {})})]))
    assert re.search(r"\| LLaVA-150k \| baseline \| \d\d\.\d \| \d\d\.\d \| \d\d\.\d \| \(\+0\.0\) \|", shown)
    assert re.search(r"\| nSFT \| \*\*\d\d\.\d▲\*\* \|", shown)  # bold, with its mark
    assert "only ▲ and ▼ tell a resolved difference" in shown


def test_data_sources_are_blocks_and_bases_are_blocks() -> None:
    grid = paper_table(1, [part("ocrvqa"), part("textcaps")])
    assert list(dict.fromkeys(line.block for line in grid.lines)) == ["OCRVQA", "TextCaps"]
    grid = paper_table(4, [part(), part(setting=replace(SETTING, testbed="llava-1.5-13b"))])
    assert list(dict.fromkeys(line.block for line in grid.lines)) == ["mini", "LLaVA-1.5-13B"]


def test_variants_take_the_papers_names_and_others_keep_theirs() -> None:
    outcomes = run([("a", "nSFT", 0.1), ("b", "short", 0.0), ("c", "again", 0.1)])
    specs = {"a": ("nsft", {}), "b": ("nsft", {"max_turns": 2}), "c": ("nsft", {})}
    names = [line.names for line in paper_table(6, [part(outcomes=outcomes, methods=specs)]).lines]
    assert names == [("baseline",), ("nSFT",), ("again (c)",), ("short",)]
    names = [line.names for line in paper_table(7, [part()]).lines]
    assert names == [("baseline", "N/A"), ("cont. SFT", "✗"), ("nSFT(ours)", "✗"), ("GT-DPO", "✓")]


def test_a_synthetic_testbed_never_stands_beside_the_paper() -> None:
    with pytest.raises(UsageError, match="synthetic") as refused:
        paper_table(1, [part()], beside=True)
    assert refused.value.exit_status == 2


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        (replace(REAL, protocol="own"), "has the protocol own"),
        (replace(REAL, testbed="llava-1.5-13b"), "other models"),
    ],
)
def test_nor_do_other_protocols_and_other_models(setting: Setting, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        paper_table(1, [part(setting=setting)], beside=True)


def test_different_protocols_never_share_a_table() -> None:
    with pytest.raises(UsageError, match=r"differ in protocol .*own"):
        paper_table(1, [part("ocrvqa", REAL), part("textcaps", replace(REAL, protocol="own"))])
    with pytest.raises(UsageError, match="differ in synthetic"):
        paper_table(4, [part(), part(setting=replace(REAL, protocol="paper"))])


def graded(gain: int) -> list[Unit]:
    """Forty items of the real benchmark, with grades from 0 to 10: accuracy two below instruction following."""
    made = []
    for number in range(40):
        score = Indomain().score(
            Item("i", None, "Which?", "i", {"answer": "A dog."}), Response("i", "A dog.", 1), Two(number, gain)
        )
        assert isinstance(score, Score)
        made.append(Unit(f"{number}", f"{number}", score.parts))
    return made


@dataclass(frozen=True)
class Two:
    """A judge of instruction following and accuracy."""

    number: int
    gain: int
    name: str = "two"

    def reply(self, ask: Ask) -> str:
        following = 2 + self.number % 5 + self.gain
        return f"{following} {following - 2}"


def test_table_3_takes_sub_scores_and_puts_the_sources_side_by_side() -> None:
    """All four columns have figures: the layout's ids are those of the benchmark."""
    outcomes = [
        Outcome(name, label, 0, "indomain", graded(gain), 0, name)
        for name, label, gain in (("baseline", "LLaVA-1.5-7B", 0), ("nsft", "nSFT", 2))
    ]
    specs = {"nsft": ("nsft", dict[str, Any]())}
    parts = [
        part(data, outcomes=outcomes, benchmarks={"indomain": Indomain()}, methods=specs)
        for data in ("textcaps", "ocrvqa")
    ]
    grid = paper_table(3, parts)
    assert [head.group for head in grid.heads] == ["OCRVQA"] * 4 + ["TextCaps"] * 4
    line = next(line for line in grid.lines if line.names == ("+nSFT(ours)",))
    assert [entry.value for entry in line.entries[:4]] == pytest.approx([6.0, 4.0, 5.8, 2.2])
    assert not any(note.startswith("–") for note in grid.notes)


def test_missing_cells_and_columns_are_dashes_with_a_note() -> None:
    some = [o for o in run(METHODS) if (o.method, o.benchmark) != ("sft", "mmb")]
    grid = paper_table(2, [part(outcomes=some)])
    assert "–: no run has MMB^CN, SEED^I, SHR" in grid.notes
    assert any(note == "–: no score of Cont. SFT mini for MMB" for note in grid.notes)
    assert any(note == "measured, and no column of this table: chair, mmhal" for note in grid.notes)


def test_the_captions_rule_is_said_with_what_it_would_change() -> None:
    deltas = {"A": {"mmvet": 1.0, "mmb": 1.0, "mme": -50.0}, "B": {"mmvet": 0.5, "mmb": 0.0, "mme": 10.0}}
    assert what_changes(deltas) == (
        "as the caption words it, MME counts too, in points: comprehension A +2.0 -> −48.0, B +0.5 -> +10.5; "
        "the best would be B instead of A"
    )
    assert what_changes({"A": {"mmvet": 1.0}}) == ""
    assert any(note.startswith("as the caption words it") for note in paper_table(1, [part()]).notes)


def test_csv_has_the_difference_that_its_interval_is_about() -> None:
    rows = list(csv.DictReader(io.StringIO(spreadsheet.table(paper_table(1, [part()])))))
    method = next(row for row in rows if row["row"] == "nSFT" and row["column"] == "SQA")
    assert float(method["ci_lo"]) <= float(method["delta"]) <= float(method["ci_hi"])
    assert float(method["value"]) > float(method["ci_hi"])  # so the interval is not the value's
