"""What the comparisons of several bases have in their store, by row, base and split."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from harness.contracts.benchmark import Benchmark, Unit
from harness.contracts.judge import Judge
from harness.contracts.records import Item, Response, Score
from harness.contracts.row_names import BASELINE
from harness.system.errors import UsageError
from harness.system.jsonl import read_jsonl
from reports.facts import row_facts
from reports.runs import Run, StoredCell

MADE = {"build": 1, "reference": 1, "train": 3}  # passes over a token that a stage reads; a backward pass is two


class Place(NamedTuple):
    """Whose answers: a row's, trained from a base on a split. Without a row of its own, a mixture's."""

    row: str
    base: str
    split: int


Units = Mapping[Place, Sequence[Unit]]


class Spent(NamedTuple):
    """What made a policy: tokens it learnt from, and tokens that a model read for it, in forward passes."""

    tokens: float
    cost: float


@dataclass(frozen=True)
class Stored:
    """Finished comparisons of one testbed, a run per base."""

    runs: Sequence[Run]

    def __post_init__(self) -> None:
        """UsageError where they are not the same comparison on different bases, whole."""
        if len(self.by_base) < len(self.runs):
            raise UsageError("two of these comparisons are of one base; give one of each.")
        if len(self.runs[0].manifest.seeds) < 2:
            raise UsageError("one split tells nothing of splits; compare with --seeds 2 or more.")
        for run in self.runs:
            asked = [run.manifest.rows, run.manifest.benchmarks, run.manifest.seeds, run.setting.testbed_in_words]
            first = self.runs[0].manifest
            if asked != [first.rows, first.benchmarks, first.seeds, self.runs[0].setting.testbed_in_words]:
                raise UsageError(f"{run.name} has not the rows, seeds, benchmarks and testbed of {self.runs[0].name}.")
            if run.missing or run.failed:
                raise UsageError(f"{run.name} is not complete; the command that began it goes on from there.")

    @cached_property
    def by_base(self) -> dict[str, Run]:
        """Base -> its comparison; a base is called by its folder."""
        found: dict[str, Run] = {}
        for run in self.runs:
            folders = {Path(folder).name for folder in run.manifest.bases.values()}
            if len(folders) != 1:
                raise UsageError(f"{run.name} has {len(folders)} bases; give a comparison for each, with --model.")
            found[folders.pop()] = run
        return found

    @property
    def testbed(self) -> str:
        """In words: a synthetic one says so."""
        return self.runs[0].setting.testbed_in_words

    @property
    def judge(self) -> str:
        """Whom the comparisons asked."""
        return self.runs[0].manifest.judge

    @property
    def rows(self) -> list[str]:
        """Without the baseline, in the order of the command."""
        return [row for row in self.runs[0].rows if row != BASELINE]

    @cached_property
    def benchmarks(self) -> dict[str, Benchmark]:
        """By name, in the order of the command."""
        return self.runs[0].benchmarks()

    @cached_property
    def units(self) -> dict[str, dict[Place, Sequence[Unit]]]:
        """Benchmark -> place -> what was scored."""
        found: dict[str, dict[Place, Sequence[Unit]]] = {name: {} for name in self.benchmarks}
        for place, cell in self.cells():
            found[cell.benchmark][place] = cell.outcome().units
        return found

    @cached_property
    def spent(self) -> dict[Place, Spent]:
        """What made each trained policy."""
        found = {}
        for base, run in self.by_base.items():
            for facts in (facts for facts in row_facts(run) if facts.made):
                read = {kind: facts.total((kind,), "forward_tokens") or 0 for kind in MADE if facts.of(kind)}
                cost = sum(MADE[kind] * tokens for kind, tokens in read.items())
                found[Place(facts.row, base, facts.seed)] = Spent(
                    facts.total(("train",), "supervised_tokens") or 0, cost
                )
        return found

    def cells(self, benchmark: str = "") -> Iterator[tuple[Place, StoredCell]]:
        """Every cell, or those of a benchmark."""
        for base, run in self.by_base.items():
            for cell in run.cells:
                if benchmark in ("", cell.benchmark):
                    yield Place(cell.row, base, cell.seed), cell

    def said(self, benchmark: str) -> Iterator[tuple[Place, list[tuple[Item, Response]]]]:
        """Every item with what was answered; UsageError where a bundle was made without."""
        items: dict[str, list[Item]] = {}
        for place, cell in self.cells(benchmark):
            files = cell.file(cell.items, "items.jsonl"), cell.file(cell.responses, "responses.jsonl")
            if not all(file.is_file() for file in files):
                raise UsageError(f"{self.by_base[place.base].name} has no responses; take the runs' folders.")
            if cell.items not in items:
                items[cell.items] = list(read_jsonl(Item, files[0]))
            answers = {response.id: response for response in read_jsonl(Response, files[1])}
            yield place, [(item, answers[item.id]) for item in items[cell.items]]

    def judged(self, benchmark: str, judge: Judge) -> dict[Place, Sequence[Unit]]:
        """What the same answers score when somebody else judges; UsageError where one gets no verdict."""
        made, found = self.benchmarks[benchmark], dict[Place, Sequence[Unit]]()
        for place, pairs in self.said(benchmark):
            scores = [(item, made.score(item, response, judge)) for item, response in pairs]
            scored = [(item, score) for item, score in scores if isinstance(score, Score)]
            if len(scored) < len(scores):
                reason = next(score for _, score in scores if not isinstance(score, Score)).reason
                raise UsageError(f"{judge.name} leaves answers to {benchmark} without a score: {reason}")
            found[place] = made.units(scored)
        return found


def mixture(one: Sequence[Unit], other: Sequence[Unit], share: float) -> list[Unit]:
    """What a policy scores on average that answers as `other` with the probability `share`, and else as `one`."""
    parts = ((one, 1 - share), (other, share))
    return [
        Unit(unit.id, unit.cluster, {name: weight * value for name, value in unit.parts.items()})
        for units, weight in parts
        for unit in units
    ]
