"""Is it the length?"""

from functools import partial
from statistics import fmean

from harness.contracts.row_names import BASELINE
from tests.findings import drawings
from tests.findings.front import NEAR
from tests.findings.known import Known
from tests.findings.scores import adjusted
from tests.findings.wording import Section, cell, grid, told


def answer(known: Known) -> Section:
    """CHAIR at each row's own length, and where all rows recall as much."""
    front, chair, rows = known.front, known.scores["chair"], known.stored.rows
    own = dict(zip(rows, adjusted([chair.difference(row, BASELINE) for row in rows]), strict=True))
    equal = {row: front.equal(row, BASELINE) for row in rows}
    recall = {row: chair.difference(row, BASELINE, lambda metrics: metrics[front.recall]) for row in rows}
    words = {row: chair.value(row, lambda metrics: metrics["chair/words"]) for row in rows}
    lines = [
        [row, f"{words[row]:.0f}", *(cell(one, 1, better) for one, better in (
            (recall[row], 1), (own[row], -1), (equal[row], -1)))]
        for row in rows
    ]  # fmt: skip
    moved = [row for row in rows if own[row].resolved]
    still = [row for row in moved if equal[row].resolved]
    kept = [row for row in still if own[row].delta * equal[row].delta > 0]
    furthest = max(rows, key=lambda row: abs(own[row].delta - equal[row].delta))
    largest = max(rows, key=lambda row: abs(own[row].delta))
    counted = (
        f"Of {len(moved)} rows that change CHAIR at their own length, {len(kept)} change it the same way where all "
        f"recall as much, {len(still) - len(kept)} the other way, and of {len(moved) - len(still)} it cannot be told "
        "(intervals in the table)"
    )
    sentences = (
        counted
        if moved
        else f"No row's change of CHAIR is told apart from nothing, not {largest}'s {told(own[largest], 1)}",
        f"Length matters most for {furthest}: its CHAIR changes by {told(own[furthest], 1)} at its own "
        f"{words[furthest]:.0f} words and by {told(equal[furthest], 1)} at equal recall",
    )
    at = fmean(front.at.values())
    notes = (
        f"equal recall: {at:.1f} % on average, {100 * NEAR:.0f} % of what the row that recalls least does on that "
        "base, interpolated between decoding lengths; intervals there are not corrected for how many they are",
        "a caption cut after n words is what greedy decoding with that limit gives; the baseline's whole captions "
        f"have {chair.value(BASELINE, lambda metrics: metrics['chair/words']):.0f} words",
    )
    draw = partial(drawings.fronts, {row: front.line(row) for row in front.rows}, at)
    heads = ["row", "words", "change of recall", "of CHAIR ↓ at its own length", "of CHAIR ↓ at equal recall"]
    return Section("length", "Is it the length?", sentences, draw, grid(heads, lines), notes)
