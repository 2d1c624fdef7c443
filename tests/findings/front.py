"""CHAIR by decoding length: captions cut after so many words, and CHAIR where all rows recall as much.

Greedy decoding goes from left to right: a caption cut after n words is what a limit of as many would have given.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from harness.contracts.benchmark import Unit
from harness.contracts.records import Score
from reports.statistics import REPLICATES, Array, mean
from tests.findings.scores import Difference, Scores, untested
from tests.findings.stored import Place, Stored

LENGTHS = (5, 10, 15, 20, 30, 40, 50, 60, 80, 100)  # words; and uncut
UNCUT = 0
NEAR = 0.9  # of the least recall of all rows, which every row reaches in nearly every replicate


class Cut(NamedTuple):
    """A row's captions, cut after so many words; 0: not at all."""

    row: str
    words: int

    def __str__(self) -> str:
        return f"{self.row} after {self.words} words" if self.words else self.row


def cut(text: str, words: int) -> str:
    """The text up to its n-th word."""
    return " ".join(text.split()[:words]) if words else text


class Front:
    """CHAIR and recall of every row on every base at every length, the splits of a base pooled."""

    def __init__(self, stored: Stored, lengths: Sequence[int] = LENGTHS, replicates: int = REPLICATES) -> None:
        chair = stored.benchmarks["chair"]
        self.lengths = [*lengths, UNCUT]
        pooled = dict[Place, list[Unit]]()
        for place, pairs in stored.said("chair"):
            for words in self.lengths:
                asked = [(item, replace(said, text=cut(said.text, words))) for item, said in pairs]
                made = [(item, chair.score(item, short, None)) for item, short in asked]
                scored = chair.units([(item, score) for item, score in made if isinstance(score, Score)])
                pooled.setdefault(Place(str(Cut(place.row, words)), place.base, 0), []).extend(scored)
        self.scores = Scores(chair, pooled, replicates)
        self.recall = next(metric.id for metric in chair.metrics if "recall" in metric.id)
        self.rows = list(dict.fromkeys(place.row for place in stored.units["chair"]))
        self.at = {base: NEAR * min(self._figure(row, base, self.recall)[-1] for row in self.rows)
                   for base in self.scores.bases}  # fmt: skip

    def _figure(self, row: str, base: str, metric: str) -> list[float]:
        """By length."""
        places = [self.scores.at[str(Cut(row, words)), base] for words in self.lengths]
        return [float(self.scores.measured[place][metric]) for place in places]

    def line(self, row: str) -> list[tuple[float, float]]:
        """(recall, CHAIR) by length, means over the bases."""
        of = [[self._figure(row, base, name) for base in self.scores.bases] for name in (self.recall, self.chair)]
        return list(zip(*(map(mean, zip(*figures, strict=True)) for figures in of), strict=True))

    @property
    def chair(self) -> str:
        """The id of CHAIR's column."""
        return self.scores.benchmark.metrics[0].id

    def equal(self, row: str, control: str) -> Difference:
        """CHAIR of `row` less that of `control` where both recall as much; no p, for none is computed there."""
        values, draws = [], []
        for base in self.scores.bases:
            (new, news), (old, olds) = (self._at_recall(name, base) for name in (row, control))
            values.append(new - old)
            draws.append(news - olds)
        return untested(values, np.stack(draws))

    def _at_recall(self, row: str, base: str) -> tuple[float, Array]:
        """CHAIR at the base's recall: the value, and its replicates; NaN in those that do not come so far."""
        places = [self.scores.at[str(Cut(row, words)), base] for words in self.lengths]
        drawn = [(self.scores.drawn[place][self.recall], self.scores.drawn[place][self.chair]) for place in places]
        recall, chair = (np.stack([one[side] for one in drawn], axis=1) for side in (0, 1))
        own = self._figure(row, base, self.recall), self._figure(row, base, self.chair)
        at = self.at[base]
        drawn_at = [np.interp(at, x, y, right=np.nan) for x, y in zip(recall, chair, strict=True)]
        return float(np.interp(at, *own, right=np.nan)), np.array(drawn_at)

    def signs(self, row: str, control: str) -> list[list[float]]:
        """By base, the difference in CHAIR at every length."""
        return [
            [
                new - old
                for new, old in zip(*(self._figure(name, base, self.chair) for name in (row, control)), strict=True)
            ]
            for base in self.scores.bases
        ]
