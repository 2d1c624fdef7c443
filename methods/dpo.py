"""GT-DPO: ground truth preferred to the model's own response (nSFT paper, Sec. 3.1 and Eq. 6).

Sigmoid DPO on summed log-probs, no smoothing, no SFT term. Data: chosen is the ground truth of an example's first turn,
rejected the model's own response to it; later turns have no own response. Equal and empty responses are dropped.

With `rejected=data` it is plain DPO on preference data (Rafailov et al. 2023, Eq. 7; TRL's `prompt`, `chosen`,
`rejected`): both answers are the data's, to the last question, and the turns before it are the prompt.

There is no official code: the paper follows the SIMA repository, which has no script for this row. So beta, and in the
testbeds of LLaVA rate, passes, batch and adapters, are SIMA's; whether the rejected response was greedy or sampled is
not stated. The reference is cached log-probs.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.contracts.method import Loss, Method, Role, Round, Unit
from harness.contracts.records import Dropped, Example, Pair, Prompt, Record
from harness.training import losses

if TYPE_CHECKING:
    from harness.models.logps import LogProbs


@dataclass(frozen=True)
class Dpo(Method):
    """chosen = ground truth, rejected = own response; sigmoid loss on summed log-probs."""

    label: ClassVar[str] = "GT-DPO"
    roles: ClassVar[tuple[Role, ...]] = (Role.POLICY, Role.REFERENCE)
    unit: ClassVar[Unit] = "record"
    training_only: ClassVar[tuple[str, ...]] = ("beta",)

    beta: float = field(
        default=0.1, metadata={"help": "strength of the implicit KL", "source": "SIMA's and POVID's default"}
    )
    rejected: Literal["greedy", "sampled", "data"] = field(
        default="greedy",
        metadata={
            "help": "the own response, greedy or sampled, or the data's own rejected answer",
            "source": "greedy or sampled: not stated in the paper; ours. data: DPO",
        },
    )
    temperature: float = field(default=0.8, metadata={"help": "used by rejected=sampled", "source": "SIMA's sampling"})

    @property
    def title(self) -> str:
        """On the data's own pairs it is no longer the paper's row."""
        return "DPO (data's pairs)" if self.rejected == "data" else self.label

    @property
    def preferences(self) -> str:
        """Read on request; the paper's row prefers the ground truth to own responses."""
        if self.rejected == "data":
            return "read: each is the rejected side of its pair"
        return "not read: rejected is the model's own response, as in the paper; dpo:rejected=data reads them"

    def build(self, examples: Iterable[Example], round: Round) -> Iterator[Record | Dropped]:
        """One pair per example; equal sides teach nothing and are dropped."""
        examples = list(examples)
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

    def loss(self, logps: "LogProbs") -> Loss:
        """Eq. 6 on the sums of response log-probs; TRL's metric names."""
        return losses.paired(logps, self.beta)


def given(example: Example) -> Pair | Dropped:
    """The pair that the data have."""
    *history, last = example.turns
    if example.rejected is None:
        return Dropped(example.id, "the data have no rejected answer")
    return Pair(example.id, example.image, last.question, last.answer, example.rejected, tuple(history))
