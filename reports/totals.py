"""The totals of the paper's Table 1 (nSFT, CVPR 2025, arXiv 2411.14797), as one rule."""

from collections.abc import Mapping
from typing import Any

from harness.benchmark import Group

# MME takes no part, CHAIR counts as a decrease, MMHal's 0-6 rating becomes 0-100. The caption only says that "each
# column's improvement" is summed; this is the rule that gives all 54 printed totals.
RULE: dict[Group, dict[str, float]] = {
    "vqa": {"sqa": 1.0, "gqa": 1.0, "textvqa": 1.0},
    "comprehension": {"mmvet": 1.0, "mmb": 1.0},
    "hallucination": {"pope": 1.0, "chair": -1.0, "mmhal": 100 / 6},
}
RULE_IN_WORDS = (
    "totals (the paper's rule): VQA = ΔSQA + ΔGQA + ΔVQAT; comprehension = ΔMM-Vet + ΔMMB, MME left out; "
    "hallucination = ΔPOPE - ΔCHAIR + ΔMMHal * 100/6"
)


def total(group: Group, deltas: Mapping[str, Any]) -> Any:
    """Sum of coefficient * difference to the baseline over the group's benchmarks; KeyError where one is missing.

    Differences are floats or arrays, e.g. one per bootstrap replicate.
    """
    return sum(coefficient * deltas[benchmark] for benchmark, coefficient in RULE[group].items())
