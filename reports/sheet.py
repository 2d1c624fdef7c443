"""A comparison's findings laid out: a grid per group of benchmarks, the verdict and how far to trust it beside them."""

import math
from dataclasses import dataclass, replace

from reports.findings import GROUPS, Cell, Column, Findings, Row
from reports.grid import Entry, Grid, Head, Line
from reports.legend import brief as brief_notes
from reports.plain import FAILED
from reports.verdict import Verdict, trust, verdicts


@dataclass(frozen=True)
class Sheet:
    """What every format shows of a comparison; the last grid has the notes."""

    testbed: str
    verdicts: tuple[Verdict, ...]
    trust: tuple[str, ...]
    grids: tuple[Grid, ...]


def sheet(findings: Findings, brief: bool = False) -> Sheet:
    """With every note; `brief`: with those that are needed to read it, and without a judge's full coverage."""
    notes = brief_notes(findings) if brief else findings.notes
    groups = dict.fromkeys(column.group for column in findings.columns)
    grids = [_of_group(findings, [c.group == group for c in findings.columns], brief) for group in groups]
    grids = grids or [Grid("", ("",), (), ())]
    grids[-1] = replace(grids[-1], notes=notes)
    told = tuple(verdicts(findings))
    return Sheet(findings.setting.testbed_in_words, told, tuple(trust(findings)), tuple(grids))


def _of_group(findings: Findings, mine: list[bool], brief: bool) -> Grid:
    columns = [column for column, is_mine in zip(findings.columns, mine, strict=True) if is_mine]
    lines = []
    for row in findings.rows:
        cells = [cell for cell, is_mine in zip(row.cells, mine, strict=True) if is_mine]
        entries = tuple(entry_of(column, cell, brief) for column, cell in zip(columns, cells, strict=True))
        lines.append(Line((row.label,), entries, instead=_instead(row)))
    heads = tuple(Head(c.label, "", c.lower, rank=False, beside=c.beside) for c in columns)
    title = GROUPS[columns[0].group][0]
    return Grid(title, (title,), heads, tuple(lines), spans="below")


def _instead(row: Row) -> str:
    return f"{FAILED}: {row.failed}" if row.failed else ""


def entry_of(column: Column, cell: Cell, brief: bool = False) -> Entry:
    """Value and difference with its interval; `brief`: without a judge's full coverage."""
    coverage = math.nan if brief and cell.coverage >= 100 else cell.coverage
    text, mark = FAILED if cell.failed else cell.withheld, column.outcome(cell)
    delta, low, high = cell.delta, cell.low, cell.high
    return Entry(cell.value, column.digits, text, mark=mark, delta=delta, low=low, high=high, coverage=coverage)
