"""How a difference is told: its figure, its interval, and what may be claimed of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.figures import Draw
from reports.markdown import md, pipes
from reports.numerals import numeral
from tests.findings.scores import Difference, Scores

SIGNS = {(True, 1): "▲", (True, -1): "▼", (False, 1): "△", (False, -1): "▽"}  # for bases like these, for these alone


@dataclass(frozen=True)
class Section:
    """An answer: two sentences, a picture, a table, and what must be known to read it."""

    name: str
    question: str
    sentences: Sequence[str]
    draw: Draw
    table: str
    notes: Sequence[str] = ()


def span(low: float, high: float, digits: int, form: str = "+") -> str:
    """An interval, or that there is none."""
    if math.isnan(low) or math.isnan(high):
        return "[no interval]"
    return f"[{numeral(low, digits, form)}, {numeral(high, digits, form)}]"


def cell(one: Difference, digits: int, better: int) -> str:
    """For a table: the figure, its interval for bases like these, and a sign where it is told apart from none."""
    if one.same:
        return "0"
    side = 1 if one.delta * better > 0 else -1
    sign = " " + SIGNS[one.claim == "general", side] if one.resolved else ""
    return f"{numeral(one.delta, digits, '+')} {span(*one.bounds, digits)}{sign}"


def told(one: Difference, digits: int) -> str:
    """For a sentence: the figure, the interval that its claim is about, and for which bases."""
    figure = numeral(one.delta, digits, "+")
    if one.same:
        return "0 to the last digit"
    if one.claim == "here":
        return f"{figure} {span(one.low_here, one.high_here, digits)} on these bases alone"
    return f"{figure} {span(*one.bounds, digits)}"


def outcomes(found: Mapping[str, tuple[Scores, Difference]]) -> str:
    """What two rows differ in, column by column: better, worse, or told apart from nothing, each with its interval."""
    sides: dict[str, list[str]] = {"better": [], "worse": []}
    for label, (scores, one) in found.items():
        if one.resolved:
            side = "better" if one.delta * scores.better > 0 else "worse"
            sides[side].append(f"{label} ({told(one, digits_of(scores))})")
    if any(sides.values()):
        return " and ".join(f"{side} on {', '.join(named)}" for side, named in sides.items() if named)
    label, (scores, one) = next(iter(found.items()))
    if all(one.same for _, one in found.values()):
        return "not different in a single score"
    return f"not told apart on any of {len(found)} scores ({label} {told(one, digits_of(scores))})"


def digits_of(scores: Scores) -> int:
    """Decimals of the benchmark's column."""
    return scores.benchmark.metrics[0].digits


def grid(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table of Markdown; names in the first column are code, as one would ask for them."""
    rows = [pipes([f"`{first}`", *map(md, rest)]) for first, *rest in lines]
    return "\n".join([pipes([*map(md, heads)]), pipes(["-"] * len(heads)), *rows])
