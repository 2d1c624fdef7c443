"""Grids on a terminal, as rich prints them: cut into pieces that fit its width, so that no number is ever cut."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from rich.cells import cell_len, set_cell_size
from rich.console import Group as Stack
from rich.table import Column
from rich.table import Table as Lines
from rich.text import Text

from reports.grid import Entry, Grid, Head
from reports.numerals import MARKS
from reports.plain import FAILED, NOTE, SIGNS, figures, heading, short, shown
from reports.sheet import Sheet

STYLES = {"better": "green", "worse": "red", FAILED: "red"}
HEADING = Text("Verdict, against the baseline", "bold").append(
    "   (harness explain WORD; all notes: table.md)", "not bold dim"
)
Unit = TypeVar("Unit")
_BESIDE = "no scores"  # heads columns that a score is read by
_LABEL, _GAP = 16, 2
_RULE, _MARKS = Text("│ ", "dim"), "".join(MARKS.values())


def comparison(sheet: Sheet, width: int) -> Stack:
    """A comparison's table: a block per group, the difference beside the value, its interval below; the verdict last.

    What is no score stands behind a rule.
    """
    whole = [line.names[0] for line in sheet.grids[0].lines]
    labels = [short(name, _LABEL) for name in whole]
    cut = [f"{label} is {short(name)}" for label, name in zip(labels, whole, strict=True) if label != short(name)]
    margin = max(map(cell_len, [*labels, *(grid.title for grid in sheet.grids)]), default=0)
    parts = [part for grid in sheet.grids for part in _stacked(grid, margin, width)]
    notes = (Text(short(note, NOTE), style="dim") for note in (*cut, *sheet.grids[-1].notes))
    return Stack(*parts, *notes, *_verdict(sheet))


def table(grid: Grid, width: int) -> Stack:
    """Names, then as many columns as fit, then the names again with the next ones."""
    stubs, *names = _beside([grid.stubs, *(line.names for line in grid.lines)])
    margin = min(max(map(cell_len, [stubs, *names])), 40)
    cells = [[shown(line.entries[at], bool(grid.spans)) for line in grid.lines] for at in range(len(grid.heads))]
    wide = [max(map(cell_len, [heading(head), *column])) for head, column in zip(grid.heads, cells, strict=True)]

    def size(places: Sequence[int]) -> int:
        return sum(wide[at] + _GAP for at in places)

    parts = [Text(short(grid.title), style="bold")]
    for places in _packed([run for _, run in _runs(grid.heads, range(len(wide)))], size, width - margin):
        above = [(group, sum(wide[at] + _GAP for at in members)) for group, members in _runs(grid.heads, places)]
        if any(group for group, _ in above):
            parts.append(Text(_left("", margin) + "".join(_left("  " + short(g), n) for g, n in above), style="bold"))
        parts.append(Text(_left(stubs, margin) + "".join(_right(heading(grid.heads[at]), wide[at]) for at in places)))
        for block, numbers in groupby(range(len(grid.lines)), key=lambda number: grid.lines[number].block):
            if block and grid.blocks:
                parts.append(Text(short(block), style="italic"))
            for number in numbers:
                row = Text(_left(short(names[number], margin), margin))
                for at in places:
                    entry = grid.lines[number].entries[at]
                    style = f"{'bold ' * entry.best}{STYLES.get(entry.mark, '')}"
                    row.append(_right(cells[at][number], wide[at]), style=style)
                parts.append(row)
        parts.append(Text(""))
    return Stack(*parts, *(Text(short(note, NOTE), style="dim") for note in grid.notes))


def _beside(rows: Sequence[Sequence[str]]) -> list[str]:
    """Each row's names in one line, under each other by their place."""
    widths = [max(map(cell_len, map(short, column))) for column in zip(*rows, strict=True)]
    return ["  ".join(map(_left, map(short, row), widths)).rstrip() for row in rows]


def _left(text: str, width: int) -> str:
    return set_cell_size(text, width)


def _right(text: str, width: int) -> str:
    return " " * (width + _GAP - cell_len(text)) + text


def _runs(heads: Sequence[Head], places: Iterable[int]) -> Iterator[tuple[str, list[int]]]:
    for group, members in groupby(places, key=lambda at: heads[at].group):
        yield group, list(members)


@dataclass(frozen=True, slots=True)
class _Aligned:
    """A column of a comparison: the heading and every row's cell as two lines, all of one width."""

    lines: list[tuple[Text, Text]]
    beside: bool

    @property
    def width(self) -> int:
        return self.lines[0][0].cell_len


def _stacked(grid: Grid, margin: int, width: int) -> Iterator[Text]:
    """A group's lines: what is no score last, the title over the names."""
    places = sorted(range(len(grid.heads)), key=lambda at: grid.heads[at].beside)
    columns = [_aligned(grid.heads[at], [line.entries[at] for line in grid.lines]) for at in places]
    rest = [column for column in columns if column.beside]
    units = [*([column] for column in columns if not column.beside), *([rest] if rest else [])]
    for block in _packed(units, _width, width - margin):
        title = _BESIDE if block[0].beside else grid.title
        labels = [_left(text, margin) for text in (title, *(short(line.names[0], _LABEL) for line in grid.lines))]
        yield from _block(grid, labels, block, width)
        yield Text("")


def _aligned(head: Head, entries: Sequence[Entry]) -> _Aligned:
    """Value and difference, interval; in colour where the difference has a mark, dim where it is of no score."""
    told = list(map(figures, entries))
    widths = [max((len(one[i].rstrip(_MARKS)) for one in told if one[1] or one[2]), default=0) for i in (0, 1)]
    base = "dim" if head.beside else ""
    lines = [(Text(heading(head), base or "bold"), Text(""))]
    for entry, (value, delta, interval) in zip(entries, told, strict=True):
        first = Text(value if not value[:1].isdigit() else f"{value:>{widths[0]}}", base)
        if delta:
            aligned = f"{delta:>{widths[1] + delta.endswith(tuple(_MARKS))}}"
            first.append(f"{' ' * bool(value)}{aligned}", STYLES.get(entry.mark, ""))
        lines.append((first, Text(interval, "dim")))
    longest = max(line.cell_len for pair in lines for line in pair)
    for line in (line for pair in lines for line in pair):
        line.append(" " * (longest - line.cell_len))
    return _Aligned(lines, head.beside)


def _width(block: Sequence[_Aligned]) -> int:
    ruled = block[-1].beside and not block[0].beside
    return sum(column.width + _GAP for column in block) + len(_RULE) * ruled


def _block(grid: Grid, labels: Sequence[str], block: Sequence[_Aligned], width: int) -> Iterator[Text]:
    """The lines of some columns: their headings, then two of every row, the second only where there are intervals."""
    for number, label in enumerate(labels):
        first, second = Text(label, "" if number else "bold"), Text(" " * cell_len(label))
        if number and (why := grid.lines[number - 1].instead):
            yield first.append(" " * _GAP + short(why, width - cell_len(label) - _GAP))
            continue
        for at, column in enumerate(block):
            ruled = at > 0 and column.beside and not block[at - 1].beside
            for line, text in zip((first, second), column.lines[number], strict=True):
                line.append(" " * _GAP).append_text(_RULE if ruled else Text("")).append_text(text)
        for line in (first, second):
            line.rstrip()
        yield first
        if second.plain.strip(" │"):
            yield second


def _packed(units: Iterable[list[Unit]], size: Callable[[list[Unit]], int], width: int) -> Iterator[list[Unit]]:
    """Columns that fit side by side: whole units where one fits at all, at least one column in each piece."""
    piece: list[Unit] = []
    for unit in units:
        for part in [unit] if size(unit) <= width else [[column] for column in unit]:
            if piece and size([*piece, *part]) > width:
                yield piece
                piece = []
            piece += part
    if piece:
        yield piece


def _verdict(sheet: Sheet) -> Iterator[Text | Lines]:
    """The last lines: one per row, and how far to trust them; each part has a sign and words, so colour only helps."""
    if not sheet.verdicts:
        return
    lines = Lines.grid(Column(width=_LABEL, no_wrap=True), padding=(0, _GAP, 0, 0))
    for one in sheet.verdicts:
        parts = [
            Text(f"{SIGNS[kind]} {short(words, NOTE)}", style=f"bold {STYLES[kind]}" if kind in STYLES else "")
            for kind, words in one.parts
        ]
        lines.add_row(Text(short(one.label, _LABEL)), Text("   ").join(parts))
    for number, sentence in enumerate(sheet.trust):
        lines.add_row("" if number else "trust", Text(short(sentence, NOTE), style="dim"))
    yield from (Text(""), HEADING, lines)
