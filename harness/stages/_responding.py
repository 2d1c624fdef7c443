"""Stages in which a policy responds to examples and a writer may be asked."""

from typing import Any

from harness.contracts.judge import Writer
from harness.contracts.method import Lesson
from harness.contracts.settings import Dtype, Training
from harness.contracts.stage import Asked, Plugins, Work
from harness.stages._model import Answering, Trained
from harness.store.closure import Entry
from harness.training.rounds import OwnRound


class Responding(Answering):
    """A stage in which a policy responds to a split's examples.

    backend: who makes it respond, and how
    seed: the comparison's
    round: which round of a method it is, 0 for the first
    response_tokens: how many tokens a response may have
    dtype: in which models respond, on any device
    writer: what identifies the writer; "" where none is asked
    """

    backend: dict[str, Any]
    seed: int
    round: int
    response_tokens: int
    dtype: Dtype
    writer: Asked

    def loads(self, known: Plugins) -> tuple[Entry | None, ...]:
        """The model's family, and who makes it respond."""
        return known.family, known.backend

    @property
    def asks(self) -> Asked:
        """The writer."""
        return self.writer

    def own_round(
        self,
        work: Work,
        lesson: Lesson,
        writer: Writer,
        reads: Trained,
        training: Training | None = None,
        max_length: int | None = None,
    ) -> OwnRound:
        """The round of a step that builds records, or that looks at what a policy says of examples.

        `training`: how the roles were trained that it reads; `max_length`: how many tokens a record may have.
        """
        return OwnRound(
            number=self.round,
            seed=self.seed,
            asked=writer,
            store=work.store,
            testbed=work.testbed,
            runtime=work.runtime,
            lesson=lesson,
            response_tokens=self.response_tokens,
            dtype=self.dtype,
            max_length=max_length,
            trained=reads.roles,
            training=training,
            policy=self.policy(work, reads.policy),
            policy_key=reads.policy.key if reads.policy else self.model,
            base=self.base(work),
            shelf=self.shelf(work),
            tick=work.tick,
        )
