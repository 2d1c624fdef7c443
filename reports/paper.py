"""The paper's Tables 1 to 7 from measured comparisons, alone or beside the printed numbers."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.contracts.benchmark import Benchmark
from harness.contracts.row_names import BASELINE
from harness.system.errors import UsageError
from reports import layouts
from reports.earned import Ran, shortfalls, told
from reports.findings import Cell, Findings, outcome
from reports.grid import Entry, Grid, Head, Line, with_best
from reports.layouts import BASES, LAYOUTS, SOURCES, Claim, Column, Layout
from reports.outcomes import Outcome, measure, withheld
from reports.plain import FAILED
from reports.statistics import mean

Names = tuple[str, ...]
Place = tuple[str, str]  # a column: its group (the data source in Table 3) and its key
Sheet = dict[tuple[str, Names], dict[Place, Entry]]  # (block, names of a row) -> the row's cells
LANGUAGE = {"llava-1.5-7b": "Vicuna-7B", "llava-1.5-13b": "Vicuna-13B"}


@dataclass(frozen=True)
class Part:
    """Measured results of one base and data source: a comparison, or several joined.

    `methods` tells of each row of the table which method file and options made it, `ran` what each comparison ran;
    `own` are rows of a user's file, or trained otherwise than the testbed says: no row of the paper's.
    """

    name: str
    data: str
    findings: Findings
    outcomes: Sequence[Outcome]
    benchmarks: Mapping[str, Benchmark]
    methods: Mapping[str, tuple[str, Mapping[str, Any]]]
    ran: Sequence[Ran] = ()
    own: Collection[str] = ()

    @property
    def base(self) -> str:
        """The testbed, which says which base model it is."""
        return self.findings.setting.testbed


def paper_table(number: int, parts: Sequence[Part], beside: bool = False) -> Grid:
    """Table `number` from measured parts; `beside` adds to each column that earned it one with the printed numbers.

    Without parts it is the paper's own table. UsageError where parts or the paper cannot stand in one table.
    """
    layout = LAYOUTS[number]
    if not parts:
        return with_best(_grid(layout, {}, _printed(layout), ()))
    lacking = dict[str, tuple[str, ...]]()
    for part in parts if beside else ():
        for column, reasons in shortfalls(layout, part.base, part.ran, part.outcomes).items():
            lacking[column] = tuple(dict.fromkeys((*lacking.get(column, ()), *reasons)))
    _refuse(layout, parts, beside)
    measured: Sheet = {}
    for part in parts:
        for row, names in _names(layout, part).items():
            key = ("" if layout.across else _block(layout, part), names)
            cells = {place: _measured(part, row, column) for place, column in _places(layout, part)}
            measured[key] = {**measured.get(key, {}), **cells}
    ran = [one for part in parts for one in part.ran]
    notes = (*_notes(layout, parts, measured), *(told(layout, ran, lacking) if beside else ()))
    shown = [] if lacking.get("") or not beside else [c.key for c in layout.columns if c.key not in lacking]
    return with_best(_grid(layout, measured, _printed(layout, shown), notes))


def _block(layout: Layout, part: Part) -> str:
    """The block, or in Table 3 the group of columns, that a part fills."""
    if layout.by == "data":
        return SOURCES.get(part.data, part.data)
    return BASES.get(part.base, part.base) if layout.by == "base" else ""


def _places(layout: Layout, part: Part) -> Iterator[tuple[Place, Column]]:
    for group, keys in layout.groups:
        for key in keys:
            yield (_block(layout, part) if layout.across else group, key), layouts.COLUMNS[key]


def _names(layout: Layout, part: Part) -> dict[str, Names]:
    """Row -> its names, in the paper's order; a row the paper has no name for keeps its own, and comes last."""
    found: dict[str, tuple[int, Names]] = {}
    taken, printed = set[Names](), {claim.label for claim in layout.claims}
    for row in part.findings.rows:
        stem, options = part.methods.get(row.method, (row.method, {}))
        known = () if row.method in part.own else layout.claims
        claims = ((place, claim) for place, claim in enumerate(known) if claim.holds(stem, options))
        place, claim = next(claims, (len(layout.claims), Claim(row.label, stem)))
        names = (claim.label, *_second(layout, part, stem, options))
        if names in taken or (place == len(layout.claims) and claim.label in printed):
            names = (f"{row.label} ({row.method})", *names[1:])
        taken.add(names)
        found[row.method] = (place, names)
    return {row: names for row, (_, names) in sorted(found.items(), key=lambda item: item[1][0])}


def _second(layout: Layout, part: Part, stem: str, options: Mapping[str, Any]) -> Names:
    if layout.number == 2:
        return (LANGUAGE.get(part.base, part.base),)
    if layout.number == 7:
        made = layouts.method(stem, options)
        return (
            layouts.NEITHER if stem == BASELINE or made is None else (layouts.NO, layouts.YES)[layouts.with_kl(made)],
        )
    return ()


def _measured(part: Part, row: str, column: Column) -> Entry:
    """One measured cell; a dash where the part has no value for it."""
    if column.metric:
        return _sub_score(part, row, column)
    cell = cell_of(part.findings, row, column.total or column.benchmark, total=column.total is not None)
    if cell is None:
        return Entry(digits=column.digits)
    if column.total:
        return Entry(0.0 if row == BASELINE else cell.delta, signed=True, low=cell.low, high=cell.high)
    return Entry(
        cell.value,
        column.digits,
        FAILED if cell.failed else cell.withheld,
        mark=outcome(cell, column.lower),
        low=cell.low,
        high=cell.high,
        unshown=cell.delta,
    )


def _sub_score(part: Part, row: str, column: Column) -> Entry:
    """A metric that is not its benchmark's first: the mean over the seeds."""
    mine = [o for o in part.outcomes if (o.method, o.benchmark) == (row, column.benchmark)]
    if not mine:
        return Entry(digits=column.digits)
    benchmark = part.benchmarks[column.benchmark]
    values = [measure(benchmark, outcome.units)[column.metric] for outcome in mine]
    return Entry(mean(values), column.digits, withheld(benchmark, mine))


def cell_of(findings: Findings, method: str, where: str, total: bool = False) -> Cell | None:
    """A method's cell under a benchmark's first metric, or under a group's total; None where there is none."""
    for row in findings.rows:
        for column, cell in zip(findings.columns, row.cells, strict=True):
            at = column.group if column.metric == "total" else column.benchmark
            if row.method == method and at == where and (column.metric == "total") == total:
                return cell
    return None


def _printed(layout: Layout, shown: Collection[str] | None = None) -> Sheet:
    """The paper's own numbers as a sheet: of all columns, or of those that are shown."""
    sheet: Sheet = {}
    for row in layouts.printed()[f"table{layout.number}"]["rows"]:
        block = row.get({"data": "data", "base": "base"}.get(layout.by, ""), "")
        second = {2: row.get("lm", ""), 7: layouts.kl_sign(row) if "with_kl" in row else ""}
        names = (row["method"], *((second[layout.number],) if layout.number in second else ()))
        for group, keys in layout.groups:
            for key in (key for key in keys if shown is None or key in shown):
                column, value = layouts.COLUMNS[key], row[key]
                entry = Entry(math.nan if value is None else value, column.digits, signed=column.total is not None)
                where = ("", names) if layout.across else (block, names)
                sheet.setdefault(where, {})[block if layout.across else group, key] = entry
    return sheet


def _grid(layout: Layout, measured: Sheet, paper: Sheet, notes: Iterable[str]) -> Grid:
    """Measured and printed cells in one table, or the one that is there."""
    sheets = [sheet for sheet in (measured, paper) if sheet]
    places = list(dict.fromkeys(place for sheet in sheets for cells in sheet.values() for place in cells))
    printed = {place for cells in paper.values() for place in cells}
    if layout.across:  # the paper's order of sources
        places.sort(key=lambda place: [*SOURCES.values(), place[0]].index(place[0]))
    heads, lines = [], []
    for group, key in places:
        column = layouts.COLUMNS[key]
        head = Head(column.heading, group, column.lower, rank=column.total is None)
        both = len(sheets) == 2 and (group, key) in printed
        heads += [head, replace(head, label=f"{head.label} (paper)")] if both else [head]
    keys = list(dict.fromkeys(key for sheet in sheets for key in sheet))
    blocks = list(dict.fromkeys(block for block, _ in keys))
    for block, names in sorted(keys, key=lambda key: blocks.index(key[0])):
        row = [sheet.get((block, names), {}) for sheet in sheets]
        entries = (
            cells.get(place, Entry())
            for place in places
            for cells, sheet in zip(row, sheets, strict=True)
            if sheet is not paper or not measured or place in printed
        )
        lines.append(Line(names, tuple(entries), block))
    by = {"data": "Alignment data", "base": "Base"}.get(layout.by, "") if not layout.across else ""
    source = (layouts.printed()["source"],) if paper else ()
    title = f"{layout.title} of the paper" if paper and not measured else layout.title
    return Grid(title, layout.stubs, tuple(heads), tuple(lines), (*notes, *source), by)


def _refuse(layout: Layout, parts: Sequence[Part], beside: bool) -> None:
    """UsageError where numbers of different protocols or testbeds would stand in one column."""
    settings = [(part.name, part.findings.setting) for part in parts]
    for field in ("protocol", "synthetic"):
        if len(values := {getattr(setting, field) for _, setting in settings}) > 1:
            named = "; ".join(f"{name}: {getattr(setting, field)}" for name, setting in settings)
            raise UsageError(f"these runs differ in {field} ({named}): {len(values)} kinds of numbers, not one table.")
    for name, setting in settings if beside else ():
        own = f"The paper's table by itself: `harness report --table {layout.number} --paper`."
        if setting.synthetic:
            raise UsageError(
                f"{name} was measured on {setting.testbed_in_words}: a drawn world and 1 M parameter models share "
                f"nothing with the paper's numbers but the columns' names, so they get no table together. {own}"
            )
        if setting.protocol != layouts.PROTOCOL:
            raise UsageError(
                f"{name} has the protocol {setting.protocol}, the paper {layouts.PROTOCOL}: not one table. {own}"
            )
        if setting.testbed in BASES and setting.testbed not in layout.bases:
            raise UsageError(
                f"{name} was measured on {setting.testbed}, the paper's table {layout.number} on "
                f"{' and '.join(layout.bases)}: other models, so not one table. {own}"
            )


def _notes(layout: Layout, parts: Sequence[Part], measured: Sheet) -> Iterator[str]:
    """What the table must say below it."""
    about = {f"{_block(layout, part)}: " if len(parts) > 1 else "": part for part in parts}
    said: dict[str, None] = {}
    skipped = ["second figure"]  # what this layout does not have
    skipped += [] if any(column.total for column in layout.columns) else ["totals (", "as the caption"]
    skipped += [] if any(column.benchmark == "chair" for column in layout.columns) else ["CHAIR falls"]
    for prefix, part in about.items():
        for note in part.findings.notes:
            if not note.startswith(tuple(skipped)):
                common = all(note in other.findings.notes for other in parts)
                said.setdefault(note if common else prefix + note)
    yield from said
    yield "bold: the best figure of its column and block; only ▲ and ▼ tell a resolved difference to the baseline"
    yield from _dashes(layout, parts, measured)


def _dashes(layout: Layout, parts: Sequence[Part], measured: Sheet) -> Iterator[str]:
    """Why there are dashes, and what was measured but has no column."""
    there = {outcome.benchmark for part in parts for outcome in part.outcomes}
    absent = [c.heading for c in layout.columns if not c.total and c.benchmark not in there]
    if absent:
        yield f"–: no run has {', '.join(dict.fromkeys(absent))}"
    for (block, names), cells in measured.items():
        without = [
            layouts.COLUMNS[key].heading
            for (_, key), entry in cells.items()
            if layouts.COLUMNS[key].benchmark in there and math.isnan(entry.value) and not entry.text
        ]
        if without:
            yield f"–: no score of {' '.join(filter(None, (block, *names)))} for {', '.join(without)}"
    shown = {column.benchmark for column in layout.columns}
    if others := sorted(there - shown):
        yield f"measured, and no column of this table: {', '.join(others)}"
