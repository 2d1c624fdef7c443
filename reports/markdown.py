"""Grids as Markdown: a pipe table each, what must be said below as a list."""

import re

from reports.grid import Entry, Grid, groups
from reports.plain import NOTE, REASON, SIGNS, heading, short, shown
from reports.sheet import Sheet


def comparison(sheet: Sheet) -> str:
    """A comparison's table: the testbed, the verdict, a grid per group."""
    lines = [f"Testbed: {md(sheet.testbed)}", ""]
    if sheet.verdicts:
        lines += ["**Verdict**, against the baseline", ""]
        for one in sheet.verdicts:
            told = "; ".join(f"{SIGNS[kind]} {md(words)}" for kind, words in one.parts)
            lines.append(f"- **{md(one.label)}**: {told}")
        lines += [*(f"- trust: {md(words)}" for words in sheet.trust), ""]
    return "\n".join([*lines, "".join(map(table, sheet.grids))])


def table(grid: Grid) -> str:
    """One pipe table below its title; a column says its group where there are several."""
    lines = [f"**{md(grid.title)}**", "", *_table(grid), ""] if grid.heads else []
    return "\n".join([*lines, *(f"- {md(note, NOTE)}" for note in grid.notes), ""])


def _table(grid: Grid) -> list[str]:
    several = len(groups(grid.heads)) > 1
    heads = [(f"{head.group}: " if several and head.group else "") + heading(head) for head in grid.heads]
    stubs = [*_blocks(grid, grid.blocks), *(["method"] if grid.stubs == (grid.title,) else grid.stubs)]
    lines = [pipes([*map(md, stubs), *map(md, heads)]), pipes(["---"] * len(stubs) + ["---:"] * len(heads))]
    for line in grid.lines:
        cells = [_cell(entry, bool(grid.spans)) for entry in line.entries]
        if line.instead:
            cells = [md(line.instead, REASON), *[""] * (len(cells) - 1)]
        lines.append(pipes([*map(md, [*_blocks(grid, line.block), *line.names]), *cells]))
    return lines


def _blocks(grid: Grid, text: str) -> list[str]:
    return [text] if grid.blocks else []


def _cell(entry: Entry, span: bool) -> str:
    text = shown(entry, span)
    text = md(text) if entry.text else text.replace("*", r"\*")  # of figures, only a mark is any syntax
    return f"**{text}**" if entry.best else text


def md(text: str, longest: int = 300) -> str:
    """Plain text for Markdown."""
    return re.sub(r"([\\`*_\[\]<>|#&~$])", r"\\\1", short(text, longest))


def pipes(cells: list[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"
