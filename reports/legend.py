"""What must be known to read a comparison's table: only of the signs that stand in it."""

import math
from collections.abc import Iterator

from harness.contracts.row_names import PUBLISHED
from reports.findings import Cell, Column, Findings
from reports.numerals import MARKS
from reports.outcomes import MAX_UNSCORED
from reports.statistics import LEVEL

MARKED = "▲ better, ▼ worse (not higher or lower), * moved and no score"


class Detail(str):
    """A note for those who want every one: what the legend says in short, or what the verdict says as well."""

    __slots__ = ()


def brief(findings: Findings) -> tuple[str, ...]:
    """The notes of a table without its details, behind a legend of the signs that it has."""
    legend = "; ".join(_legend(findings))
    return (*([legend] if legend else []), *(note for note in findings.notes if not isinstance(note, Detail)))


def _legend(findings: Findings) -> Iterator[str]:
    pairs = [(column, cell) for row in findings.rows for column, cell in zip(findings.columns, row.cells, strict=True)]
    pairs = [(column, cell) for column, cell in pairs if not (cell.failed or cell.withheld)]
    differs = any(not math.isnan(cell.delta) for _, cell in pairs)
    spans = any(not math.isnan(cell.low) for _, cell in pairs)
    said = ["beside a value: its difference to the baseline"] * differs + ["[95 % interval]"] * spans
    if said:
        yield ", ".join(said)
    yield from _marks(pairs)
    if any(column.lower for column in findings.columns):
        yield "↓ lower is better"
    if beside := dict.fromkeys(column.label for column in findings.columns if column.beside):
        yield f"{', '.join(beside)}: no scores (CHAIR falls when captions say less)"
    if any(column.metric == "total" and not math.isnan(cell.delta) for column, cell in pairs):
        yield "total: the paper's sum of differences, not tested"
    if any(row.label.endswith(PUBLISHED) for row in findings.rows):
        other = "its data, base and training are not those of the other rows"
        yield f"{PUBLISHED.strip()} published, not trained here: {other}"
    if any(cell.coverage < 100 for _, cell in pairs):
        yield "(%): the share of units with a verdict"
    if any(cell.withheld for row in findings.rows for cell in row.cells):
        yield f"n/a: more than {MAX_UNSCORED:.0%} have none"


def _marks(pairs: list[tuple[Column, Cell]]) -> Iterator[str]:
    """The marks that occur, and what none means where one could stand."""
    tested = sum(not math.isnan(cell.p_holm) for _, cell in pairs)
    found = {column.outcome(cell) for column, cell in pairs} - {""}
    if found:
        turned = any(column.lower for column, _ in pairs)
        scored = [f"{MARKS[name]} {name}" for name in ("better", "worse") if name in found]
        scored[-1:] = [f"{scored[-1]} (not higher or lower)"] if scored and turned else scored[-1:]
        signs = ", ".join([*scored, *([f"{MARKS['moved']} moved"] if "moved" in found else [])])
        yield f"{signs}: resolved, Holm p < {LEVEL:g} over {tested} comparisons"
    if any(cell.p_holm >= LEVEL for _, cell in pairs):
        yield "no sign: may be chance" if found else f"no sign anywhere: each of {tested} differences may be chance"
