"""The only place where a table becomes text: terminal, Markdown, CSV, LaTeX, HTML.

Strings of models, methods and files are hostile until they have passed here: control characters and direction
overrides are made visible, and each format's own syntax is escaped. Numbers are formatted by one function for all.
"""

import base64
import csv
import hashlib
import io
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Group as Stack
from rich.text import Text

from reports.grid import Entry, Grid, Head, groups
from reports.table import GROUPS, Column, Row, Table

DASH = "–"
CSV_FIELDS = (
    *"method label seeds benchmark metric value delta".split(),
    *"ci_of ci_lo ci_hi p_holm n unscored withheld testbed protocol".split(),
)
GRID_FIELDS = "table block row group column value delta ci_lo ci_hi mark best text".split()
_LABEL, _GAP = 16, 2
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"{\char34}", "`": r"{\char96}",
    "[": "{[}", "]": "{]}", "*": "{*}", "-": "{-}", "–": "--", "Δ": r"$\Delta$", "↓": r"$\downarrow$",
    "✓": r"$\surd$", "✗": r"$\times$",
}  # fmt: skip


def visible(text: str) -> str:
    """`text` on one line; what has no glyph of its own (ESC, NUL, bidi overrides, surrogates) reads <U+001B>."""
    return "".join(f"<U+{ord(c):04X}>" if unicodedata.category(c) in _INVISIBLE else c for c in text)


def terminal(table: Table, width: int = 110) -> Stack:
    """What rich prints: a block per group of benchmarks, the difference beside the value, its interval below.

    A group too wide for `width` is cut into several blocks, so that no number is ever cut.
    """
    labels = [_short(row.label, _LABEL) for row in table.rows]
    parts: list[Text] = []
    for title, columns in _blocks(table):
        figures = [_aligned(column, [_figures(row, place, column) for row in table.rows]) for place, column in columns]
        for block in _fitting(figures, width - _LABEL - _GAP):
            for number, label in enumerate([title, *labels]):
                first, second = ("".join(" " * _GAP + column[number][line] for column in block) for line in (0, 1))
                parts.append(Text((set_cell_size(label, _LABEL) + first).rstrip(), style="" if number else "bold"))
                if second.strip():
                    parts.append(Text((" " * _LABEL + second).rstrip(), style="dim"))
            parts.append(Text(""))
    return Stack(*parts, *(Text(_short(note), style="dim") for note in table.notes))


def markdown(table: Table) -> str:
    """One pipe table per group, the notes below as a list."""
    lines = [f"Testbed: {_md(table.setting.testbed_in_words)}", ""]
    for title, columns in _blocks(table):
        lines += [f"**{title}**", "", _pipes(["method", *(_md(_heading(column)) for _, column in columns)])]
        lines.append(_pipes(["---", *["---:"] * len(columns)]))
        for row in table.rows:
            cells = (" ".join(filter(None, _figures(row, place, column))) for place, column in columns)
            lines.append(_pipes([_md(row.label), *(cell.replace("*", r"\*") for cell in cells)]))
        lines.append("")
    return "\n".join([*lines, *(f"- {_md(note)}" for note in table.notes), ""])


def latex(table: Table) -> str:
    """booktabs tabulars, one per group, to be read by `\\input`; plain ASCII, for any engine."""
    lines = [f"% testbed: {_tex(table.setting.testbed_in_words)}; needs \\usepackage{{booktabs}}"]
    for title, columns in _blocks(table):
        lines += [rf"\begin{{tabular}}{{l{'r' * len(columns)}}}", r"\toprule"]
        lines += [_ampersands([_tex(title), *(_tex(_heading(column)) for _, column in columns)]), r"\midrule"]
        for row in table.rows:
            cells = [_figures(row, place, column) for place, column in columns]
            firsts = (_tex(f"{value} {delta}".strip()) for value, delta, _ in cells)
            lines.append(_ampersands([_tex(row.label), *firsts]))
            lines.append(_ampersands(["", *(rf"{{\scriptsize {_tex(span)}}}" if span else "" for *_, span in cells)]))
        lines += [r"\bottomrule", r"\end{tabular}", "", r"\medskip", ""]
    notes = (rf"\noindent{{\footnotesize {_tex(note)}}}\par" for note in table.notes)
    return "\n".join([*lines, *notes, ""])


def comma_separated(table: Table) -> str:
    """One line per method and column, numbers in full precision, nothing where a number is not defined."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(CSV_FIELDS)
    for row in table.rows:
        for column, cell in zip(table.columns, row.cells, strict=True):
            of = "value" if math.isnan(cell.delta) else "delta"
            interval = [of, _exact(cell.low), _exact(cell.high), _exact(cell.p_holm)]
            texts = [row.method, row.label, str(row.seeds), _where(column), column.metric]
            ends = [cell.withheld, table.setting.testbed_in_words, table.setting.protocol]
            numbers = [_exact(cell.value), _exact(cell.delta), *interval, str(cell.n), str(cell.unscored)]
            writer.writerow([*map(_spreadsheet, texts), *numbers, *map(_spreadsheet, ends)])
    return file.getvalue()


def grid_terminal(grid: Grid, width: int = 110) -> Stack:
    """What rich prints: names, then as many columns as fit, then the names again with the next ones."""
    names = ["  ".join(filter(None, map(_short, line.names))) for line in grid.lines]
    stubs = "  ".join(map(_short, grid.stubs))
    margin = min(max(map(cell_len, [stubs, *names])), 40)
    cells = [[_shown(line.entries[at], grid.spans) for line in grid.lines] for at in range(len(grid.heads))]
    wide = [max(map(cell_len, [_label(head), *column])) for head, column in zip(grid.heads, cells, strict=True)]
    parts = [Text(_short(grid.title), style="bold")]
    for places in _pieces(grid.heads, wide, width - margin):
        above = [(group, sum(wide[at] + _GAP for at in members)) for group, members in _runs(grid.heads, places)]
        if any(group for group, _ in above):
            parts.append(Text(_left("", margin) + "".join(_left("  " + _short(g), n) for g, n in above), style="bold"))
        parts.append(Text(_left(stubs, margin) + "".join(_right(_label(grid.heads[at]), wide[at]) for at in places)))
        for block, numbers in groupby(range(len(grid.lines)), key=lambda number: grid.lines[number].block):
            if block and grid.blocks:
                parts.append(Text(_short(block), style="italic"))
            for number in numbers:
                row = Text(_left(_short(names[number], margin), margin))
                for at in places:
                    bold = "bold" if grid.lines[number].entries[at].best else ""
                    row.append(_right(cells[at][number], wide[at]), style=bold)
                parts.append(row)
        parts.append(Text(""))
    return Stack(*parts, *(Text(_short(note, 600), style="dim") for note in grid.notes))


def grid_markdown(grid: Grid) -> str:
    """One pipe table; a column says its group where there are several."""
    several = len(groups(grid.heads)) > 1
    heads = [f"{head.group}: {head.label}" if several and head.group else head.label for head in grid.heads]
    heads = [_md(text) + (" ↓" if head.lower else "") for text, head in zip(heads, grid.heads, strict=True)]
    stubs = [*([grid.blocks] if grid.blocks else []), *grid.stubs]
    lines = [f"**{_md(grid.title)}**", "", _pipes([*map(_md, stubs), *heads])]
    lines.append(_pipes(["---"] * len(stubs) + ["---:"] * len(heads)))
    for line in grid.lines:
        shown = [_md(_shown(entry, grid.spans)) for entry in line.entries]
        cells = [f"**{text}**" if entry.best else text for text, entry in zip(shown, line.entries, strict=True)]
        lines.append(_pipes([*map(_md, [line.block] if grid.blocks else []), *map(_md, line.names), *cells]))
    return "\n".join([*lines, "", *(f"- {_md(note, 600)}" for note in grid.notes), ""])


def grid_latex(grid: Grid) -> str:
    """A booktabs tabular, to be read by `\\input`; plain ASCII, for any engine."""
    stubs = [*([grid.blocks] if grid.blocks else []), *grid.stubs]
    lines = [f"% {_tex(grid.title)}; needs \\usepackage{{booktabs}}"]
    lines += [rf"\begin{{tabular}}{{{'l' * len(stubs)}{'r' * len(grid.heads)}}}", r"\toprule"]
    at, above, rules = len(stubs) + 1, [""] * len(stubs), ""
    for group, size in groups(grid.heads):
        above.append(rf"\multicolumn{{{size}}}{{c}}{{{_tex(group)}}}")
        rules += rf"\cmidrule(lr){{{at}-{at + size - 1}}}" if group else ""
        at += size
    lines += [_ampersands(above), rules] if rules else []
    lines += [_ampersands([*map(_tex, stubs), *(_raised(_label(head), _tex) for head in grid.heads)])]
    for block, members in groupby(grid.lines, key=lambda line: line.block):
        lines.append(r"\midrule")
        for number, line in enumerate(members):
            shown = [(_tex(_shown(entry, grid.spans)), entry.best) for entry in line.entries]
            cells = [rf"\textbf{{{text}}}" if best else text for text, best in shown]
            first = [_tex(block if number == 0 else "")] if grid.blocks else []
            lines.append(_ampersands([*first, *map(_tex, line.names), *cells]))
    notes = (rf"\noindent{{\footnotesize {_tex(note, 600)}}}\par" for note in grid.notes)
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", "", r"\medskip", "", *notes, ""])


def grid_csv(grid: Grid) -> str:
    """One line per cell, numbers in full precision, nothing where there is none; then one line per note."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(GRID_FIELDS)
    for line in grid.lines:
        for head, entry in zip(grid.heads, line.entries, strict=True):
            where = [grid.title, line.block, " / ".join(filter(None, line.names)), head.group, head.label]
            numbers = [_exact(n) if math.isfinite(n) else "" for n in (entry.value, entry.delta, entry.low, entry.high)]
            ends = [entry.mark, "best" if entry.best else "", entry.text.strip()]
            writer.writerow([*map(_spreadsheet, where), *numbers, *map(_spreadsheet, ends)])
    for note in grid.notes:
        writer.writerow([*map(_spreadsheet, (grid.title, "", "", "", "note")), *[""] * 6, _spreadsheet(note)])
    return file.getvalue()


def html(template: str, style: str, **context: Any) -> str:
    """A page from a template of ours: every string made visible and escaped, no script, nothing loaded from anywhere.

    `template` is a file's name in reports/, `style` the text of its style sheet; the policy allows that one by its
    digest, and data: images. jinja2.Markup among the context is the caller's promise, and nobody here makes one.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined  # slow to import
    from markupsafe import Markup, escape

    pages = Environment(
        loader=PackageLoader("reports", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: _lines(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {
        "shown": lambda entry: _shown(entry, spans=False),
        "span": _span,
        "heading": lambda head: Markup(_raised(_label(head), lambda text: str(escape(text)), "<sup>{}</sup>")),  # noqa: S704
    }
    pages.globals |= {"groups": groups, "groupby": groupby}
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    return pages.get_template(template).render(style=Markup(style), policy=policy, **context)  # noqa: S704


def label(text: str, longest: int = 28) -> str:
    """A string for a figure: on one line, without control characters; figures parse no markup."""
    return _short(text, longest)


def _lines(text: str) -> str:
    """`visible`, line by line."""
    return "\n".join(map(visible, text.split("\n")))


def _shown(entry: Entry, spans: bool) -> str:
    """A cell in plain characters."""
    if entry.text:
        return _short(entry.text).strip()
    if not math.isfinite(entry.value) and not math.isfinite(entry.delta):
        return DASH
    comma = "," if abs(entry.value) >= 10_000 else ""
    value = f"{entry.value:{'+' if entry.signed else ''}z{comma}.{entry.digits}f}" if math.isfinite(entry.value) else ""
    delta = f"{entry.delta:+z.{entry.digits}f}" if math.isfinite(entry.delta) else ""
    figure = f"({value})" if entry.signed else " ".join(filter(None, (value, delta)))
    return " ".join(filter(None, (figure + entry.mark, _span(entry) if spans else "")))


def _span(entry: Entry) -> str:
    """The interval, empty where there is none."""
    if entry.text or not (math.isfinite(entry.low) and math.isfinite(entry.high)):
        return ""
    sign = "+" if entry.signed or math.isfinite(entry.delta) else ""
    return f"[{entry.low:{sign}z.{entry.digits}f}, {entry.high:{sign}z.{entry.digits}f}]"


def _label(head: Head) -> str:
    return _short(head.label, 40) + (" ↓" if head.lower else "")


def _raised(text: str, escape: Callable[[str], str], form: str = r"\textsuperscript{{{}}}") -> str:
    """A heading with what follows a ^ set higher; letters and digits alone."""
    return "".join(
        form.format(part) if number % 2 else escape(part)
        for number, part in enumerate(re.split(r"\^([A-Za-z0-9]+)", text))
    )


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


def _blocks(table: Table) -> Iterator[tuple[str, list[tuple[int, Column]]]]:
    """The groups' titles, each with its columns and their places in a row."""
    for group, columns in groupby(enumerate(table.columns), key=lambda item: item[1].group):
        yield GROUPS[group][0], list(columns)


def _heading(column: Column) -> str:
    return _short(column.label, 40) + (" ↓" if column.lower else "")


def _where(column: Column) -> str:
    return column.group if column.metric == "total" else column.benchmark


def _figures(row: Row, place: int, column: Column) -> tuple[str, str, str]:
    """Value, difference with its mark, interval; each may be empty."""
    cell, digits = row.cells[place], column.digits
    if cell.withheld:
        return cell.withheld, "", ""
    value = "" if math.isnan(cell.value) else f"{cell.value:z.{digits}f}"
    delta = "" if math.isnan(cell.delta) else f"{cell.delta:+z.{digits}f}{'*' if cell.resolved else ''}"
    if not value and not delta:
        return DASH, "", ""
    sign = "" if math.isnan(cell.delta) else "+"
    span = "" if math.isnan(cell.low) else f"[{cell.low:{sign}z.{digits}f}, {cell.high:{sign}z.{digits}f}]"
    return value, delta, span


def _aligned(column: Column, figures: Sequence[tuple[str, str, str]]) -> list[tuple[str, str]]:
    """The heading and every row's cell as two lines of one width: value and difference, interval."""
    widths = [max((len(f[i].rstrip("*")) for f in figures if f[1] or f[2]), default=0) for i in (0, 1)]
    lines = [(_heading(column), "")]
    for value, delta, span in figures:
        signed = f" {delta:>{widths[1] + delta.endswith('*')}}" if delta else ""
        lines.append(((value if not value[-1:].isdigit() else f"{value:>{widths[0]}}") + signed, span))
    longest = max(cell_len(line) for pair in lines for line in pair)
    return [(first + " " * (longest - cell_len(first)), f"{second:<{longest}}") for first, second in lines]


def _fitting(columns: Sequence[list[tuple[str, str]]], width: int) -> Iterator[list[list[tuple[str, str]]]]:
    """The columns in blocks no wider than `width`, at least one in each."""
    block: list[list[tuple[str, str]]] = []
    for column in columns:
        if block and sum(cell_len(c[0][0]) + _GAP for c in [*block, column]) > width:
            yield block
            block = []
        block.append(column)
    yield block


def _exact(number: float) -> str:
    return "" if math.isnan(number) else repr(float(number))


def _short(text: str, longest: int = 300) -> str:
    shown = visible(text[: longest + 1])
    return shown if cell_len(shown) <= longest else set_cell_size(shown, longest - 1) + "…"


def _md(text: str, longest: int = 300) -> str:
    return re.sub(r"([\\`*_\[\]<>|#&~$])", r"\\\1", _short(text, longest))


def _tex(text: str, longest: int = 300) -> str:
    escaped = (_LATEX.get(c) or (c if c.isascii() else f"{{[}}U+{ord(c):04X}{{]}}") for c in _short(text, longest))
    return re.sub(r"(?<!\w)\{-\}(?=\d)", "$-$", "".join(escaped))  # a sign, not a hyphen


def _spreadsheet(text: str) -> str:
    shown = visible(text)
    return "'" + shown if shown.lstrip().startswith(("=", "+", "-", "@")) else shown


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _ampersands(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"
