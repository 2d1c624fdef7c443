"""Is it the form of the answers?"""

from functools import partial

import numpy as np

from harness.contracts.row_names import BASELINE
from reports import figures
from reports.estimates import ROBUST
from reports.numerals import numeral
from tests.findings import drawings
from tests.findings.known import Known
from tests.findings.scores import Difference, Of, Scores, adjusted
from tests.findings.wording import Section, cell, digits_of, grid, span, told


def answer(known: Known) -> Section:
    """What a change by the official parse owes to form: the change by it less that by the robust one."""
    stored, rows = known.stored, known.stored.rows
    twins = {name: scores for name, scores in known.scores.items() if has_twin(scores)}
    places = [(row, name) for row in rows for name in twins]
    owed = adjusted([twins[name].difference(row, BASELINE, form(twins[name])) for row, name in places])
    found = dict(zip(places, owed, strict=True))

    def weight(at: tuple[str, str]) -> float:
        worst, best = stored.benchmarks[at[1]].ends
        return abs(found[at].delta / (best - worst))

    clear = [at for at in places if found[at].resolved]
    level = {name: scores.level(BASELINE, form(scores)) for name, scores in twins.items()}
    usual = dict(zip(places, adjusted([twins[name].difference(row, BASELINE) for row, name in places]), strict=True))
    most = row, name = max(clear or places, key=weight)
    base = max(level, key=lambda name: abs(level[name].delta / np.ptp(stored.benchmarks[name].ends)))

    def label(name: str) -> str:
        return stored.benchmarks[name].label

    changed = (
        f"Of {len(places)} changes over the baseline, {len(clear)} owe something to the form of the answers that is "
        f"told apart from nothing; the largest is {row}'s on {label(name)}, "
        f"{told(found[most], digits_of(twins[name]))} of a change of {told(usual[most], digits_of(twins[name]))}"
    )
    if all(one.same for one in owed):
        changed = (
            f"All {len(places)} changes over the baseline (intervals in the table) are the same to the last digit by "
            "the official parse and by one that forgives the form"
        )
    own = f"The baseline loses most to the official parse on {label(base)}, {told(level[base], digits_of(twins[base]))}"
    if all(one.same for one in level.values()):
        own = f"The baseline's own scores, too, are the same to the last digit by both, on all {len(level)} benchmarks"
    sentences = (changed, own)
    lines = [[row, *(_cell(usual[row, name], found[row, name], twins[name]) for name in twins)] for row in rows]
    panels = {label(name): figures.Panel({row: drawings.of(usual[row, name]) for row in rows}, twins[name].better)
              for name in twins}  # fmt: skip
    notes = (
        "in the table: the change over the baseline by the official parse, and of that what is owed to form, the "
        f"change by the official parse less that by the robust one; Holm's correction over these {len(places)}; in "
        "the picture: the first of the two",
    )
    draw = partial(figures.intervals, panels, columns=3)
    table = grid(["row", *map(label, twins)], lines)
    return Section("traps", "Is it the form of the answers?", sentences, draw, table, notes)


def _cell(usual: Difference, owed: Difference, scores: Scores) -> str:
    """The change, and what of it is owed to form."""
    digits = digits_of(scores)
    change = f"{numeral(usual.delta, digits, '+')} {span(*usual.bounds, digits)}" if not usual.same else "0"
    return f"{change}; form {cell(owed, digits, 1)}"


def has_twin(scores: Scores) -> bool:
    """Whether the benchmark's column has one by a robust parse."""
    metrics = [metric.id for metric in scores.benchmark.metrics]
    return metrics[0] + ROBUST in metrics


def form(scores: Scores) -> Of:
    """What the official parse gives more than the robust one."""
    column = scores.benchmark.metrics[0].id
    return lambda metrics: metrics[column] - metrics[column + ROBUST]
