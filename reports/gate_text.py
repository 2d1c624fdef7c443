"""A gate's verdict as text: a summary in Markdown for a pull request, JUnit XML for a CI server."""

from collections import Counter
from xml.etree import ElementTree as Xml

from harness.system.console import visible
from reports import markdown
from reports.gate import Check, Gate, Verdict
from reports.grid import Entry, Grid, Head, Line

_TITLES = {0: "passed", 1: "FAILED", 3: "incomplete"}
_TAGS = {Verdict.INCOMPLETE: "error", Verdict.INCONCLUSIVE: "skipped"}
_FIRST = (Verdict.REGRESSED, Verdict.OVER, Verdict.INCOMPLETE, Verdict.INCONCLUSIVE, Verdict.PASSED)


def summary(gate: Gate) -> str:
    """Markdown: the verdict, what did not pass first, and what else differs between the runs."""
    counts = Counter(check.verdict for check in gate.checks)
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in _FIRST if counts[verdict])
    notes = ["difference: now - accepted on the same units, [95 % interval], images (and seeds) resampled"]
    notes += [gate.assumed] if gate.assumed else []
    notes += [f"not gated: {', '.join(gate.ungated)}"] if gate.ungated else []
    notes += [f"differs from the accepted run in {text}" for text in gate.differ]
    lines = tuple(_line(check, gate.fails(check)) for check in sorted(gate.checks, key=_order))
    heads = tuple(map(Head, ("accepted", "now", "margin", "why")))
    title = f"harness gate: {_TITLES[gate.status]} ({told})"
    return markdown.table(Grid(title, ("verdict", "row", "what"), heads, lines, tuple(notes), spans="beside"))


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
