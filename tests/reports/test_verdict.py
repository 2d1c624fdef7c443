"""The verdict: who won, told by direction and by the mark alone, and how far to trust it."""

import io
import math
from dataclasses import replace

import pytest
from rich.console import Console
from worlds import NINE, SETTING, answers, run

import reports.findings
from reports import terminal
from reports.files import COMPARISON
from reports.findings import Cell, Column, Findings, Row, Setting
from reports.outcomes import Outcome
from reports.sheet import sheet
from reports.tabulate import build
from reports.verdict import Verdict, trust, verdicts

COLUMNS = (
    Column("hallucination", "pope", "pope/f1", "POPE", 1),
    Column("hallucination", "chair", "chair/is", "CHAIR", 1, lower=True),
    Column("hallucination", "chair", "chair/words", "words", 1, beside=True),
    Column("hallucination", "total", "total", "total", 1),
)


def told(pope: Cell, chair: Cell, words: Cell, total: Cell, setting: Setting = SETTING) -> Verdict:
    rows = (
        Row("baseline", "LLaVA", 1, (Cell(50.0),) * 4),
        Row("blank", "baseline, blank image", 1, (pope, chair, words, total)),
        Row("nsft", "nSFT", 1, (pope, chair, words, total)),
    )
    [verdict] = verdicts(Findings(setting, COLUMNS, rows, ()))
    return verdict


def moved(delta: float, p: float = 0.001, **more: float) -> Cell:
    return Cell(50.0 + delta, delta, delta - 1, delta + 1, p, 100, detectable=more.get("detectable", math.nan))


def test_less_chair_is_better_and_more_is_worse() -> None:
    assert told(moved(2), moved(-3), moved(9), moved(5)).better == (("POPE", "+2.0"), ("CHAIR", "−3.0"))
    assert told(moved(-2), moved(3), moved(9), moved(5)).worse == (("POPE", "−2.0"), ("CHAIR", "+3.0"))


def test_without_the_mark_nobody_has_won_however_large_the_difference() -> None:
    verdict = told(moved(40, p=0.06), moved(-3), moved(9), moved(5))
    assert verdict.better == (("CHAIR", "−3.0"),) and verdict.unresolved == ("POPE",)
    assert ("open", "cannot tell on 1 of 2") in verdict.parts


def test_length_and_totals_are_no_scores_and_controls_win_nothing() -> None:
    verdict = told(moved(1, p=1), moved(1, p=1), moved(9), moved(99))
    assert not verdict.better and not verdict.worse and len(verdict.unresolved) == 2


def test_what_was_not_tested_is_named_and_counts_for_nothing() -> None:
    withheld = Cell(withheld="n/a (80 %)")
    assert told(moved(2), withheld, moved(9), Cell()).parts == [
        ("better", "better on POPE +2.0"),
        ("untested", "not tested on CHAIR"),
    ]


def test_a_row_that_failed_says_why() -> None:
    lost = Cell(failed="its build found no records")
    assert told(lost, lost, lost, lost).parts == [("failed", "failed: its build found no records")]


def test_a_verdict_that_forgets_which_way_is_better_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        reports.findings, "outcome", lambda cell, lower, scored: "better" if cell.delta > 0 else "worse"
    )
    with pytest.raises(AssertionError):
        test_less_chair_is_better_and_more_is_worse()


def test_trust_tells_the_testbed_the_seeds_and_what_cannot_be_seen() -> None:
    rows = (Row("baseline", "LLaVA", 1, (Cell(),) * 4), Row("dpo", "GT-DPO", 1, (moved(2, detectable=1.26),) * 4))
    table = Findings(SETTING, COLUMNS, rows, ())
    synthetic, seeds, least = trust(table)
    assert synthetic == "synthetic testbed: it says nothing about real models"
    assert seeds.startswith("1 seed, 1 base model: another draw of the data, or another base")
    assert least == "smaller differences than these are seldom seen here: POPE 1.3, CHAIR 1.3"
    real = replace(table, setting=replace(SETTING, synthetic=False))
    assert not any("synthetic" in sentence for sentence in trust(real))


def outcomes() -> list[Outcome]:
    made = run([("nsft", "nSFT", 0.3)], images=80)
    worse = answers(0.6, 80, 5, 6, -0.4)
    return [replace(o, units=worse) if (o.method, o.benchmark) == ("nsft", "pope") else o for o in made]


def test_the_verdict_stands_last_on_the_terminal_and_first_in_markdown() -> None:
    table = build(outcomes(), NINE, ["nsft"], SETTING)
    [verdict] = verdicts(table)
    assert [name for name, _ in verdict.worse] == ["POPE"] and "CHAIR" in dict(verdict.better)
    assert len(verdict.better) + len(verdict.unresolved) == 8
    for width in (60, 80, 120):
        console = Console(width=width, record=True, file=io.StringIO())
        console.print(terminal.comparison(sheet(table, brief=True), width))
        last = " ".join(console.export_text().partition("Verdict, against the baseline")[2].split())
        assert "▲ better on SQA" in last and "▼ worse on POPE" in last and "trust" in last
    page = COMPARISON["md"](table)
    assert page.index("▼ worse on POPE") < page.index("| method |")
