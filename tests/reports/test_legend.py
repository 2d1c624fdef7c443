"""What stands under a table on a terminal: the signs that it has, and no others; marks know which way is better."""

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console
from worlds import NINE, SETTING, run

import reports.findings
from reports import markdown, terminal
from reports.files import COMPARISON
from reports.findings import Findings
from reports.legend import Detail, brief
from reports.sheet import sheet
from reports.tabulate import build

METHODS = [("sft", "Cont. SFT", 0.0), ("nsft", "nSFT", 0.3), ("dpo", "GT-DPO", -0.3)]


def made(benchmarks: tuple[str, ...] = tuple(NINE), images: int = 80) -> Findings:
    chosen = {name: NINE[name] for name in benchmarks}
    outcomes = [one for one in run(METHODS, images=images) if one.benchmark in chosen]
    return build(outcomes, chosen, [name for name, *_ in METHODS], SETTING)


WHOLE = made()


def screen(table: Findings, width: int, verbose: bool = False) -> list[str]:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(terminal.comparison(sheet(table, brief=not verbose), width))
    return [line.rstrip() for line in console.export_text().splitlines()]


def legend(table: Findings) -> str:
    return next(line for line in brief(table) if not isinstance(line, Detail))


def test_every_sign_that_stands_in_a_table_is_explained() -> None:
    for sign in ("▲ better", "▼ worse", "* moved", "no sign: may be chance", "↓ lower is better", "recall, words: no"):
        assert sign in legend(WHOLE)
    assert "Holm p < 0.05 over 33 comparisons" in legend(WHOLE) and "total: the paper's sum" in legend(WHOLE)


def test_what_does_not_stand_there_is_not_explained() -> None:
    said = legend(made(("gqa",)))
    assert "↓" not in said and "*" not in said and "total" not in said and "recall" not in said and "%)" not in said
    small = made(("gqa",), images=5)
    assert "[95 %" not in legend(small) and "▲" not in legend(small) and "no sign" not in legend(small)
    nothing = replace(WHOLE, rows=WHOLE.rows[:2])
    assert "no sign anywhere: each of 11 differences may be chance" in legend(nothing)


def test_coverage_is_told_where_a_verdict_is_missing_and_in_the_files_always() -> None:
    first, *others = WHOLE.rows
    lost = replace(first.cells[-2], coverage=99.5)
    partly = replace(WHOLE, rows=(replace(first, cells=(*first.cells[:-2], lost, first.cells[-1])), *others))
    assert "(99.5 %)" in "\n".join(screen(partly, 120)) and "share of units with a verdict" in legend(partly)
    assert "(100 %)" not in "\n".join(screen(partly, 120)) and "(100 %)" in "\n".join(screen(partly, 200, True))
    assert "(100 %)" in COMPARISON["md"](partly) and r"(100 \%)" in COMPARISON["tex"](partly)


def test_those_who_ask_have_every_note_and_so_has_the_file() -> None:
    whole, shown = "\n".join(screen(WHOLE, 2000, verbose=True)), "\n".join(screen(WHOLE, 2000))
    assert all(note in whole for note in WHOLE.notes)
    assert all(markdown.md(note, 1000) in COMPARISON["md"](WHOLE) for note in WHOLE.notes)
    hidden = [note for note in WHOLE.notes if isinstance(note, Detail)]
    assert len(hidden) > 5 and not any(note in shown for note in hidden)
    assert all(note in shown for note in WHOLE.notes if note not in hidden)


def marked(table: Findings) -> dict[str, set[str]]:
    """Heading -> the marks of its column, as Markdown shows them."""
    rows = [line.split(" | ") for line in COMPARISON["md"](table).splitlines() if line.startswith("|")]
    heads, found = list[str](), dict[str, set[str]]()
    for row in rows:
        if row[0].startswith("| method"):
            heads = row
        for head, cell in zip(heads[1:], row[1:], strict=True):
            found.setdefault(head.strip(" |"), set()).update(re.findall(r"[+−][\d.]+([▲▼*\\]+)", cell))
    return found


def test_less_chair_is_marked_better_and_what_is_no_score_neither() -> None:
    found = marked(WHOLE)
    assert found["POPE"] == found["CHAIR ↓"] == {"▲", "▼"} and found["recall"] == found["words"] == {"\\*"}
    assert found["total"] == set()
    [row] = (line for line in COMPARISON["md"](WHOLE).splitlines() if line.startswith("| nSFT |") and "\\*" in line)
    assert re.search(r"−\d+\.\d▲", row)  # CHAIR fell


def test_marks_that_forget_which_way_is_better_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = reports.findings.outcome
    monkeypatch.setattr(reports.findings, "outcome", lambda cell, lower, scored: honest(cell, False, scored))
    with pytest.raises(AssertionError):
        test_less_chair_is_marked_better_and_what_is_no_score_neither()


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_a_group_and_its_total_are_one_line_at_80_columns_and_no_number_is_broken(width: int) -> None:
    lines = screen(WHOLE, width)
    assert max(map(len, lines)) <= width
    [head] = (line for line in lines if line.startswith("Hallucination"))
    assert head.split()[1:7] == ["POPE", "CHAIR", "↓", "MMHal", "total", *(["│"] if width >= 120 else [])]
    end = next(at for at, line in enumerate(lines) if line.startswith("beside a value"))
    rows = [line for line in lines[:end] if re.match(r"LLaVA|Cont|nSFT|GT-DPO", line)]
    assert all(re.fullmatch(r"[-+−\d.,▲▼*–│]+", cell) for line in rows for cell in line[15:].split())


def test_what_is_no_score_stands_apart() -> None:
    assert any(line.startswith("no scores      recall") for line in screen(WHOLE, 80))
    assert any(re.search(r"MMHal +total +│ recall +words$", line) for line in screen(WHOLE, 120))
