"""Means over all items and over groups of them, as sums: what most benchmarks report beside their main number.

A part is named "<group>/sum" or "<group>/n"; a group is "all", or a kind and a value ("capability/ocr").
"""

from collections.abc import Iterable
from typing import Any

from harness.contracts.benchmark import Totals, ratio


def tally(value: float, groups: Iterable[str]) -> dict[str, float]:
    """The parts of one value that counts in each of the groups."""
    return {f"{group}/{name}": number for group in groups for name, number in (("sum", value), ("n", 1.0))}


def means(benchmark: str, sums: Totals, scale: float = 100.0) -> dict[str, Any]:
    """The mean of every group that has a part in `sums`, by the id "<benchmark>/<group>"."""
    groups = [name.removesuffix("/n") for name in sums if name.endswith("/n")]
    return {f"{benchmark}/{group}": ratio(sums[f"{group}/sum"], sums[f"{group}/n"], scale) for group in groups}
