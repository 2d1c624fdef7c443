"""Scores of responses, and the units that tables are made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.contracts.benchmark import Benchmark, Unit, benchmark_of, computed, totals
from harness.contracts.records import Item, Response, Unscored
from harness.contracts.records import Score as Scored
from harness.contracts.stage import Asked, Kind, Plugins, Work
from harness.scoring.verdicts import combined, keep_verdicts, score_runs
from harness.stages._asked import asked
from harness.stages._benchmarked import Benchmarked
from harness.store.closure import Entry
from harness.store.store import Stage
from harness.system.jsonl import dumps, read_jsonl, write_jsonl


class Score(Benchmarked):
    """A score or the reason for none per item, and the units that tables are made of.

    judge: what identifies the judge; "" where none is asked
    """

    judge: Asked

    @dataclass(frozen=True, kw_only=True)
    class Reads(Kind.Reads):
        """The questions, and what was said to them."""

        items: Stage
        responses: Stage

    def loads(self, known: Plugins) -> tuple[Entry | None, ...]:
        """The benchmark."""
        return (self.file,)

    @property
    def asks(self) -> Asked:
        """The judge."""
        return self.judge

    def fill(self, work: Work) -> None:
        """Write `scores.jsonl` and `units.json`, and what the judge said."""
        reads, out, benchmark = self.Reads.of(work.step), work.out, benchmark_of(self)
        items = list(read_jsonl(Item, work.folder(reads.items) / "items.jsonl"))
        answers = read_jsonl(Response, work.folder(reads.responses) / "responses.jsonl")
        responses = {response.id: response for response in answers}
        judge = asked(work, "judge", reads.items) if benchmark.judged else None
        runs = score_runs(benchmark, items, responses, judge)
        scores = combined(runs)
        write_jsonl(out / "scores.jsonl", scores)
        write_units(out / "units.json", benchmark, items, scores)
        if judge:
            keep_verdicts(out, benchmark, items, judge, runs, scores)


def write_units(path: Path, benchmark: Benchmark, items: Sequence[Item], scores: Sequence[Scored | Unscored]) -> None:
    """The units of what was scored, and how many items were not, with reasons."""
    by_id = {item.id: item for item in items}
    failed = {score.id: score.reason for score in scores if isinstance(score, Unscored)}
    spoilt = {by_id[name].unit for name in failed}
    scored = [
        (by_id[score.id], score) for score in scores if isinstance(score, Scored) and by_id[score.id].unit not in spoilt
    ]
    made = benchmark.units(scored)
    try_metrics(benchmark, made)
    units = [{"id": unit.id, "cluster": unit.cluster, "parts": unit.parts} for unit in made]
    path.write_text(dumps({"units": units, "unscored": failed, "items": len(items)}), encoding="utf-8")


def try_metrics(benchmark: Benchmark, units: Sequence[Unit]) -> None:
    """Compute the metrics once, for sums and for arrays: what raises, or is off its scale, fails this cell alone."""
    if units:
        sums = totals(units)
        computed(benchmark, sums)
        benchmark.compute({name: np.array([value, value]) for name, value in sums.items()})
