"""What all questions share: every benchmark's scores, with SFT at other rows' tokens and cost beside them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from harness.contracts.benchmark import Unit
from reports.statistics import REPLICATES
from tests.findings.front import Front
from tests.findings.runs import EPOCHS
from tests.findings.scores import Difference, Scores, adjusted
from tests.findings.stored import Place, Stored, mixture

EQUAL = {"tokens": "sft at {row}'s tokens", "cost": "sft at {row}'s cost"}
HELD = ("nsft", "dpo")  # rows that SFT is brought up to
SHOWN = ("pope", "chair", "mmhal")  # what pictures show: the paper's hallucination benchmarks

Pair = tuple[Scores, Difference]


@dataclass(frozen=True)
class Known:
    """The stored comparisons, and what is computed of them once."""

    stored: Stored
    replicates: int = REPLICATES

    @cached_property
    def weights(self) -> dict[Place, float]:
        """For every training of `HELD` and either measure, how much of the longer SFT equals it; beyond 0 and 1 too."""
        spent, found = self.stored.spent, dict[Place, float]()
        for place in (place for place in spent if place.row in HELD):
            for what, name in EQUAL.items():
                rows = (place._replace(row="sft"), place._replace(row=EPOCHS), place)
                low, high, at = (getattr(spent[one], what) for one in rows)
                found[place._replace(row=name.format(row=place.row))] = (at - low) / (high - low)
        return found

    @cached_property
    def scores(self) -> dict[str, Scores]:
        """Benchmark -> its scores, in the order of the command."""
        found = {}
        for name, benchmark in self.stored.benchmarks.items():
            units: dict[Place, list[Unit]] = {}
            for at, weight in self.weights.items():
                one, more = (self.stored.units[name][at._replace(row=row)] for row in ("sft", EPOCHS))
                units[at] = mixture(one, more, min(max(weight, 0.0), 1.0))
            found[name] = Scores(benchmark, {**self.stored.units[name], **units}, self.replicates)
        return found

    @cached_property
    def front(self) -> Front:
        """CHAIR by decoding length."""
        return Front(self.stored, replicates=self.replicates)

    def label(self, name: str) -> str:
        """A benchmark's, with the sign that less is better."""
        return self.stored.benchmarks[name].label + ("" if self.scores[name].better > 0 else " ↓")

    def family(self, asked: Mapping[str, tuple[str, str]]) -> dict[str, dict[str, Pair]]:
        """What is asked -> benchmark -> the difference between its two rows, corrected over all of them."""
        places = [(what, name) for what in asked for name in self.scores]
        both = zip(places, adjusted([self.scores[name].difference(*asked[what]) for what, name in places]), strict=True)
        found: dict[str, dict[str, Pair]] = {what: {} for what in asked}
        for (what, name), one in both:
            found[what][name] = self.scores[name], one
        return found

    def ratio(self, row: str, what: str) -> list[float]:
        """By training, how many times SFT's tokens, or cost, a row takes."""
        spent = self.stored.spent
        places = [place for place in spent if place.row == row]
        return [getattr(spent[at], what) / getattr(spent[at._replace(row="sft")], what) for at in places]
