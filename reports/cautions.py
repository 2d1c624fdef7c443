"""Sentences that must stand under a table because of what its numbers are.

How small a difference it could see at all, what a mark takes, what batches alone do, gains that are a matter of format.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

from harness.contracts.row_names import CONTROLS, NOISE
from reports.estimates import ROBUST, Estimate
from reports.findings import Column, Row, Setting
from reports.legend import Detail
from reports.manifest import Shared
from reports.numerals import numeral
from reports.statistics import LEVEL, holm, quantile

Found = Mapping[str, Mapping[str, Mapping[str, Estimate]]]  # benchmark -> method -> metric -> estimate


def cautions(
    columns: Sequence[Column], rows: Sequence[Row], found: Found, tests: int, setting: Setting
) -> Iterator[str]:
    """The sentences that apply to this table; `tests` is the number of comparisons in Holm's family."""
    yield from _trained_on(columns, setting)
    cells = [
        (row, column, found[column.benchmark][row.method][column.metric])
        for row in rows
        for column in columns
        if column.metric in found.get(column.benchmark, {}).get(row.method, {})
    ]
    compared = [(row, column, e) for row, column, e in cells if e.deltas and row.method not in CONTROLS]
    here = holm([e.p_here for *_, e in compared])
    if compared:
        yield from _detectable(columns, [(column, e) for _, column, e in compared], tests)
        resolved: dict[str, list[str]] = {}
        for (row, column, _), p in zip(compared, here, strict=True):
            if p < LEVEL:
                resolved.setdefault(row.label, []).append(column.label)
        seeds = max((e.deltas for *_, e in compared), key=len)
        yield from _seeds(list(seeds), tests, resolved, setting.bases(seeds))
    if any(row.method == NOISE for row in rows):
        yield "noise floor: the baseline's own responses, generated in batches of another size; not tested"
    for (row, column, e), p in zip(compared, here, strict=True):
        twin = found[column.benchmark][row.method].get(column.metric + ROBUST)
        if p < LEVEL and twin and not (twin.p_here < LEVEL and twin.delta * e.delta > 0):
            shown = (numeral(number, column.digits, "+") for number in (e.delta, twin.delta, twin.low, twin.high))
            said = "{} by the official parse, {} [{}, {}] by a robust one".format(*shown)
            yield f"format effect: {row.label}, {column.label}: {said}"


def _trained_on(columns: Sequence[Column], setting: Setting) -> Iterator[str]:
    """Which benchmarks ask about pictures that were trained on."""
    labels = {column.benchmark: column.label for column in reversed(columns) if column.scored}
    told = {labels[name]: one for name, one in setting.shared.items() if name in labels}
    if found := {label: one for label, one in told.items() if one.found}:
        counts = (
            f"{label} {one.found:,} of {one.pictures:,} ({', '.join(_ways(one))})" for label, one in found.items()
        )
        yield f"TRAINED ON pictures of the benchmarks: {', '.join(counts)}; their scores are not of unseen pictures"
    elif told:
        yield Detail("no picture of the benchmarks was trained on, by file or COCO id; near ones: harness data leaks")


def _ways(one: Shared) -> Iterator[str]:
    yield from [f"{one.files:,} the same file"] if one.files else []
    yield from [f"{one.coco:,} by COCO id"] if one.coco else []


def _detectable(columns: Sequence[Column], compared: Sequence[tuple[Column, Estimate]], tests: int) -> Iterator[str]:
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
        yield Detail("minimum detectable difference at 80 % power, alone (with a mark): " + ", ".join(texts))


def _seeds(at: Sequence[int], tests: int, resolved: Mapping[str, Sequence[str]], bases: int) -> Iterator[str]:
    """With several seeds: what a mark takes and is for, and what holds for these models if for no others.

    Seeds that share a base model are draws of the data, and no sample of base models.
    """
    seeds, of = len(at), "one base model" if bases == 1 else f"{bases} base models"
    general, these = "base models in general", f"{seeds} base models"
    if bases < seeds:
        general, these = f"draws of the data with {of}, not base models in general", f"{seeds} draws with {of}"
    if seeds > 1:
        level = LEVEL / max(tests, 1)
        takes = (f"{quantile(level, count - 1):.1f} with {count} seeds" for count in (seeds, 2 * seeds))
        yield Detail(
            f"a mark is for {general}: the first takes a difference of its standard error between seeds "
            f"times {', '.join(takes)} (Student's t)"
        )
    if seeds > 1 and resolved:
        listed = "; ".join(f"{label}: {', '.join(columns)}" for label, columns in resolved.items())
        yield f"resolved for these {these} alone (images resampled, Holm-adjusted): {listed}"
