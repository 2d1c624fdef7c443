"""Hostile strings in every cell of a grid and every format: nothing live, nothing lost, the figures as they were."""

import base64
import csv
import hashlib
import io
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import jinja2
import pytest
from markdown_it import MarkdownIt
from rich.console import Console
from test_render import HOSTILE as BASIC
from worlds import NINE, SETTING, run

from reports import latex, markdown, spreadsheet, terminal
from reports.findings import Findings, Setting
from reports.grid import Entry, Grid, Head, Line, with_best
from reports.items import Said, Shown, pieces
from reports.page import page, table_page
from reports.sheet import sheet
from reports.tabulate import build

HOSTILE = [
    *BASIC, "</style><script>alert(1)</script>", "</title><svg onload=alert(1)>", '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)", "javascript:alert(1)", "data:text/html,<script>alert(1)</script>", "{{ 7*7 }}",
    "{% include 'x' %}", "<!--><script>", "<iframe srcdoc='<script>'>", "&#60;script&#62;", "<base href=//x>",
    "<meta http-equiv=refresh content=0>", "\x1b]52;c;b3duZWQ=\x07", "\x1bPq#0;2;0\x1b\\", "\x07\x08",
    "\u200e\u200f\u061c", "\u2067abc\u2069", "\U000e0041\U000e0042", "a" * 100_000, "<" * 2000,
]  # fmt: skip
OUR_ELEMENTS = set(
    "html head meta title style body main h1 div table thead tbody tr th td small sup ul li p strong span article "
    "dl dt dd mark img a code caption details summary".split()
)
OUR_ATTRIBUTES = set(
    "lang charset http-equiv content name class colspan tabindex role aria-label src alt scope".split()
)


def grid(text: str = "plain") -> Grid:
    """A grid with every feature, and `text` wherever a string can stand."""
    heads = (Head(text, "group"), Head("CHAIR", text, lower=True), Head("X^T", text))
    lines = (
        Line((text,), (Entry(1.25, mark="worse"), Entry(20.5), Entry(text=text)), "block"),
        Line(("other",), (Entry(12345.0, 0), Entry(19.5), Entry(-0.31, 2, signed=True, low=-1.0, high=1.0)), text),
    )
    return Grid(text, (text,), heads, lines, (f"about {text}",), text, spans="beside")


def on_terminal(table: Grid, width: int = 110) -> str:
    """What rich sends to a terminal without colours."""
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    with console.capture() as captured:
        console.print(terminal.table(table, width))
    return captured.get()


class Seen(HTMLParser):
    """Elements and attributes of a page, as a browser would take them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def figures(text: str) -> list[str]:
    """The numbers with a decimal point."""
    return re.findall(r"\d+\.\d+", text)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_harmless_in_every_format_of_a_grid(text: str) -> None:
    assert len(HOSTILE) >= 60
    for form in (on_terminal, markdown.table, latex.table, spreadsheet.table, lambda g: table_page([g])):
        shown = form(grid(text))
        shown.encode("utf-8")
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]", shown)
        assert sorted(figures(shown)) == sorted(figures(form(grid())))


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_page_has_our_elements_alone(text: str) -> None:
    said = (Said(text, pieces(text[:1500], [(0, 3)])), Said("other", ()))
    shown = [Shown(text, text, "", text, said, 0.5, text)]
    for made in (table_page([grid(text)]), page("sidebyside.html", title=text, notes=[text], shown=shown)):
        seen = Seen(made).found
        assert {tag for tag, _ in seen} <= OUR_ELEMENTS
        for _, attributes in seen:
            assert attributes.keys() <= OUR_ATTRIBUTES
        images = [attributes["src"] or "" for tag, attributes in seen if tag == "img"]
        assert all(source.startswith("data:image/") for source in images)
    plain, spoilt = (
        [tag for tag, _ in Seen(table_page([grid(one)])).found if tag != "sup"] for one in ("x", text or "x")
    )
    assert spoilt == plain


def test_a_page_without_escaping_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    careful = jinja2.Environment
    monkeypatch.setattr(jinja2, "Environment", lambda **given: careful(**{**given, "autoescape": False}))
    assert "script" in {tag for tag, _ in Seen(table_page([grid("<script>alert(1)</script>")])).found}


def test_the_policy_of_a_page_allows_its_own_style_and_nothing_else() -> None:
    made = table_page([grid()])
    style = re.search(r"<style>(.*?)</style>", made, re.DOTALL)
    policy = next(a["content"] or "" for tag, a in Seen(made).found if a.get("http-equiv"))
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:;")
    assert "script" not in policy and "unsafe" not in policy and "http" not in policy


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_markdown_keeps_its_one_table(text: str) -> None:
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown.table(grid(text or "x")))
    kinds = [token.type for token in tokens]
    assert (kinds.count("table_open"), kinds.count("tr_open"), kinds.count("td_open")) == (1, 3, 2 * 5)
    assert not {*kinds} & {"html_block", "fence", "code_block", "heading_open", "blockquote_open"}


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_csv_reads_back_and_holds_no_formula(text: str) -> None:
    rows = list(csv.DictReader(io.StringIO(spreadsheet.table(grid(text)), newline="")))
    assert [row["value"] for row in rows] == ["1.25", "20.5", "", "12345.0", "19.5", "-0.31", ""]
    for row in rows:
        for field in ("table", "block", "row", "group", "column", "text", "mark"):
            assert not row[field].lstrip().startswith(("=", "+", "-", "@"))


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_latex_is_ascii_and_balanced(text: str) -> None:
    shown = latex.table(grid(text))
    assert shown.isascii()
    bare = re.sub(r"\\[^a-zA-Z\n]", "", shown)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert "%" not in bare.split("\n", 1)[1]
    assert set(re.findall(r"\\([a-zA-Z]+)", shown)) <= {
        *"begin end toprule midrule bottomrule cmidrule multicolumn textbf textsuperscript footnotesize".split(),
        *"noindent medskip par usepackage Delta downarrow surd times char textbackslash textasciitilde".split(),
        *"bigtriangledown textasciicircum textless textgreater textbar".split(),
        *"centering caption setlength tabcolsep small footnotesize scriptsize tiny".split(),
    }


def test_groups_stand_over_their_columns_and_arrows_beside_what_should_fall() -> None:
    shown = latex.table(grid())
    assert r"\multicolumn{1}{c}{group} & \multicolumn{2}{c}{plain}" in shown
    assert r"\cmidrule(lr){3-3}\cmidrule(lr){4-5}" in shown
    assert r"CHAIR $\downarrow$" in shown
    assert r"X\textsuperscript{T}" in shown
    assert "X<sup>T</sup>" in table_page([grid()])


def test_the_best_is_bold_lowest_where_lower_is_better_ties_all_by_what_is_printed() -> None:
    lines = tuple(
        Line((str(n),), (Entry(v), Entry(w))) for n, (v, w) in enumerate([(1.0, 3.0), (2.04, 1.0), (2.0, 1.0)])
    )
    best = with_best(Grid("t", ("m",), (Head("up"), Head("down", lower=True)), lines))
    assert [[entry.best for entry in line.entries] for line in best.lines] == [
        [False, False],
        [True, True],
        [True, True],
    ]
    assert "**2.0**" in markdown.table(best)
    assert r"\textbf{2.0}" in latex.table(best)
    single = with_best(replace(best, lines=lines[:1]))
    assert not single.lines[0].entries[0].best  # nothing to be better than


def test_a_grid_refuses_a_row_of_another_length() -> None:
    with pytest.raises(ValueError, match="number of cells"):
        Grid("t", ("m",), (Head("a"),), (Line(("x",), ()),))


@pytest.mark.parametrize("width", [50, 80, 110])
def test_a_terminal_grid_never_cuts_a_figure(width: int) -> None:
    shown = on_terminal(grid(), width)
    assert max(map(len, shown.splitlines())) <= width
    assert sorted(figures(shown)) == sorted(figures(on_terminal(grid(), 200)))
    assert "12,345" in shown
    assert "(−0.31) [−1.00, +1.00]" in shown


def test_the_names_of_a_row_stand_under_their_headings() -> None:
    lines = (Line(("nSFT", "mini"), (Entry(1),)), Line(("Cont. SFT", "mini"), (Entry(2),)))
    shown = on_terminal(Grid("t", ("method", "base"), (Head("SQA"),), lines)).splitlines()
    assert {line.index(word) for line, word in zip(shown[1:4], ("base", "mini", "mini"), strict=True)} == {11}


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no TeX is installed")
def test_latex_compiles_with_every_hostile_string_in_it(tmp_path: Path) -> None:
    found = subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True, check=False)
    if found.returncode:
        pytest.skip("TeX has no booktabs")
    typeset(tmp_path, "\\clearpage\n".join(latex.table(grid(text[:200])) for text in HOSTILE))


def typeset(folder: Path, body: str, options: str = "") -> str:
    """What TeX says of a body that it could set."""
    document = rf"\documentclass[{options}]{{article}}\usepackage{{booktabs}}\begin{{document}}{body}\end{{document}}"
    (folder / "all.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    said = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    assert said.returncode == 0, said.stdout[-1500:]
    return said.stdout


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no TeX is installed")
def test_a_comparisons_tables_fit_a_page_of_two_columns(tmp_path: Path) -> None:
    """The nine benchmarks with differences and intervals; a paper's text block is 7 inches wide."""
    rows = [("a", "nSFT turns=random, layout=separate", 0.15), ("b", "Cont. SFT", 0.0)]
    made = sheet(build(run(rows), NINE, ["a", "b"], SETTING, 200))
    wide = r"\setlength{\textwidth}{7in}\setlength{\oddsidemargin}{-0.25in}"
    floats = latex.comparison(made).split("\n\\noindent", 1)[0]
    assert "Overfull" not in typeset(tmp_path, f"{wide}Text. {floats} Text.", "twocolumn")
    assert floats.count(r"\begin{table*}") == 3 and r"\small" in floats


def test_a_comparison_of_no_benchmark_at_hand_still_says_why() -> None:
    nothing = sheet(Findings(Setting("mini", "llava", True), (), (), ("not installed here, so left out: mine",)))
    console = Console(file=io.StringIO(), width=100)
    with console.capture() as captured:
        console.print(terminal.comparison(nothing, 100))
    for text in (captured.get(), markdown.comparison(nothing), latex.comparison(nothing), table_page(nothing.grids)):
        assert "left out: mine" in text and "****" not in text and "{tabular}" not in text
