"""The reference's log-probs."""

from dataclasses import dataclass

from harness.contracts.images import resolved
from harness.contracts.records import Record
from harness.contracts.settings import Dtype
from harness.contracts.stage import Kind, Work
from harness.stages._model import Modelled
from harness.store.store import Stage
from harness.system.jsonl import dumps, read_jsonl


class Reference(Modelled):
    """The reference's per-token log-probs of every record, once.

    dtype: in which they are taken
    columns: which figures of the forward pass (`Lesson.columns`)
    max_length: how many tokens a record has at most; None: as many as the model has positions
    """

    dtype: Dtype
    columns: list[str]
    max_length: int | None

    @dataclass(frozen=True, kw_only=True)
    class Reads(Kind.Reads):
        """The records, and the policy that is the reference; None: the base model is."""

        build: Stage
        policy: Stage | None = None

    def fill(self, work: Work) -> None:
        """Write `logps.safetensors`."""
        from harness.models.reference import reference_logps

        reads = self.Reads.of(work.step)
        stored = read_jsonl(Record, work.folder(reads.build) / "records.jsonl")
        records = [resolved(record, work.places) for record in stored]
        profile = reference_logps(
            self.policy(work, reads.policy),
            records,
            work.runtime,
            work.out / "logps.safetensors",
            work.tick,
            self.dtype,
            self.columns,
            self.shelf(work),
            self.max_length,
        )
        (work.out / "profile.json").write_text(dumps(profile), encoding="utf-8")
