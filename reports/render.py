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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Group as Stack
from rich.table import Column as GridColumn
from rich.table import Table as Grid
from rich.text import Text

from harness.console import visible
from reports.legend import brief
from reports.numerals import MARKS, numeral
from reports.table import GROUPS, Column, Row, Table
from reports.verdict import trust, verdicts

DASH = "–"
CSV_FIELDS = (
    *"method label seeds benchmark metric value delta".split(),
    *"ci_of ci_lo ci_hi p_holm n unscored verdict withheld testbed protocol".split(),
)
_LABEL, _GAP = 16, 2
BESIDE = "no scores"  # heads columns that a score is read by
SIGNS = {**MARKS, "open": "?", "untested": "–", "failed": "✗"}
STYLES = {"better": "green", "worse": "red", "failed": "red"}
_RULE, _MARKS = Text("│ ", "dim"), "".join(MARKS.values())
_SIGNS = "=+@-−＝＋＠－﹦﹢﹫﹣⁼⁺⁻₌₊₋﬩⩵⩶"  # and what Unicode takes for one of them
_BEFORE_SIGN = rf"(?=[\s\"'`\u2018-\u201f]*[{re.escape(_SIGNS)}])"
FORMULA, GUARDED = re.compile(rf"(^|;){_BEFORE_SIGN}"), re.compile(rf"(^|;)'{_BEFORE_SIGN}")
NOTE = 1000  # the most of a note that is shown
FAILED, REASON = "failed", 120  # the word in place of numbers, and the most of a reason that stands in a row
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"{\char34}", "`": r"{\char96}",
    "[": "{[}", "]": "{]}", "*": "{*}", "-": "{-}", "–": "--", "Δ": r"$\Delta$", "↓": r"$\downarrow$",
    "✓": r"$\surd$", "✗": r"$\times$", "−": "$-$", "▲": r"$\bigtriangleup$", "▼": r"$\bigtriangledown$",
}  # fmt: skip


def terminal(table: Table, width: int = 110, verbose: bool = False) -> Stack:
    """What rich prints: a block per group of benchmarks, the difference beside the value, its interval below.

    A group too wide for `width` is cut into several blocks, so that no number is ever cut. What is no score stands
    behind a rule. Below is what the table needs to be read; with `verbose` every note.
    """
    labels = [short(row.label, _LABEL) for row in table.rows]
    whole = [short(row.label) for row in table.rows]
    cut = [f"{label} is {full}" for label, full in zip(labels, whole, strict=True) if label != full]
    parts: list[Text] = []
    margin = max(map(cell_len, [*labels, *(title for title, _ in _blocks(table))]), default=0)
    for title, columns in _blocks(table):
        ordered = sorted(columns, key=lambda item: item[1].beside)
        cells = [_aligned(of, [_figures(row, place, of, verbose) for row in table.rows]) for place, of in ordered]
        for block in _fitting(cells, width - margin):
            heads = [BESIDE if block[0].beside else title, *labels]
            parts += [*_block(table, [set_cell_size(head, margin) for head in heads], block, width), Text("")]
    notes = (Text(short(note, NOTE), style="dim") for note in (*cut, *(table.notes if verbose else brief(table))))
    return Stack(*parts, *notes, *_verdict(table))


def _block(table: Table, labels: Sequence[str], block: Sequence["_Aligned"], width: int) -> Iterator[Text]:
    """The lines of some columns: their headings, then two of every row, the second only where there are intervals."""
    for number, label in enumerate(labels):
        first, second = Text(label, "" if number else "bold"), Text(" " * cell_len(label))
        if number and (why := table.rows[number - 1].failed):
            yield first.append(" " * _GAP + short(f"{FAILED}: {why}", width - cell_len(label) - _GAP))
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


HEADING = Text("Verdict, against the baseline", "bold").append(
    "   (harness explain WORD; all notes: table.md)", "not bold dim"
)


def _verdict(table: Table) -> Iterator[Text | Grid]:
    """The last lines: one per row, and how far to trust them; each part has a sign and words, so colour only helps."""
    made = verdicts(table)
    if not made:
        return
    lines = Grid.grid(GridColumn(width=_LABEL, no_wrap=True), padding=(0, _GAP, 0, 0))
    for one in made:
        parts = [
            Text(f"{SIGNS[kind]} {short(words, NOTE)}", style=f"bold {STYLES[kind]}" if kind in STYLES else "")
            for kind, words in one.parts
        ]
        lines.add_row(Text(short(one.label, _LABEL)), Text("   ").join(parts))
    for number, sentence in enumerate(trust(table)):
        lines.add_row("" if number else "trust", Text(short(sentence, NOTE), style="dim"))
    yield from (Text(""), HEADING, lines)


def markdown(table: Table) -> str:
    """One pipe table per group, the notes below as a list."""
    lines = [f"Testbed: {md(table.setting.testbed_in_words)}", ""]
    if made := verdicts(table):
        lines += ["**Verdict**, against the baseline", ""]
        for one in made:
            lines.append(
                f"- **{md(one.label)}**: {'; '.join(f'{SIGNS[kind]} {md(words)}' for kind, words in one.parts)}"
            )
        lines += [*(f"- trust: {md(words)}" for words in trust(table)), ""]
    for title, columns in _blocks(table):
        lines += [f"**{title}**", "", pipes(["method", *(md(_heading(column)) for _, column in columns)])]
        lines.append(pipes(["---", *["---:"] * len(columns)]))
        for row in table.rows:
            cells = [
                " ".join(filter(None, _figures(row, place, column))).replace("*", r"\*") for place, column in columns
            ]
            if row.failed:
                cells = [md(f"{FAILED}: {row.failed}", REASON), *[""] * (len(columns) - 1)]
            lines.append(pipes([md(row.label), *cells]))
        lines.append("")
    return "\n".join([*lines, *(f"- {md(note, NOTE)}" for note in table.notes), ""])


def latex(table: Table) -> str:
    """booktabs tabulars, one per group, to be read by `\\input`; plain ASCII, for any engine."""
    lines = [f"% testbed: {tex(table.setting.testbed_in_words)}; needs \\usepackage{{booktabs}}"]
    for title, columns in _blocks(table):
        lines += [rf"\begin{{tabular}}{{l{'r' * len(columns)}}}", r"\toprule"]
        lines += [ampersands([tex(title), *(tex(_heading(column)) for _, column in columns)]), r"\midrule"]
        for row in table.rows:
            if row.failed:
                said = tex(f"{FAILED}: {row.failed}", REASON)
                lines.append(ampersands([tex(row.label), rf"\multicolumn{{{len(columns)}}}{{l}}{{{said}}}"]))
                continue
            cells = [_figures(row, place, column) for place, column in columns]
            firsts = (tex(f"{value} {delta}".strip()) for value, delta, _ in cells)
            lines.append(ampersands([tex(row.label), *firsts]))
            lines.append(ampersands(["", *(rf"{{\scriptsize {tex(span)}}}" if span else "" for *_, span in cells)]))
        lines += [r"\bottomrule", r"\end{tabular}", "", r"\medskip", ""]
    notes = (rf"\noindent{{\footnotesize {tex(note, NOTE)}}}\par" for note in table.notes)
    return "\n".join([*lines, *notes, ""])


def comma_separated(table: Table) -> str:
    """One line per method and column, numbers in full precision, nothing where a number is not defined."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(CSV_FIELDS)
    for row in table.rows:
        for column, cell in zip(table.columns, row.cells, strict=True):
            of = "value" if math.isnan(cell.delta) else "delta"
            interval = [of, exact(cell.low), exact(cell.high), exact(cell.p_holm)]
            texts = [row.method, row.label, str(row.seeds), _where(column), column.metric]
            withheld = f"{FAILED}: {cell.failed}" if cell.failed else cell.withheld
            ends = [cell.verdict, withheld, table.setting.testbed_in_words, table.setting.protocol]
            numbers = [exact(cell.value), exact(cell.delta), *interval, str(cell.n), str(cell.unscored)]
            writer.writerow([*map(spreadsheet, texts), *numbers, *map(spreadsheet, ends)])
    return file.getvalue()


def html(template: str, style: str, **context: Any) -> str:
    """A page from a template in reports/pages/: every string made visible and escaped, nothing loaded from anywhere.

    `style` is the text of its style sheet; the policy allows that one by its digest, and data: images, and no script.
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
    pages.filters["sup"] = lambda text: Markup(raised(text, lambda part: str(escape(part)), "<sup>{}</sup>"))  # noqa: S704
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    return pages.get_template(template).render(style=Markup(style), policy=policy, **context)  # noqa: S704


def label(text: str, longest: int = 28) -> str:
    """A string for a figure: on one line, without control characters; figures parse no markup."""
    return short(text, longest)


def raised(text: str, escape: Callable[[str], str], form: str = r"\textsuperscript{{{}}}") -> str:
    """A heading with what follows a ^ set higher; letters and digits alone."""
    return "".join(
        form.format(part) if number % 2 else escape(part)
        for number, part in enumerate(re.split(r"\^([A-Za-z0-9]+)", text))
    )


def _lines(text: str) -> str:
    """`visible`, line by line."""
    return "\n".join(map(visible, text.split("\n")))


def _blocks(table: Table) -> Iterator[tuple[str, list[tuple[int, Column]]]]:
    """The groups' titles, each with its columns and their places in a row."""
    for group, columns in groupby(enumerate(table.columns), key=lambda item: item[1].group):
        yield GROUPS[group][0], list(columns)


def _heading(column: Column) -> str:
    return short(column.label, 40) + (" ↓" if column.lower else "")


def _where(column: Column) -> str:
    return column.group if column.metric == "total" else column.benchmark


def _figures(row: Row, place: int, column: Column, whole: bool = True) -> tuple[str, str, str]:
    """Value, difference with its mark, interval; each may be empty. `whole`: a judge's full coverage is told too."""
    cell, digits = row.cells[place], column.digits
    if cell.failed or cell.withheld:
        return (FAILED if cell.failed else cell.withheld), "", ""
    value = "" if math.isnan(cell.value) else numeral(cell.value, digits)
    delta = "" if math.isnan(cell.delta) else numeral(cell.delta, digits, "+") + MARKS.get(column.outcome(cell), "")
    if not value and not delta:
        return DASH, "", ""
    value += covered(cell.coverage) if value and (whole or cell.coverage < 100) else ""
    sign = "" if math.isnan(cell.delta) else "+"
    span = "" if math.isnan(cell.low) else f"[{numeral(cell.low, digits, sign)}, {numeral(cell.high, digits, sign)}]"
    return value, delta, span


@dataclass(frozen=True, slots=True)
class _Aligned:
    """A column for the terminal: the heading and every row's cell as two lines, all of one width."""

    lines: list[tuple[Text, Text]]
    beside: bool

    @property
    def width(self) -> int:
        return self.lines[0][0].cell_len


def _aligned(column: Column, figures: Sequence[tuple[str, str, str]]) -> _Aligned:
    """Value and difference, interval; in colour where the difference has a mark, dim where it is of no score."""
    widths = [max((len(f[i].rstrip(_MARKS)) for f in figures if f[1] or f[2]), default=0) for i in (0, 1)]
    base = "dim" if column.beside else ""
    lines = [(Text(_heading(column), base or "bold"), Text(""))]
    for value, delta, span in figures:
        first = Text(value if not value[:1].isdigit() else f"{value:>{widths[0]}}", base)
        style = next((STYLES.get(name, "") for name, sign in MARKS.items() if delta.endswith(sign)), "")
        first.append(f"{' ' * bool(value)}{delta:>{widths[1] + delta.endswith(tuple(_MARKS))}}" if delta else "", style)
        lines.append((first, Text(span, "dim")))
    longest = max(line.cell_len for pair in lines for line in pair)
    for line in (line for pair in lines for line in pair):
        line.append(" " * (longest - line.cell_len))
    return _Aligned(lines, column.beside)


def _fitting(columns: Sequence[_Aligned], width: int) -> Iterator[list[_Aligned]]:
    """The columns in blocks no wider than `width`, at least one in each; what is no score stays together if it can."""
    block, rest = list[_Aligned](), [column for column in columns if column.beside]
    for unit in [*([column] for column in columns if not column.beside), *([rest] if rest else [])]:
        for part in [unit] if _width(unit) <= width else [[column] for column in unit]:
            if block and _width([*block, *part]) > width:
                yield block
                block = []
            block += part
    yield block


def _width(block: Sequence[_Aligned]) -> int:
    ruled = block[-1].beside and not block[0].beside
    return sum(column.width + _GAP for column in block) + len(_RULE) * ruled


def covered(coverage: float) -> str:
    """The share of units that a judge gave a verdict on, behind a value; nothing where nobody judged."""
    return "" if math.isnan(coverage) else f" ({math.floor(10 * coverage) / 10:g} %)"


def exact(number: float) -> str:
    """Every digit, nothing for NaN."""
    return "" if math.isnan(number) else repr(float(number))


def short(text: str, longest: int = 300) -> str:
    """`visible`, cut to so many columns of a terminal."""
    shown = visible(text[: longest + 1])
    return shown if cell_len(shown) <= longest else set_cell_size(shown, longest - 1) + "…"


def md(text: str, longest: int = 300) -> str:
    """Plain text for Markdown."""
    return re.sub(r"([\\`*_\[\]<>|#&~$])", r"\\\1", short(text, longest))


def tex(text: str, longest: int = 300) -> str:
    """Plain text for LaTeX, in ASCII."""
    escaped = (_LATEX.get(c) or (c if c.isascii() else f"{{[}}U+{ord(c):04X}{{]}}") for c in short(text, longest))
    return re.sub(r"(?<!\w)\{-\}(?=\d)", "$-$", "".join(escaped))  # a sign, not a hyphen


def spreadsheet(text: str) -> str:
    """Plain text for a CSV cell, with an apostrophe where a spreadsheet would take it for a formula.

    That is at its beginning, behind blanks and quotes too, and behind every semicolon: where a comma is the decimal
    sign, semicolons part the cells. Full-width and other forms of the four signs count as they do there.
    """
    return FORMULA.sub(r"\1'", visible(text))


def unguarded(cell: str) -> str:
    """What `spreadsheet` made a cell of, for who reads it and is none: without its apostrophes."""
    return GUARDED.sub(r"\1", cell)


def pipes(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def ampersands(cells: Sequence[str]) -> str:
    """A row of a LaTeX table."""
    return f"{' & '.join(cells)} \\\\"
