"""Is it the judge, or the sum?"""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from harness.contracts.row_names import BASELINE
from reports.numerals import numeral
from reports.totals import RULE, total
from tests.findings import drawings
from tests.findings.judges import JUDGES
from tests.findings.known import Known
from tests.findings.scores import Scores
from tests.findings.seeds import Order, agreement, ranks
from tests.findings.wording import Section, grid, span

JUDGED = ("mmvet", "mmhal")
SUMMED = "all benchmarks"
PROMPTS = ("share", "strict")  # one judge under two instructions


def answer(known: Known) -> Section:
    """Orders of the rows by several judges of the same answers, and by two ways of adding scores up."""
    rows, orders = known.stored.rows, dict(_orders(known))
    agreed = {(where, *pair): agreement(*(by[who] for who in pair))
              for where, by in orders.items() for pair in combinations(by, 2)}  # fmt: skip

    def tau(where: str, *pair: str) -> str:
        middle, low, high = agreed[where, *pair]
        if math.isnan(middle):
            return "none, for to one of them all rows are alike"
        return f"{numeral(middle, 2, '+')} {span(low, high, 2)}"

    def first(where: str, who: str) -> str:
        return rows[int(np.argmax(orders[where][who][0]))]

    judged = [key for key in agreed if key[0] != SUMMED]
    told = [key for key in judged if not math.isnan(agreed[key][1])]  # those with an interval, if any has one
    apart = min(told or judged, key=lambda key: agreed[key][0])
    instructed = " and ".join(f"{tau(where, *PROMPTS)} on {where}" for where in orders if where != SUMMED)
    added = tuple(orders[SUMMED])
    sentences = (
        f"The judges {apart[1]} and {apart[2]} order the rows by {apart[0]} with a Kendall's τ of {tau(*apart)}; one "
        f"judge told to be strict, or not, agrees with itself with {instructed}",
        f"By the paper's {added[0]} and by the {added[1]} of all benchmarks the rows stand in orders with a "
        f"Kendall's τ of {tau(SUMMED, *added)}; first is "
        f"{' and '.join(f'{first(SUMMED, rule)} by {rule}' for rule in added)}",
    )
    lines = [[f"{one}, {other}", where, tau(where, one, other), first(where, one), first(where, other)]
             for where, one, other in agreed]  # fmt: skip
    heads = ["by", "scores", "Kendall's τ", "first by the one", "by the other"]
    places = {where: {who: dict(zip(rows, ranks(order[0]), strict=True)) for who, order in by.items()}
              for where, by in orders.items()}  # fmt: skip
    notes = (
        f"{known.stored.judge} is the comparisons' own judge; the others are no LLMs: share counts the reference's "
        "words in a response, strict is the same judge told to want all of them, length counts words alone",
        "no interval: in more than one resample of images in twenty, a judge finds all rows alike",
        "totals: the paper's, the three of its Table 1 added up; mean rank: the mean of a row's places on all "
        "benchmarks",
    )
    return Section(
        "judge", "Is it the judge, or the sum?", sentences, partial(drawings.ranks, places), grid(heads, lines), notes
    )


def _orders(known: Known) -> Iterator[tuple[str, Mapping[str, Order]]]:
    """Label -> who orders -> a figure of each row."""
    for name in JUDGED:
        benchmark = known.stored.benchmarks[name]
        by = {known.stored.judge: known.scores[name]}
        by |= {one.name: Scores(benchmark, known.stored.judged(name, one), known.replicates) for one in JUDGES}
        yield benchmark.label, {who: _order(known, scores) for who, scores in by.items()}
    each = [_order(known, scores) for scores in known.scores.values()]
    means = [-np.mean([ranks(order[side]) for order in each], axis=0) for side in (0, 1)]
    yield SUMMED, {"totals": _totals(known), "mean rank": (list(means[0]), means[1])}


def _order(known: Known, scores: Scores) -> Order:
    """More is better."""
    rows = known.stored.rows
    values = [scores.better * scores.value(row) for row in rows]
    return values, np.stack([scores.better * scores.draws(row) for row in rows])


def _totals(known: Known) -> Order:
    """Changes over the baseline, added up by the paper's rule."""

    def summed(of: Callable[[Scores, str], Any]) -> list[Any]:
        changes = ({name: of(scores, row) - of(scores, BASELINE) for name, scores in known.scores.items()}
                   for row in known.stored.rows)  # fmt: skip
        return [sum(total(group, change) for group in RULE) for change in changes]

    return summed(Scores.value), np.stack(summed(Scores.draws))
