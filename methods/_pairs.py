"""Pairs that several methods learn from, so that their rows differ in the loss alone."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from harness.contracts.method import Method, Round, Unit
from harness.contracts.records import Dropped, Example, Pair, Prompt, Record


@dataclass(frozen=True)
class Pairs(Method):
    """chosen = ground truth, rejected = own response; or both answers of preference data."""

    unit: ClassVar[Unit] = "record"

    rejected: Literal["greedy", "sampled", "data"] = field(
        default="greedy",
        metadata={
            "help": "the own response, greedy or sampled, or the data's own rejected answer",
            "source": "greedy or sampled: not stated in the nSFT paper; ours. data: DPO",
        },
    )
    temperature: float = field(default=0.8, metadata={"help": "used by rejected=sampled", "source": "SIMA's sampling"})

    @property
    def preferences(self) -> str:
        """Read on request; by itself the ground truth is preferred to own responses, as in the paper's GT-DPO."""
        if self.rejected == "data":
            return "read: each is the rejected side of its pair"
        name = type(self).__name__.lower()
        return f"not read: rejected is the model's own response, as in the paper; {name}:rejected=data reads them"

    def build(self, examples: Iterable[Example], round: Round) -> Iterator[Record | Dropped]:
        """One pair per example; equal sides teach nothing and are dropped."""
        yield from self.pairs(list(examples), round)

    def pairs(self, examples: list[Example], round: Round) -> Iterator[Pair | Dropped]:
        """The pair of each example, or why it has none."""
        if self.rejected == "data":
            yield from map(given, examples)
            return
        prompts = [Prompt(e.id, e.image, e.turns[0].question) for e in examples]
        own = round.respond(prompts, temperature=0.0 if self.rejected == "greedy" else self.temperature)
        for example, response in zip(examples, own, strict=True):
            turn = example.turns[0]
            if response.text.strip() == turn.answer.strip():
                yield Dropped(example.id, "own response equals the ground truth")
            elif not response.text.strip():
                yield Dropped(example.id, "own response is empty")
            else:
                yield Pair(example.id, example.image, turn.question, turn.answer, response.text.strip())


def given(example: Example) -> Pair | Dropped:
    """The pair that the data have."""
    *history, last = example.turns
    if example.rejected is None:
        return Dropped(example.id, "the data have no rejected answer")
    if example.rejected.strip() == last.answer.strip():
        return Dropped(example.id, "the data's rejected answer equals the chosen one")
    return Pair(example.id, example.image, last.question, last.answer, example.rejected, tuple(history))
