"""Hostile strings in every place and format: no exception, nothing live, the numbers as they were."""

import csv
import io
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
from markdown_it import MarkdownIt
from rich.console import Console
from worlds import NINE, SETTING, run

from reports import terminal
from reports.files import COMPARISON
from reports.findings import Findings, Setting
from reports.sheet import sheet
from reports.tabulate import build

HOSTILE = [
    "[/b]", "[link=javascript:alert(1)]x[/link]", "\x1b]0;owned\x07", "\x1b[2J", "\x9b31m", "\x1b]8;;http://x\x1b\\",
    "=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", " =1", "\t=1", "a|b", "a | b\\", "`code`", "<!--",
    "<script>alert(1)</script>", "# head", "[x](javascript:y)", "![x](y)", "*b* _i_ ~~s~~", "&lt;", "$x^2$", "1. x",
    "\\input{/etc/passwd}", "\\\\", "}{", "%", "50% & more_", "~^\"'", "a\0b", "\u202eevil\u2066", "a\nb\r\nc",
    "\u2028", "\ud800", "\ufeff", "漢字" * 20, "é", ",;\"\"", "", "x" * 20_000,
]  # fmt: skip
METHODS = [("sft", "Cont. SFT", 0.0), ("nsft", "nSFT", 0.15)]


def on_terminal(table: Findings, width: int = 110, colour: bool = True) -> str:
    """What rich sends to a terminal."""
    console = Console(
        file=io.StringIO(), width=width, force_terminal=colour, color_system="standard" if colour else None
    )
    with console.capture() as captured:
        console.print(terminal.comparison(sheet(table, brief=True), width))
    return captured.get()


FORMATS: dict[str, Callable[[Findings], str]] = {
    "terminal": on_terminal,
    "markdown": COMPARISON["md"],
    "csv": COMPARISON["csv"],
    "latex": COMPARISON["tex"],
}


@cache
def plain() -> Findings:
    """A table with nothing wrong with it."""
    return build(run(METHODS), NINE, ["sft", "nsft"], SETTING, 2000)


def spoilt(text: str) -> Findings:
    """The same numbers with `text` for a method, label, testbed, protocol, metric and heading, and in a note."""
    table = plain()
    rows = (*table.rows[:2], replace(table.rows[2], label=text, method=text))
    columns = (replace(table.columns[0], metric=text, label=text), *table.columns[1:])
    return Findings(Setting(text, text, True), columns, rows, (*table.notes, f"of {text}"))


def figures(text: str) -> list[str]:
    """The numbers with a decimal point; those of the table, not of a text or of the baseline's label."""
    return re.findall(r"(?<!LLaVA)(?<!LLaVA-)[-+−]?\d+\.\d+", text.replace("$-$", "−"))


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("name", FORMATS)
def test_hostile_text_is_harmless(name: str, text: str) -> None:
    shown = FORMATS[name](spoilt(text))
    shown.encode("utf-8")
    assert "synthetic" in shown
    allowed = re.sub(r"\x1b\[[0-9;]*m", "", shown) if name == "terminal" else shown
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]", allowed)
    found, expected = (figures(of) for of in (allowed, FORMATS[name](spoilt("plain"))))
    if name == "terminal":  # where a heading is too wide, its column stands in another block
        found, expected = sorted(found), sorted(expected)
    assert found == expected


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_csv_reads_back_with_the_numbers_unchanged_and_no_formula(text: str) -> None:
    def read(table: Findings) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(COMPARISON["csv"](table), newline="")))

    rows, expected = read(spoilt(text)), read(plain())
    assert len(rows) == len(expected)
    for row, other in zip(rows, expected, strict=True):
        for field in ("value", "delta", "ci_lo", "ci_hi", "p_holm", "n", "unscored", "seeds"):
            assert row[field] == other[field]
        for field in ("method", "label", "benchmark", "metric", "withheld", "testbed", "protocol"):
            assert not row[field].lstrip().startswith(("=", "+", "-", "@"))


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_markdown_keeps_its_tables_and_nothing_else(text: str) -> None:
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(COMPARISON["md"](spoilt(text)))
    shape = [
        t.type for t in MarkdownIt("commonmark").enable("table").parse(COMPARISON["md"](plain())) if t.nesting == 1
    ]
    assert [t.type for t in tokens if t.nesting == 1][: len(shape)] == shape
    inline = {child.type for token in tokens for child in token.children or []}
    assert inline <= {"text", "text_special", "strong_open", "strong_close"}
    assert not {t.type for t in tokens} & {"html_block", "fence", "code_block", "heading_open", "blockquote_open"}


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_latex_is_ascii_balanced_and_knows_only_our_commands(text: str) -> None:
    shown = COMPARISON["tex"](spoilt(text))
    assert shown.isascii()
    commands = set(re.findall(r"\\([a-zA-Z]+|.)", shown.replace("\\\\\n", "\n")))
    assert commands <= {
        *"begin end toprule midrule bottomrule scriptsize footnotesize noindent medskip par usepackage".split(),
        *"textsuperscript centering small tiny setlength tabcolsep caption".split(),
        *"bigtriangleup bigtriangledown".split(),
        *"Delta downarrow char textbackslash textasciitilde textasciicircum textless textgreater textbar".split(),
        *"{}$&#_%",
    }
    bare = re.sub(r"\\[^a-zA-Z\n]", "", shown)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert "%" not in bare.split("\n", 1)[1]
    body = [line for line in bare.splitlines() if "&" in line]
    assert len(body) == 3 * (1 + 2 * len(plain().rows))


@pytest.mark.parametrize("width", [60, 80, 110, 200])
def test_terminal_never_cuts_a_number(width: int) -> None:
    shown = on_terminal(plain(), width, colour=False)
    assert max(map(len, shown.splitlines())) <= width
    assert "…" not in shown
    assert sorted(figures(shown)) == sorted(figures(on_terminal(plain(), 200, colour=False)))


def test_terminal_reads() -> None:
    shown = on_terminal(plain(), colour=False)
    for word in ("VQA", "LLaVA-1.5-7B", "CHAIR ↓", "recall", "testbed: mini (synthetic)", "Holm"):
        assert word in shown
    row = next(line for line in shown.splitlines() if line.startswith("nSFT"))
    assert re.match(r"nSFT +\d\d\.\d \+\d+\.\d▲", row)
    assert "\x1b[" in on_terminal(plain())


def test_a_label_that_is_cut_is_written_out_below() -> None:
    table = plain()
    label = "nsft:turns=random:layout=separate"
    rows = (*table.rows[:2], replace(table.rows[2], label=label))
    lines = on_terminal(replace(table, rows=rows), colour=False).splitlines()
    assert any(re.match(r"nsft:turns=rand… +\d", line) for line in lines)
    assert f"nsft:turns=rand… is {label}" in lines


def test_small_negative_differences_do_not_print_as_minus_zero() -> None:
    table = plain()
    tiny = replace(table.rows[1].cells[0], delta=-0.001, low=-0.04, high=0.04)
    rows = (table.rows[0], replace(table.rows[1], cells=(tiny, *table.rows[1].cells[1:])))
    assert "+0.0 [+0.0, +0.0]" in COMPARISON["md"](replace(table, rows=rows))


def test_a_real_testbed_is_not_called_synthetic() -> None:
    setting = Setting("llava-1.5-7b", "paper", False)
    table = build(run(METHODS), NINE, ["sft", "nsft"], setting, 20)
    assert all("synthetic" not in form(table) for form in FORMATS.values())
