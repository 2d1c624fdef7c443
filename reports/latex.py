r"""Grids as LaTeX: booktabs tables to be read by `\input`, in plain ASCII, for any engine.

Each is a float as wide as the page (`table*`), in the largest type in which it fits one of two columns.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from reports.grid import Entry, Grid, Line, groups
from reports.plain import NOTE, REASON, figures, heading, raised, short, shown
from reports.sheet import Sheet

SIZES = {"small": 105, "footnotesize": 118, "scriptsize": 138}  # characters across a page of two columns
SPACE = 1.4  # characters that two columns stand apart
RAISED = r"\textsuperscript{{{}}}"
_ESCAPED = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"{\char34}", "`": r"{\char96}",
    "[": "{[}", "]": "{]}", "*": "{*}", "-": "{-}", "–": "--", "Δ": r"$\Delta$", "↓": r"$\downarrow$",
    "✓": r"$\surd$", "✗": r"$\times$", "−": "$-$", "▲": r"$\bigtriangleup$", "▼": r"$\bigtriangledown$",
}  # fmt: skip


def comparison(sheet: Sheet) -> str:
    """A comparison's table: a float per group."""
    return _document(f"testbed: {tex(sheet.testbed)}", sheet.grids, f". Testbed: {tex(sheet.testbed)}.")


def table(grid: Grid) -> str:
    """One float."""
    return _document(tex(grid.title), [grid])


def _document(about: str, grids: Sequence[Grid], below: str = "") -> str:
    lines = [line for grid in grids for line in _lines(grid, below)]
    return "\n".join([f"% {about}; needs \\usepackage{{booktabs}}", *lines, ""])


def _lines(grid: Grid, below: str) -> Iterator[str]:
    if grid.heads:
        tabular = list(_tabular(grid))
        yield from (r"\begin{table*}[tp]", rf"\centering\{_size(grid)}\setlength{{\tabcolsep}}{{3pt}}")
        yield from (rf"\caption{{{tex(grid.title)}{below}}}", *tabular, r"\end{table*}", "")
    yield from (rf"\noindent{{\footnotesize {tex(note, NOTE)}}}\par" for note in grid.notes)


def _size(grid: Grid) -> str:
    """The type in which a grid's longest cells, side by side, are no wider than a page."""
    rows = [[*map(heading, grid.heads)]]
    for line in (line for line in grid.lines if not line.instead):
        rows.append([shown(entry, grid.spans == "beside") for entry in line.entries])
        rows.append([figures(entry)[2][: len(figures(entry)[2]) * 3 // 4] for entry in line.entries])  # set smaller
    blocks = max((len(line.block) for line in grid.lines), default=0) if grid.blocks else 0
    stubs = [blocks, *(max((len(line.names[at]) for line in grid.lines), default=0) for at in range(len(grid.stubs)))]
    wide = sum(max(len(row[at]) for row in rows) + SPACE for at in range(len(grid.heads))) + sum(stubs)
    return next((size for size, fits in SIZES.items() if wide <= fits), "tiny")


def _tabular(grid: Grid) -> Iterator[str]:
    stubs = [*([grid.blocks] if grid.blocks else []), *grid.stubs]
    yield from (rf"\begin{{tabular}}{{{'l' * len(stubs)}{'r' * len(grid.heads)}}}", r"\toprule")
    at, above, rules = len(stubs) + 1, [""] * len(stubs), ""
    for group, size in groups(grid.heads):
        above.append(rf"\multicolumn{{{size}}}{{c}}{{{tex(group)}}}")
        rules += rf"\cmidrule(lr){{{at}-{at + size - 1}}}" if group else ""
        at += size
    yield from [ampersands(above), rules] if rules else []
    yield ampersands([*map(tex, stubs), *(raised(heading(head), tex, RAISED) for head in grid.heads)])
    for block, members in groupby(grid.lines, key=lambda line: line.block):
        yield r"\midrule"
        for number, line in enumerate(members):
            names = [*([block if number == 0 else ""] if grid.blocks else []), *line.names]
            yield from _row(grid, line, list(map(tex, names)))
    yield from (r"\bottomrule", r"\end{tabular}")


def _row(grid: Grid, line: Line, names: list[str]) -> Iterator[str]:
    if line.instead:
        said = rf"\multicolumn{{{len(grid.heads)}}}{{l}}{{{tex(line.instead, REASON)}}}"
        yield ampersands([*names, said])
        return
    yield ampersands([*names, *(_cell(entry, grid.spans == "beside") for entry in line.entries)])
    if grid.spans == "below":
        spans = (figures(entry)[2] for entry in line.entries)
        yield ampersands([*[""] * len(names), *(rf"{{\scriptsize {tex(span)}}}" if span else "" for span in spans)])


def _cell(entry: Entry, span: bool) -> str:
    text = tex(shown(entry, span))
    return rf"\textbf{{{text}}}" if entry.best else text


def tex(text: str, longest: int = 300) -> str:
    """Plain text for LaTeX, in ASCII."""
    escaped = (_ESCAPED.get(c) or (c if c.isascii() else f"{{[}}U+{ord(c):04X}{{]}}") for c in short(text, longest))
    return re.sub(r"(?<!\w)\{-\}(?=\d)", "$-$", "".join(escaped))  # a sign, not a hyphen


def ampersands(cells: Sequence[str]) -> str:
    """A row of a tabular."""
    return f"{' & '.join(cells)} \\\\"
