"""What a comparison found: the paper's columns and groups, cells of numbers, rows, and what must be said of them.

`reports.tabulate` computes it from outcomes, `reports.sheet` lays it out as grids.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from harness.contracts.benchmark import Group
from reports.manifest import Shared
from reports.statistics import LEVEL

GROUPS: dict[Group, tuple[str, tuple[str, ...]]] = {
    "vqa": ("VQA", ("sqa", "gqa", "textvqa")),
    "comprehension": ("Comprehension", ("mmvet", "mme", "mmb")),
    "hallucination": ("Hallucination", ("pope", "chair", "mmhal")),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """What every row of the table shares, and which base model each seed took."""

    testbed: str
    protocol: str
    synthetic: bool
    models: Mapping[str, str] = field(default_factory=dict)  # seed -> which base model it took
    shared: Mapping[str, Shared] = field(default_factory=dict)  # benchmark -> its pictures that were trained on

    def bases(self, seeds: Collection[int]) -> int:
        """How many base models these seeds took; one where that is not known, so that nothing is claimed of others."""
        return len({self.models.get(str(seed), "") for seed in seeds})

    @property
    def testbed_in_words(self) -> str:
        """The testbed's name, with the word that keeps it from passing for the real thing."""
        return f"{self.testbed} (synthetic)" if self.synthetic else self.testbed


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `metric` is a metric's id, or "total". `lower` where a smaller value is better.

    `beside` marks what is shown to read a score by, and is none itself: recall and length beside CHAIR.
    """

    group: Group
    benchmark: str
    metric: str
    label: str
    digits: int
    lower: bool = False
    beside: bool = False

    @property
    def scored(self) -> bool:
        """Whether it is a benchmark's score, which may be won or lost."""
        return self.metric != "total" and not self.beside

    def outcome(self, cell: "Cell") -> str:
        """What a resolved difference in this column is, a key of `numerals.MARKS`; empty where it may be chance."""
        return outcome(cell, self.lower, self.scored)


@dataclass(frozen=True, slots=True)
class Cell:
    """Numbers of one method and column; NaN is a dash. `low`, `high`: of the delta, of the value where there is none.

    `n` are the units in the difference (with several seeds, of the seed with the fewest), `withheld` is shown in place
    of the numbers, and so is that the cell `failed`, whose reason stands below the table. `coverage` is the share of
    units with a judge's verdict, in percent; NaN where nobody judged. `detectable` is the difference that would get the
    mark in 4 of 5 such comparisons.
    """

    value: float = math.nan
    delta: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p_holm: float = math.nan
    n: int = 0
    unscored: int = 0
    withheld: str = ""
    coverage: float = math.nan
    failed: str = ""
    detectable: float = math.nan

    @property
    def resolved(self) -> bool:
        """Whether the difference gets a mark."""
        return self.p_holm < LEVEL

    @property
    def verdict(self) -> str:
        """What may be said of the difference, where there is room for words; empty where it was not tested."""
        if math.isnan(self.p_holm):
            return ""
        return "resolved" if self.resolved else f"not resolved at n = {self.n:,}"


def outcome(cell: Cell, lower: bool, scored: bool = True) -> str:
    """As `Column.outcome`; `lower`: a smaller value is better."""
    if not cell.resolved:
        return ""
    if not scored:
        return "moved"
    return "better" if (cell.delta < 0) == lower else "worse"


@dataclass(frozen=True, slots=True)
class Row:
    """One method; `cells` in the order of the columns."""

    method: str
    label: str
    seeds: int
    cells: tuple[Cell, ...]

    @property
    def failed(self) -> str:
        """Why the row has no numbers at all; empty where it has some, or where its cells failed for several reasons."""
        reasons = {cell.failed for cell in self.cells}
        return reasons.pop() if len(reasons) == 1 else ""


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that is shown, before it is laid out."""

    setting: Setting
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
