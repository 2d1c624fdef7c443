"""Sentences that must stand under a table because of what its numbers are: how small a difference it could see at all,
what a mark takes, what batches alone do, and gains that are a matter of format.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from reports.estimates import ROBUST, Estimate
from reports.outcomes import NOISE
from reports.statistics import LEVEL, holm, quantile

if TYPE_CHECKING:
    from reports.table import Column, Row

Found = Mapping[str, Mapping[str, Mapping[str, Estimate]]]  # benchmark -> method -> metric -> estimate


def cautions(columns: "Sequence[Column]", rows: "Sequence[Row]", found: Found, tests: int) -> Iterator[str]:
    """The sentences that apply to this table; `tests` is the number of comparisons in Holm's family."""
    cells = [
        (row, place, column, found[column.benchmark][row.method][column.metric])
        for row in rows
        for place, column in enumerate(columns)
        if column.metric in found.get(column.benchmark, {}).get(row.method, {})
    ]
    compared = [(row, place, column, e) for row, place, column, e in cells if e.deltas and row.method != NOISE]
    if compared:
        yield from _detectable(columns, [(column, e) for _, _, column, e in compared], tests)
        yield from _seeds([(f"{row.label} {column.label}", e) for row, _, column, e in compared], tests)
    if any(row.method == NOISE for row in rows):
        yield "noise floor: the baseline's own responses, generated in batches of another size; not tested"
    for row, place, column, e in compared:
        twin = found[column.benchmark][row.method].get(column.metric + ROBUST)
        if row.cells[place].resolved and twin and not _same_side(e, twin):
            shown = (f"{number:+.{column.digits}f}" for number in (e.delta, twin.delta, twin.low, twin.high))
            said = "{} by the official parse, {} [{}, {}] by a robust one".format(*shown)
            yield f"format effect: {row.label}, {column.label}: {said}"


def _same_side(official: Estimate, robust: Estimate) -> bool:
    """Whether the robust parse's interval lies on the side of zero on which the official difference is."""
    return robust.low > 0 if official.delta > 0 else robust.high < 0


def _detectable(
    columns: "Sequence[Column]", compared: "Sequence[tuple[Column, Estimate]]", tests: int
) -> Iterator[str]:
    """Per column the largest of its rows', alone and with Holm's first step."""
    texts = []
    for column in columns:
        mine = [e for of, e in compared if of == column]
        alone, marked = (
            max((d for d in (e.detectable(level) for e in mine) if not math.isnan(d)), default=math.nan)
            for level in (LEVEL, LEVEL / max(tests, 1))
        )
        if not math.isnan(alone):
            texts.append(f"{column.label} {alone:.{column.digits}f} ({marked:.{column.digits}f})")
    if texts:
        yield "minimum detectable difference at 80 % power, alone (with the mark): " + ", ".join(texts)


def _seeds(compared: Sequence[tuple[str, Estimate]], tests: int) -> Iterator[str]:
    """With several seeds: what a mark takes, and what holds for these base models if for no others."""
    seeds = max(len(e.deltas) for _, e in compared)
    if seeds < 2:
        return
    level = LEVEL / max(tests, 1)
    takes = (f"{quantile(level, count - 1):.1f} with {count} seeds" for count in (seeds, 2 * seeds))
    yield (
        "a mark is for base models in general: the first takes a difference of its standard error between seeds times "
        f"{', '.join(takes)} (Student's t)"
    )
    here = holm([e.p_here for _, e in compared])
    names = [name for (name, _), p in zip(compared, here, strict=True) if p < LEVEL]
    if names:
        yield f"resolved for these {seeds} base models alone (images resampled, Holm-adjusted): {', '.join(names)}"
