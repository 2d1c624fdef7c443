"""Ground truth preferred to the own response by a margin, without a reference model (SimPO's, unnormalised)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from harness.contracts.method import Loss, Method, Round, Unit
from harness.contracts.records import Dropped, Example, Pair, Prompt

if TYPE_CHECKING:
    from harness.models.logps import LogProbs


@dataclass(frozen=True)
class Margin(Method):
    """A hinge on the difference of log-probs."""

    gamma: float = field(default=1.0, metadata={"help": "wanted margin, in nats", "source": "ours"})

    label: ClassVar[str] = "margin"
    unit: ClassVar[Unit] = "record"  # the loss has one value per record

    def build(self, examples: Iterable[Example], round: Round) -> Iterator[Pair | Dropped]:
        """The first answer of each example against what the model itself says."""
        examples = list(examples)
        own = round.respond([Prompt(e.id, e.image, e.turns[0].question) for e in examples])
        for example, response in zip(examples, own, strict=True):
            turn = example.turns[0]
            if response.text in ("", turn.answer):
                yield Dropped(example.id, "nothing to prefer")
            else:
                yield Pair(example.id, example.image, turn.question, turn.answer, response.text)

    def loss(self, logps: "LogProbs") -> Loss:
        """Per pair: what is lacking to the margin."""
        chosen, rejected = logps.sequence(logps.policy).view(-1, 2).unbind(1)
        return Loss((self.gamma - chosen + rejected).clamp(min=0), {"logps/chosen": chosen.detach()})
