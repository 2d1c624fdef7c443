"""A table of any layout: blocks of rows under grouped columns, with what must be said below it.

Numbers and plain strings. A format is a module that turns a grid into text: `terminal`, `markdown`, `latex`,
`spreadsheet`, `page`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal


@dataclass(frozen=True, slots=True)
class Head:
    """One column. Columns next to each other with one `group` stand under it; `lower` where a smaller value is better.

    `rank` is false where a value is no better for being large or small, so that none is marked as best. `beside` marks
    what is shown to read a score by, and is none itself.
    """

    label: str
    group: str = ""
    lower: bool = False
    rank: bool = True
    beside: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One cell: `text` as it is, or a number; a NaN is a dash. Differences are `signed` and stand in brackets.

    `delta` is shown beside the value; the sign of `mark` (a key of `MARKS`) follows what stands last. `low` and `high`
    are the interval of the delta, or of the value where there is none. `unshown` is a delta that only CSV has room for.
    `coverage`: percent of units with a verdict, NaN if nobody judges.
    """

    value: float = math.nan
    digits: int = 1
    text: str = ""
    signed: bool = False
    mark: str = ""
    best: bool = False
    delta: float = math.nan
    low: float = math.nan
    high: float = math.nan
    coverage: float = math.nan
    unshown: float = math.nan


@dataclass(frozen=True, slots=True)
class Line:
    """One row: its names, one per stub of the grid, and its entries. Rows of one block stand together.

    `instead` is a sentence that is shown in place of all entries; they hold what CSV has.
    """

    names: tuple[str, ...]
    entries: tuple[Entry, ...]
    block: str = ""
    instead: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table. `stubs` head the columns of names, where the only one is the `title` it is written once.

    `blocks` says what a block is; `spans` where a cell's interval stands, "" for nowhere.
    """

    title: str
    stubs: tuple[str, ...]
    heads: tuple[Head, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()
    blocks: str = ""
    spans: Literal["", "beside", "below"] = ""

    def __post_init__(self) -> None:
        for line in self.lines:
            if len(line.names) != len(self.stubs) or len(line.entries) != len(self.heads):
                raise ValueError(f"a row of {self.title!r} has another number of cells than the heading")


def with_best(grid: Grid) -> Grid:
    """The grid with the best figure of each column in each block marked, ties all; signed figures are not ranked.

    Figures that print alike are alike.
    """
    lines = []
    for _, members in groupby(grid.lines, key=lambda line: line.block):
        block = list(members)
        columns = [_marked(head, [line.entries[at] for line in block]) for at, head in enumerate(grid.heads)]
        lines += [replace(line, entries=tuple(column[n] for column in columns)) for n, line in enumerate(block)]
    return replace(grid, lines=tuple(lines))


def _marked(head: Head, entries: Sequence[Entry]) -> list[Entry]:
    shown = {n: round(e.value, e.digits) for n, e in enumerate(entries) if math.isfinite(e.value) and not e.text}
    if not head.rank or len(shown) < 2:
        return list(entries)
    best = (min if head.lower else max)(shown.values())
    return [replace(entry, best=shown.get(n) == best) for n, entry in enumerate(entries)]


def groups(heads: Iterable[Head]) -> list[tuple[str, int]]:
    """The groups of the columns with their widths, in order."""
    return [(name, len(list(members))) for name, members in groupby(heads, key=lambda head: head.group)]
