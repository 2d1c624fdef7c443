"""Who won: what each row did to the baseline's scores, and how far to trust it, in words that need no statistics."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.contracts.row_names import BASELINE, CONTROLS
from reports.findings import Cell, Column, Findings, Row
from reports.numerals import numeral

LONGEST = 40  # of a heading


@dataclass(frozen=True, slots=True)
class Verdict:
    """One row against the baseline, benchmark by benchmark (first metrics; recall and length are no scores).

    `better` and `worse` hold (heading, difference) where the difference is resolved, `unresolved` the headings where it
    may be chance, `untested` those without a test: verdicts are missing, too few images, or the cell failed. `failed`
    is why the whole row has no numbers.
    """

    method: str
    label: str
    better: tuple[tuple[str, str], ...] = ()
    worse: tuple[tuple[str, str], ...] = ()
    unresolved: tuple[str, ...] = ()
    untested: tuple[str, ...] = ()
    failed: str = ""

    @property
    def parts(self) -> list[tuple[str, str]]:
        """("better" | "worse" | "open" | "untested" | "failed", words), of those that there are."""
        if self.failed:
            return [("failed", f"failed: {self.failed}")]
        count = sum(map(len, (self.better, self.worse, self.unresolved)))
        told = {"better": self.better, "worse": self.worse}
        parts = [(kind, f"{kind} on {', '.join(map(' '.join, of))}") for kind, of in told.items() if of]
        if self.unresolved:
            parts.append(("open", f"cannot tell on {len(self.unresolved)} of {count}"))
        if self.untested:
            parts.append(("untested", f"not tested on {', '.join(self.untested)}"))
        return parts


def verdicts(findings: Findings) -> list[Verdict]:
    """One for every row that a method made, in the table's order."""
    return [_verdict(findings.columns, row) for row in findings.rows if row.method not in (BASELINE, *CONTROLS)]


def trust(findings: Findings) -> Iterator[str]:
    """How far the verdicts reach: what was run, and the smallest difference that a mark could have been given."""
    setting, seeds = findings.setting, max((row.seeds for row in findings.rows), default=0)
    if setting.synthetic:
        yield "synthetic testbed: it says nothing about real models"
    bases = min(seeds, max(1, len(set(setting.models.values()))))
    yield (
        f"{seeds} seed{'s' * (seeds != 1)}, {bases} base model{'s' * (bases != 1)}"
        + (": another draw of the data, or another base, may come out otherwise" if seeds < 2 else "")
        + (": another base may come out otherwise" if seeds > 1 and bases < 2 else "")
    )
    compared = {row.method for row in findings.rows} - {BASELINE, *CONTROLS}
    least: dict[str, str] = {}
    for place, column in enumerate(findings.columns):
        if column.scored:
            cells = (row.cells[place] for row in findings.rows if row.method in compared)
            needed = [cell.detectable for cell in cells if not math.isnan(cell.detectable)]
            least |= {_name(column): f"{_name(column)} {max(needed):.{column.digits}f}"} if needed else {}
    if least:
        yield f"smaller differences than these are seldom seen here: {', '.join(least.values())}"


def _verdict(columns: Sequence[Column], row: Row) -> Verdict:
    cells = [(column, cell) for column, cell in zip(columns, row.cells, strict=True) if column.scored]
    won, lost = (
        [(column, cell) for column, cell in cells if column.outcome(cell) == way] for way in ("better", "worse")
    )
    unresolved = tuple(_name(column) for column, cell in cells if not (cell.resolved or math.isnan(cell.p_holm)))
    untested = tuple(_name(column) for column, cell in cells if math.isnan(cell.p_holm))
    return Verdict(row.method, row.label, _told(won), _told(lost), unresolved, untested, row.failed)


def _name(column: Column) -> str:
    return column.label[:LONGEST]


def _told(cells: Sequence[tuple[Column, Cell]]) -> tuple[tuple[str, str], ...]:
    return tuple((_name(column), numeral(cell.delta, column.digits, "+")) for column, cell in cells)
