"""The only place where a table becomes text: terminal, Markdown, CSV, LaTeX.

Strings of models, methods and files are hostile until they have passed here: control characters and direction
overrides are made visible, and each format's own syntax is escaped. Numbers are formatted by one function for all.
"""

import csv
import io
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.cells import cell_len, set_cell_size
from rich.console import Group as Stack
from rich.text import Text

from reports.table import GROUPS, Column, Row, Table

DASH = "–"
CSV_FIELDS = (
    *"method label seeds benchmark metric value delta".split(),
    *"ci_of ci_lo ci_hi p_holm n unscored withheld testbed protocol".split(),
)
_LABEL, _GAP = 16, 2
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"{\char34}", "`": r"{\char96}",
    "[": "{[}", "]": "{]}", "*": "{*}", "-": "{-}", "–": "--", "Δ": r"$\Delta$", "↓": r"$\downarrow$",
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
    if value and not math.isnan(cell.coverage):
        value += f" ({math.floor(10 * cell.coverage) / 10:g} %)"
    sign = "" if math.isnan(cell.delta) else "+"
    span = "" if math.isnan(cell.low) else f"[{cell.low:{sign}z.{digits}f}, {cell.high:{sign}z.{digits}f}]"
    return value, delta, span


def _aligned(column: Column, figures: Sequence[tuple[str, str, str]]) -> list[tuple[str, str]]:
    """The heading and every row's cell as two lines of one width: value and difference, interval."""
    widths = [max((len(f[i].rstrip("*")) for f in figures if f[1] or f[2]), default=0) for i in (0, 1)]
    lines = [(_heading(column), "")]
    for value, delta, span in figures:
        signed = f" {delta:>{widths[1] + delta.endswith('*')}}" if delta else ""
        lines.append(((value if not value[:1].isdigit() else f"{value:>{widths[0]}}") + signed, span))
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


def _md(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|#&~$])", r"\\\1", _short(text))


def _tex(text: str) -> str:
    escaped = (_LATEX.get(c) or (c if c.isascii() else f"{{[}}U+{ord(c):04X}{{]}}") for c in _short(text))
    return re.sub(r"(?<!\w)\{-\}(?=\d)", "$-$", "".join(escaped))  # a sign, not a hyphen


def _spreadsheet(text: str) -> str:
    shown = visible(text)
    return "'" + shown if shown.lstrip().startswith(("=", "+", "-", "@")) else shown


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _ampersands(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"
