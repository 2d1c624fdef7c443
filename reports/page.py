"""`report.html`: one comparison on one page, from what is stored; no script, nothing loaded from anywhere."""

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from itertools import groupby
from typing import Any

from harness.contracts.row_names import BASELINE
from harness.system.console import visible
from reports import cards, figures, items, plain
from reports.facts import RowFacts, row_facts
from reports.findings import Findings
from reports.grid import Grid, Line, groups
from reports.legend import brief
from reports.outcomes import Outcome
from reports.runs import Run
from reports.sheet import sheet
from reports.told import files as files_of
from reports.told import provenance, when

SAYS = {
    "intervals": (
        "Differences to the baseline",
        "Right is better in every panel of a score. Dots with 95 % intervals: filled where Holm's correction leaves a "
        "difference standing, ring: not resolved. Grey: a true difference of this size would be missed more often "
        "than one time in five",
    ),
    "cost": ("Time and memory by method", "Measured here; beside the bar how each role was realised"),
    "curves": ("Learning curves", "One line per seed; the rounds of a method follow each other"),
    "lens": (
        "Negative-supervision lens",
        "Log-probs of chosen (solid) and rejected (dotted) responses before and after training, on the split's first "
        "examples (in a run without that stage from the log: the first and the last tenth of the steps)",
    ),
    "distribution": ("Judged scores, unit by unit", "All seeds together"),
}


def report_page(
    run: Run,
    findings: Findings,
    outcomes: Sequence[Outcome],
    pictures: Mapping[str, Callable[[], figures.Picture]],
    drawn: Sequence[str] = (),
    local: bool = True,
) -> str:
    """The page of one run (or of several joined): its comparison table, and figures by their names in `SAYS`, which are
    asked for in their order when all else is known.

    `outcomes` are the run's, which need not be read twice; `drawn` are the names of figures' files beside it; `local`
    says that it lies in the run's own folder.
    """
    facts, told = row_facts(run), sheet(findings)
    rows = [(row, label) for row, label in run.rows.items() if row != BASELINE]
    seed = min((cell.seed for cell in run.cells), default=0)
    known = items.asked(run, seed)
    sides = items.side_by_side(known, list(run.rows.values()))
    changes = items.changes(outcomes, seed, known)
    why = {
        "items": "Items: worse and better",
        "lens": "What training did",
        **({"distribution": "Judged scores"} if "distribution" in pictures else {}),
        **({"side": "Side by side"} if sides else {}),
        "training": "Training",
    }
    grids = (*told.grids[:-1], replace(told.grids[-1], notes=brief(findings)))
    return page(
        "report.html",
        title=f"{', '.join(label for _, label in rows) or 'baseline'} on {run.manifest.data}",
        subtitle="; ".join(
            filter(None, (f"testbed {run.setting.testbed_in_words}, protocol {run.setting.protocol}", when(run, facts)))
        ),
        synthetic=run.setting.synthetic,
        alarms=list(alarms(run, facts)),
        contents=[("verdict", "Verdict"), ("scores", "Scores"), *why.items(), ("cost", "Cost"), ("files", "Files")],
        verdicts=told.verdicts,
        trust=told.trust,
        cost=dict(cards.cost(facts)),
        signs=plain.SIGNS,
        scores=grids,
        notes=findings.notes,
        fairness=cards.fairness(facts),
        spent=cards.spent(facts),
        profile=cards.profile(facts),
        plots={name: embedded(name, drawn()) for name, drawn in pictures.items()},
        side_by_side=sides,
        extremes=[
            (
                label,
                *(
                    list(items.extremes((run.rows.get(BASELINE, ""), label), mine, known, best))
                    for best in (True, False)
                ),
            )
            for row, label in (rows if known else [])
            for mine in [{name: changed for (of, name), changed in changes.items() if of == row}]
        ],
        seed=seed,
        files=list(files_of(run, drawn, local)),
        provenance=list(provenance(run)),
    )


def page(template: str, **context: Any) -> str:
    """A page from a template in reports/pages/: every string made visible and escaped, nothing loaded from anywhere.

    The policy allows the common style sheet by its digest, and data: images, and no script.
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
    pages.filters["sup"] = lambda text: Markup(plain.raised(text, lambda part: str(escape(part)), "<sup>{}</sup>"))  # noqa: S704
    style = files("reports").joinpath("pages/style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    tools = {"shown": plain.shown, "span": plain.span, "heading": plain.heading, "instead": _instead, "groups": groups}
    given = {"plots": {}, "style": Markup(style), "policy": policy, **tools, **context}  # noqa: S704
    return pages.get_template(template).render(given, groupby=groupby, block_of=lambda line: line.block)


def _instead(line: Line) -> str:
    """What stands in place of a row's figures: its reason is cut, and not the word before it."""
    return plain.short(line.instead, len(f"{plain.FAILED}: ") + plain.REASON)


def _lines(text: str) -> str:
    """`visible`, line by line."""
    return "\n".join(map(visible, text.split("\n")))


def table_page(tables: Sequence[Grid]) -> str:
    """Tables alone."""
    return page("tables.html", title=tables[0].title if tables else "No table", tables=list(tables))


def side_page(run: Run, seed: int, count: int) -> str:
    """Figure 5: responses side by side."""
    shown = items.side_by_side(items.asked(run, seed), list(run.rows.values()), count)
    notes = [
        f"testbed: {run.setting.testbed_in_words}; seed {seed}",
        "the first images by a hash of their ids, not chosen by outcome; marked: objects that are not in the picture",
    ]
    notes += [] if shown else ["no benchmark of this run whose wrong words can be marked has its responses at hand"]
    pictures = any(item.image for item in shown)
    notes += ["the pictures are not at hand: a bundle carries none"] if shown and not pictures else []
    return page("sidebyside.html", title="Figure 5: side by side", notes=notes, shown=shown)


def alarms(run: Run, facts: Sequence[RowFacts]) -> Iterator[str]:
    """What makes a page's numbers incomplete or incomparable."""
    yield from cards.unequal(facts)
    yield from cards.apart(cards.joints(facts))
    for why in dict.fromkeys(one.why for one in run.failed):
        taken = dict.fromkeys(one.label for one in run.failed if one.why == why)
        yield f"failed: {', '.join(taken)}: {why}"
    if run.missing:
        yield f"unfinished: {len(run.missing)} of {len(run.cells)} cells are not scored"


def embedded(name: str, picture: figures.Picture) -> dict[str, str]:
    """A figure for light and dark pages as data URIs, with its title."""
    light, dark = (base64.b64encode(data).decode() for data in (picture.svg, picture.dark))
    title, says = SAYS[name]
    uri = "data:image/svg+xml;base64,"
    return {"light": uri + light, "dark": uri + dark, "title": title, "says": says}
