"""How often does a sign change, and how many seeds does a paper need?"""

import math
from collections.abc import Iterable, Iterator
from functools import partial
from statistics import fmean

import numpy as np

from harness.contracts.row_names import BASELINE
from reports.layouts import COLUMNS, SOURCES, printed
from tests.findings import drawings, seeds
from tests.findings.known import SHOWN, Known
from tests.findings.scores import share
from tests.findings.wording import Section, grid, span

PRINTED = {"sft": "Cont. SFT", "dpo": "GT-DPO"}  # what Table 1 has beside nSFT, of what is trained here too
SHORTEST = 30  # words from which captions are compared: half of what they are


def answer(known: Known) -> Section:
    """Signs of changes over the baseline by base, split and decoding length; then the seeds for Table 1."""
    stored, front = known.stored, known.front
    deltas = {(row, name): scores.by_split(row, BASELINE)[0]
              for name, scores in known.scores.items() for row in stored.rows}  # fmt: skip
    bases, splits = ({at: share(seeds.flips(values, axis)) for at, values in deltas.items()} for axis in (0, 1))
    first = front.lengths.index(SHORTEST)
    lengths = {row: share(seeds.flips(np.array(front.signs(row, BASELINE))[:, first:], 1)) for row in stored.rows}
    lines = []
    for row in stored.rows:
        mine = (known_of(one for at, one in of.items() if at[0] == row) for of in (bases, splits))
        lines.append(
            [row, *(f"{fmean(shares):.0f} %" if shares else "no sign" for shares in (*mine, known_of([lengths[row]])))]
        )
    whole = (seeds.resampled(known_of(of.values())) for of in (bases, splits, lengths))
    said = ["none" if math.isnan(middle) else f"{middle:.0f} % {span(low, high, 0, '')}" for middle, low, high in whole]
    needs = list(_needs(known))
    sentences = (
        f"Two trainings of one method disagree about the sign of a score's change in {said[0]} of all pairs that began "
        f"from different bases and in {said[1]} of those that learnt from different splits of one base; at two "
        f"decoding lengths CHAIR's change has different signs in {said[2]} of all pairs",
        seeds.verdict(needs),
    )
    heads = ["row", "sign differs between bases", "between splits of a base", "CHAIR's, between decoding lengths"]
    panels = {known.label(name): {row: deltas[row, name] for row in stored.rows} for name in SHOWN}
    notes = (
        f"shares are means over {len(known.scores)} benchmarks; their intervals: rows and benchmarks resampled; "
        f"decoding lengths: from {SHORTEST} words to the whole caption",
        "seeds: trainings on further splits of one base after which the printed difference, if it is true, has p < "
        "0.05 in four of five papers; sd: of the difference of one training, with the interval of that between "
        "splits in brackets; images: of what no further training takes away, with as many units as here or, scaled, "
        "as the official set has",
    )
    question = "How often does a sign change, and how many seeds does a paper need?"
    table = f"{grid(heads, lines)}\n\n{seeds.table(needs)}"
    return Section("signs", question, sentences, partial(drawings.signs, panels), table, notes)


def known_of(shares: Iterable[float]) -> list[float]:
    """Without those of nothing: what never changed has no sign."""
    return [one for one in shares if not math.isnan(one)]


def _needs(known: Known) -> Iterator[seeds.Need]:
    """For nSFT against the others, by benchmark: what Table 1 printed and the seeds it takes."""
    data = SOURCES[known.stored.runs[0].manifest.data]
    rows = {row["method"]: row for row in printed()["table1"]["rows"] if row["data"] == data}
    keys = {column.benchmark: key for key, column in COLUMNS.items() if key in rows["nSFT"]}
    for row, name in PRINTED.items():
        for benchmark, scores in known.scores.items():
            difference = rows["nSFT"][keys[benchmark]] - rows[name][keys[benchmark]]
            yield seeds.Need.of(f"nsft − {row}", known.label(benchmark), difference, scores, "nsft", row)
