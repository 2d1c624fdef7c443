"""The totals of the paper's Table 1 (nSFT, CVPR 2025, arXiv 2411.14797), as one rule."""

from collections.abc import Mapping
from typing import Any

from harness.contracts.benchmark import Group
from reports.numerals import numeral

# MME takes no part, CHAIR counts as a decrease, MMHal's 0-6 rating becomes 0-100. The caption only says that "each
# column's improvement" is summed; this is the rule that gives all 54 printed totals.
RULE: dict[Group, dict[str, float]] = {
    "vqa": {"sqa": 1.0, "gqa": 1.0, "textvqa": 1.0},
    "comprehension": {"mmvet": 1.0, "mmb": 1.0},
    "hallucination": {"pope": 1.0, "chair": -1.0, "mmhal": 100 / 6},
}
# The caption's words, "summing up each column's improvement" with MMHal on 0 to 100: then MME's points count too.
AS_CAPTIONED: dict[Group, dict[str, float]] = {**RULE, "comprehension": {**RULE["comprehension"], "mme": 1.0}}
_COMPREHENSION = AS_CAPTIONED["comprehension"].keys()
RULE_IN_WORDS = (
    "totals (the paper's rule): VQA = ΔSQA + ΔGQA + ΔVQAT; comprehension = ΔMM-Vet + ΔMMB, MME left out; "
    "hallucination = ΔPOPE - ΔCHAIR + ΔMMHal * 100/6"
)


def total(group: Group, deltas: Mapping[str, Any], rule: Mapping[Group, Mapping[str, float]] = RULE) -> Any:
    """Sum of coefficient * difference to the baseline over the group's benchmarks; KeyError where one is missing.

    Differences are floats or arrays, e.g. one per bootstrap replicate.
    """
    return sum(coefficient * deltas[benchmark] for benchmark, coefficient in rule[group].items())


def what_changes(deltas: Mapping[str, Mapping[str, float]]) -> str:
    """What the caption's words would change: row -> benchmark -> difference in, a sentence out; empty without MME.

    Only comprehension differs between the two rules.
    """
    printed, captioned = (
        {row: total("comprehension", known, rule) for row, known in deltas.items() if known.keys() >= _COMPREHENSION}
        for rule in (RULE, AS_CAPTIONED)
    )
    if not printed:
        return ""
    changes = ", ".join(
        f"{row} {numeral(value, 1, '+')} -> {numeral(captioned[row], 1, '+')}" for row, value in printed.items()
    )
    first, other = (max(totals, key=lambda row: round(totals[row], 1)) for totals in (printed, captioned))
    order = "" if len(printed) < 2 or first == other else f"; the best would be {other} instead of {first}"
    return f"as the caption words it, MME counts too, in points: comprehension {changes}{order}"
