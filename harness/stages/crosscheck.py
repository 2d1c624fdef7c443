"""A second opinion on responses."""

from dataclasses import dataclass

from pydantic import ConfigDict, Field

from harness.contracts.benchmark import benchmark_of
from harness.contracts.records import Item, Response, Score, Unscored
from harness.contracts.stage import Kind, Work
from harness.stages._benchmarked import Benchmarked
from harness.store.store import Stage
from harness.system.jsonl import read_jsonl, write_jsonl


class Crosscheck(Benchmarked):
    """What lmms-eval's stock tasks say about the same responses.

    lmms_eval: the version of lmms-eval ("lmms-eval" in the key)
    """

    model_config = ConfigDict(populate_by_name=True)

    lmms_eval: str = Field(alias="lmms-eval")

    @dataclass(frozen=True, kw_only=True)
    class Reads(Kind.Reads):
        """The questions, what was said to them, and our own score of it."""

        items: Stage
        responses: Stage
        score: Stage

    def fill(self, work: Work) -> None:
        """Write `crosscheck.jsonl`."""
        from benchmarks._lmms import second_opinion

        reads = self.Reads.of(work.step)
        items = list(read_jsonl(Item, work.folder(reads.items) / "items.jsonl"))
        responses = read_jsonl(Response, work.folder(reads.responses) / "responses.jsonl")
        scores = read_jsonl(Score | Unscored, work.folder(reads.score) / "scores.jsonl")
        texts, scored = {r.id: r.text for r in responses}, {score.id: score for score in scores}
        opinions = second_opinion(self.benchmark, benchmark_of(self), items, texts, scored)
        write_jsonl(work.out / "crosscheck.jsonl", opinions)
