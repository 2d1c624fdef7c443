"""Grids laid out as text: terminal, Markdown, CSV, LaTeX. What a string becomes in each is for `reports.render`."""

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from rich.cells import cell_len, set_cell_size
from rich.console import Group as Stack
from rich.text import Text

from reports.grid import Entry, Grid, Head, groups
from reports.numerals import MARKS, numeral
from reports.render import DASH, NOTE, STYLES, ampersands, covered, exact, md, pipes, raised, short, spreadsheet, tex

FIELDS = "table block row group column value delta ci_lo ci_hi mark best text".split()
_GAP = 2


def terminal(grid: Grid, width: int = 110) -> Stack:
    """What rich prints: names, then as many columns as fit, then the names again with the next ones."""
    stubs, *names = _beside([grid.stubs, *(line.names for line in grid.lines)])
    margin = min(max(map(cell_len, [stubs, *names])), 40)
    cells = [[shown(line.entries[at], grid.spans) for line in grid.lines] for at in range(len(grid.heads))]
    wide = [max(map(cell_len, [heading(head), *column])) for head, column in zip(grid.heads, cells, strict=True)]
    parts = [Text(short(grid.title), style="bold")]
    for places in _pieces(grid.heads, wide, width - margin):
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


def markdown(grid: Grid) -> str:
    """One pipe table; a column says its group where there are several."""
    several = len(groups(grid.heads)) > 1
    heads = [f"{head.group}: {head.label}" if several and head.group else head.label for head in grid.heads]
    heads = [md(text) + (" ↓" if head.lower else "") for text, head in zip(heads, grid.heads, strict=True)]
    stubs = [*([grid.blocks] if grid.blocks else []), *grid.stubs]
    lines = [f"**{md(grid.title)}**", "", pipes([*map(md, stubs), *heads])]
    lines.append(pipes(["---"] * len(stubs) + ["---:"] * len(heads)))
    for line in grid.lines:
        texts = [md(shown(entry, grid.spans)) for entry in line.entries]
        cells = [f"**{text}**" if entry.best else text for text, entry in zip(texts, line.entries, strict=True)]
        lines.append(pipes([*map(md, [line.block] if grid.blocks else []), *map(md, line.names), *cells]))
    return "\n".join([*lines, "", *(f"- {md(note, NOTE)}" for note in grid.notes), ""])


def latex(grid: Grid) -> str:
    """A booktabs tabular, to be read by `\\input`; plain ASCII, for any engine."""
    stubs = [*([grid.blocks] if grid.blocks else []), *grid.stubs]
    lines = [f"% {tex(grid.title)}; needs \\usepackage{{booktabs}}"]
    lines += [rf"\begin{{tabular}}{{{'l' * len(stubs)}{'r' * len(grid.heads)}}}", r"\toprule"]
    at, above, rules = len(stubs) + 1, [""] * len(stubs), ""
    for group, size in groups(grid.heads):
        above.append(rf"\multicolumn{{{size}}}{{c}}{{{tex(group)}}}")
        rules += rf"\cmidrule(lr){{{at}-{at + size - 1}}}" if group else ""
        at += size
    lines += [ampersands(above), rules] if rules else []
    lines += [ampersands([*map(tex, stubs), *(raised(heading(head), tex) for head in grid.heads)])]
    for block, members in groupby(grid.lines, key=lambda line: line.block):
        lines.append(r"\midrule")
        for number, line in enumerate(members):
            texts = [(tex(shown(entry, grid.spans)), entry.best) for entry in line.entries]
            cells = [rf"\textbf{{{text}}}" if best else text for text, best in texts]
            first = [tex(block if number == 0 else "")] if grid.blocks else []
            lines.append(ampersands([*first, *map(tex, line.names), *cells]))
    notes = (rf"\noindent{{\footnotesize {tex(note, NOTE)}}}\par" for note in grid.notes)
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", "", r"\medskip", "", *notes, ""])


def comma_separated(grid: Grid) -> str:
    """One line per cell, numbers in full precision, nothing where there is none; then one line per note."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(FIELDS)
    for line in grid.lines:
        for head, entry in zip(grid.heads, line.entries, strict=True):
            where = [grid.title, line.block, " / ".join(filter(None, line.names)), head.group, head.label]
            delta = entry.delta if math.isfinite(entry.delta) else entry.unshown
            numbers = [exact(n) if math.isfinite(n) else "" for n in (entry.value, delta, entry.low, entry.high)]
            ends = [entry.mark, "best" if entry.best else "", entry.text.strip()]
            writer.writerow([*map(spreadsheet, where), *numbers, *map(spreadsheet, ends)])
    for note in grid.notes:
        writer.writerow([*map(spreadsheet, (grid.title, "", "", "", "note")), *[""] * 6, spreadsheet(note)])
    return file.getvalue()


def shown(entry: Entry, spans: bool = False) -> str:
    """A cell in plain characters."""
    if entry.text:
        return short(entry.text).strip()
    if not math.isfinite(entry.value) and not math.isfinite(entry.delta):
        return DASH
    form = ("," if abs(entry.value) >= 10_000 else "") + ("+" if entry.signed else "")
    value = numeral(entry.value, entry.digits, form) if math.isfinite(entry.value) else ""
    value += covered(entry.coverage) if value else ""
    delta = numeral(entry.delta, entry.digits, "+") if math.isfinite(entry.delta) else ""
    figure = f"({value})" if entry.signed else " ".join(filter(None, (value, delta)))
    return " ".join(filter(None, (figure + MARKS.get(entry.mark, ""), span(entry) if spans else "")))


def span(entry: Entry) -> str:
    """The interval, empty where there is none."""
    if entry.text or not (math.isfinite(entry.low) and math.isfinite(entry.high)):
        return ""
    sign = "+" if entry.signed or math.isfinite(entry.delta) else ""
    return f"[{', '.join(numeral(end, entry.digits, sign) for end in (entry.low, entry.high))}]"


def heading(head: Head) -> str:
    return short(head.label, 40) + (" ↓" if head.lower else "")


def _beside(rows: Sequence[Sequence[str]]) -> list[str]:
    """Each row's names in one line, under each other by their place."""
    widths = [max(map(cell_len, map(short, column))) for column in zip(*rows, strict=True)]
    return ["  ".join(map(_left, map(short, row), widths)).rstrip() for row in rows]


def _left(text: str, width: int) -> str:
    return set_cell_size(text, width)


def _right(text: str, width: int) -> str:
    return " " * (width + _GAP - cell_len(text)) + text


def _pieces(heads: Sequence[Head], widths: Sequence[int], width: int) -> Iterator[list[int]]:
    """Columns that fit side by side: whole groups where one fits at all, at least one column in each piece."""

    def size(columns: Sequence[int]) -> int:
        return sum(widths[at] + _GAP for at in columns)

    piece: list[int] = []
    for _, group in _runs(heads, range(len(heads))):
        for part in [group] if size(group) <= width else [[at] for at in group]:
            if piece and size([*piece, *part]) > width:
                yield piece
                piece = []
            piece += part
    yield piece


def _runs(heads: Sequence[Head], places: Iterable[int]) -> Iterator[tuple[str, list[int]]]:
    for group, members in groupby(places, key=lambda at: heads[at].group):
        yield group, list(members)
