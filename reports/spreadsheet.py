"""CSV for spreadsheets and programs: numbers in full precision, nothing where there is none, no cell a formula."""

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Sequence

from harness.system.console import visible
from reports.findings import Column, Findings
from reports.grid import Grid
from reports.plain import FAILED

FIELDS = "table block row group column value delta ci_lo ci_hi mark best text".split()
OF_COMPARISON = (
    *"method label seeds benchmark metric value delta".split(),
    *"ci_of ci_lo ci_hi p_holm n unscored verdict withheld testbed protocol".split(),
)
_SIGNS = "=+@-−＝＋＠－﹦﹢﹫﹣⁼⁺⁻₌₊₋﬩⩵⩶"  # and what Unicode takes for one of them
_BEFORE_SIGN = rf"(?=[\s\"'`\u2018-\u201f]*[{re.escape(_SIGNS)}])"
FORMULA, GUARDED = re.compile(rf"(^|;){_BEFORE_SIGN}"), re.compile(rf"(^|;)'{_BEFORE_SIGN}")


def comparison(findings: Findings) -> str:
    """One line per method and column."""
    return _lines(OF_COMPARISON, _cells(findings))


def table(grid: Grid) -> str:
    """One line per cell; then one line per note."""
    return _lines(FIELDS, _entries(grid))


def _cells(findings: Findings) -> Iterator[Sequence[str | float]]:
    shared = (findings.setting.testbed_in_words, findings.setting.protocol)
    for row in findings.rows:
        for column, cell in zip(findings.columns, row.cells, strict=True):
            of = "value" if math.isnan(cell.delta) else "delta"
            numbers = (cell.value, cell.delta, of, cell.low, cell.high, cell.p_holm, str(cell.n), str(cell.unscored))
            withheld = f"{FAILED}: {cell.failed}" if cell.failed else cell.withheld
            where = (row.method, row.label, str(row.seeds), _where(column), column.metric)
            yield (*where, *numbers, cell.verdict, withheld, *shared)


def _where(column: Column) -> str:
    return column.group if column.metric == "total" else column.benchmark


def _entries(grid: Grid) -> Iterator[Sequence[str | float]]:
    for line in grid.lines:
        for head, entry in zip(grid.heads, line.entries, strict=True):
            where = (grid.title, line.block, " / ".join(filter(None, line.names)), head.group, head.label)
            delta = entry.delta if math.isfinite(entry.delta) else entry.unshown
            ends = (entry.mark, "best" if entry.best else "", entry.text.strip())
            yield (*where, entry.value, delta, entry.low, entry.high, *ends)
    for note in grid.notes:
        yield (grid.title, "", "", "", "note", *[""] * 6, note)


def _lines(fields: Sequence[str], rows: Iterable[Sequence[str | float]]) -> str:
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(fields)
    writer.writerows([spreadsheet(cell) if isinstance(cell, str) else exact(cell) for cell in row] for row in rows)
    return file.getvalue()


def exact(number: float) -> str:
    """Every digit, nothing where it is not defined."""
    return repr(float(number)) if math.isfinite(number) else ""


def spreadsheet(text: str) -> str:
    """Plain text for a cell, with an apostrophe where a spreadsheet would take it for a formula.

    That is at its beginning, behind blanks and quotes too, and behind every semicolon: where a comma is the decimal
    sign, semicolons part the cells. Full-width and other forms of the four signs count as they do there.
    """
    return FORMULA.sub(r"\1'", visible(text))


def unguarded(cell: str) -> str:
    """What `spreadsheet` made a cell of, for who reads it and is none: without its apostrophes."""
    return GUARDED.sub(r"\1", cell)
