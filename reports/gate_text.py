"""A gate's verdict as text: a summary in Markdown for a pull request, JUnit XML for a CI server."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from xml.etree import ElementTree as Xml

from harness.system.console import visible
from reports import markdown
from reports.gate import Check, Gate, Verdict
from reports.gate_items import Lost
from reports.grid import Entry, Grid, Head, Line
from reports.markdown import md
from reports.plain import DASH, NOTE, short

_TITLES = {0: "passed", 1: "FAILED", 3: "incomplete"}
_HEADS = tuple(map(Head, ("accepted", "now", "margin", "why")))
MARK = "<!-- harness gate -->"
_TAGS = {Verdict.INCOMPLETE: "error", Verdict.INCONCLUSIVE: "skipped"}
_FIRST = (Verdict.REGRESSED, Verdict.OVER, Verdict.INCOMPLETE, Verdict.INCONCLUSIVE, Verdict.PASSED)


def summary(gate: Gate) -> str:
    """Markdown: the verdict, what did not pass first, and what else differs between the runs."""
    counts = Counter(check.verdict for check in gate.checks)
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in _FIRST if counts[verdict])
    notes = ["difference: now - accepted on the same units, [95 % interval], images (and seeds) resampled"]
    notes += [gate.accepted] if gate.accepted else []
    notes += [f"WARNING: {warning}" for warning in gate.warnings]
    notes += [gate.assumed] if gate.assumed else []
    notes += [f"not gated: {', '.join(gate.ungated)}"] if gate.ungated else []
    notes += [f"differs from the accepted run in {text}" for text in gate.differ]
    lines = tuple(_line(check, gate.fails(check)) for check in sorted(gate.checks, key=_order))
    title = f"harness gate: {_TITLES[gate.status]} ({told})"
    return markdown.table(Grid(title, ("verdict", "row", "what"), _HEADS, lines, tuple(notes), spans="beside"))


def comment(gate: Gate, page: str = "") -> str:
    """Markdown for a pull request, short: a strip per row, what moved, items that got worse, the rest folded.

    Its first line is a mark by which the next one is put in its place. `page` is where the report is read.
    """
    sign = {0: "✅", 1: "❌", 3: "⚠️"}[gate.status]
    lines = [MARK, f"### {sign} harness gate: {_TITLES[gate.status]}", ""]
    lines += [f"- {_strip(row, [check for check in gate.checks if check.row == row])}" for row in _rows(gate)]
    lines += ["", *(f"> ⚠️ {md(warning, NOTE)}\n>" for warning in gate.warnings)]
    lines += ["", f"{gate.accepted}." if gate.accepted else "", ""]
    if told := [check for check in sorted(gate.checks, key=_order) if check.moved or check.verdict in _FIRST[:3]]:
        grid = Grid("What moved", ("verdict", "row", "what"), _HEADS, tuple(_line(c, gate.fails(c)) for c in told), ())
        lines += [markdown.table(replace(grid, spans="beside"))]
    if gate.lost:
        kept = any(item.before for item in gate.lost)  # an accepted file has no responses, a run's folder has
        heads = ["row", "benchmark", "item", "asked", *["accepted run"] * kept, "now"]
        table = [markdown.pipes(heads), markdown.pipes(["-"] * len(heads)), *(_lost(item, kept) for item in gate.lost)]
        lines += [f"**{len(gate.lost)} items that got worse**\n", *table, ""]
    lines += [f"[The whole report]({page})\n"] if page else []
    return "\n".join([*lines, f"<details><summary>All checks</summary>\n\n{summary(gate)}\n</details>\n"])


def _rows(gate: Gate) -> list[str]:
    return list(dict.fromkeys(check.row for check in gate.checks))


def _strip(row: str, checks: Sequence[Check]) -> str:
    """What became of one row, in a line."""
    chips = {"▼ worse": [], "▲ better": [], "= within the margin": [], "? cannot tell": []}  # type: dict[str, list[str]]
    chips |= {"✗ over budget": [], "✗ not judged": []}
    for check in checks:
        kind = {Verdict.OVER: "✗ over budget", Verdict.INCOMPLETE: "✗ not judged", Verdict.REGRESSED: "▼ worse"}
        held = "? cannot tell" if check.verdict == Verdict.INCONCLUSIVE else "= within the margin"
        moved = {"better": "▲ better", "worse": "▼ worse"}.get(check.moved, held)
        chips[kind.get(check.verdict, moved)].append(check.what)
    told = (f"{chip}: {', '.join(map(md, names))}" for chip, names in chips.items() if names)
    return f"**{md(row)}** " + " · ".join(told)


def _lost(item: Lost, kept: bool) -> str:
    """An item as a row; what models say stands as code, where it is no mention, no link and no tag."""
    said = [item.prompt, *[item.before] * kept, item.after]
    texts = (short(" ".join(text.split()), 160).replace("`", "'").replace("|", "\\|") for text in said)
    names = map(md, (item.row, item.benchmark, item.id))
    return markdown.pipes([*names, *(f"`{text}`" if text else DASH for text in texts)])


def _order(check: Check) -> int:
    return _FIRST.index(check.verdict)


def _line(check: Check, fails: bool) -> Line:
    now = Entry(check.now, check.digits, delta=check.now - check.accepted, low=check.low, high=check.high, best=fails)
    accepted, margin = Entry(check.accepted, check.digits), Entry(check.margin, check.digits)
    return Line((check.verdict, check.row, check.what), (accepted, now, margin, Entry(text=check.said)))


def junit(gate: Gate) -> str:
    """One test case per check: failure, error (incomplete), skipped (inconclusive, where the policy lets it pass)."""
    suite = Xml.Element("testsuite", name="harness gate", tests=str(len(gate.checks)))
    counts: Counter[str] = Counter()
    for check in gate.checks:
        case = Xml.SubElement(suite, "testcase", classname=visible(check.row), name=visible(check.what))
        tag = "failure" if gate.fails(check) else _TAGS.get(check.verdict)
        if tag:
            counts[tag] += 1
            told = Xml.SubElement(case, tag, message=visible(f"{check.verdict}: {check.said}"))
            told.text = f"accepted {check.accepted:g}, now {check.now:g}, margin {check.margin:g}"
            told.text += f", difference [{check.low:+g}, {check.high:+g}]"
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(counts[tag]))
    root = Xml.Element("testsuites")
    root.append(suite)
    Xml.indent(root)
    return Xml.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
