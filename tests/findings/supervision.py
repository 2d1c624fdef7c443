"""Does negative supervision do it?"""

from collections.abc import Iterator, Mapping
from functools import partial
from statistics import fmean

from reports import figures
from tests.findings import drawings
from tests.findings.known import EQUAL, HELD, SHOWN, Known, Pair
from tests.findings.wording import Section, cell, digits_of, grid, outcomes

AIMED, GRADIENT = "nsft: aimed at errors", "dpo: gradient 1 for 0"
ASKED = {  # in as few words as a picture has room for: the row, and the control
    AIMED: ("nsft", "nsft:turns=random"),
    "nsft: after ground truth": ("nsft", "nsft:layout=separate"),
    "nsft: with ground truth": ("nsft", "nsft:keep_chosen=false"),
    "nsft: with codebook": ("nsft", "nsft:codebook=none"),
    GRADIENT: ("dpo", "dpo:rejected_gradient=0"),
    "dpo: gradient 1 for ½": ("dpo", "dpo:rejected_gradient=0.5"),
}


def answer(known: Known) -> Section:
    """nSFT against its ablations, GT-DPO against itself with less of a gradient, both against SFT of equal size."""
    asked = dict(ASKED)
    for row in HELD:
        asked |= {f"{row} for sft, equal {what}": (row, name.format(row=row)) for what, name in EQUAL.items()}
    found = known.family(asked)

    def say(what: str) -> str:
        order = [*SHOWN, *(name for name in found[what] if name not in SHOWN)]
        return outcomes({known.stored.benchmarks[name].label: found[what][name] for name in order})

    def equal(row: str) -> str:
        of = {what: say(f"{row} for sft, equal {what}") for what in EQUAL}
        return f"against SFT of equal tokens it is {of['tokens']}, of equal cost {of['cost']}"

    sentences = (
        f"nSFT with turns aimed at the model's errors is, against as many turns that are not, {say(AIMED)}; "
        f"{equal('nsft')}",
        f"GT-DPO with the rejected side's gradient is, against GT-DPO without it, {say(GRADIENT)}; {equal('dpo')}",
    )
    lines = [[new + " − " + old, what, *_cells(known, found[what])] for what, (new, old) in asked.items()]
    heads = ["rows", "asked", *map(known.label, SHOWN), "elsewhere"]
    panels = {
        known.stored.benchmarks[name].label: figures.Panel(
            {what: drawings.of(found[what][name][1]) for what in asked},
            known.scores[name].better,
        )
        for name in SHOWN
    }
    draw = partial(figures.intervals, panels, columns=len(SHOWN))
    notes = tuple(_notes(known, found))
    return Section("supervision", "Does negative supervision do it?", sentences, draw, grid(heads, lines), notes)


def _cells(known: Known, by: Mapping[str, Pair]) -> Iterator[str]:
    """The columns that are shown, and those others in which the rows are told apart."""
    for name in SHOWN:
        scores, one = by[name]
        yield cell(one, digits_of(scores), scores.better)
    others = [(known.label(name), *by[name]) for name in by if name not in SHOWN]
    told = [f"{label} {cell(one, digits_of(scores), scores.better)}" for label, scores, one in others
            if one.resolved]  # fmt: skip
    yield "; ".join(told) or "nothing"


def _notes(known: Known, found: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    yield (
        "SFT of equal tokens, or cost, is a mixture of SFT for one and for three passes: it answers now as the one, "
        "now as the other, so often that on average it has learnt from as many tokens, or cost as much. Cost: tokens "
        "that a model reads to build, to refer to and to train, where it learns three times; no writer's"
    )
    for row in HELD:
        tokens, cost = (fmean(known.ratio(row, what)) for what in EQUAL)
        yield f"{row} learns from {tokens:.2f} times SFT's tokens and costs {cost:.2f} times as much"
    outside = sorted({at.row for at, weight in known.weights.items() if not 0 <= weight <= 1})
    if outside:
        yield f"no mixture is as large or small, so the nearest end stands for it: {', '.join(outside)}"
    yield f"Holm's correction over {sum(map(len, found.values()))} differences"
