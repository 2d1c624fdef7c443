"""Continual SFT: token cross-entropy on the ground truth (nSFT paper, Eq. 2)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness import losses
from harness.method import Loss, Method, Round
from harness.types import Conversation, Dropped, Example, Record

if TYPE_CHECKING:
    from harness.logps import LogProbs


@dataclass(frozen=True)
class Sft(Method):
    """Every assistant turn of the ground truth is learnt; normalised by the tokens of the optimiser step."""

    label: ClassVar[str] = "Cont. SFT"

    def build(self, examples: Iterable[Example], round: Round) -> Iterator[Record | Dropped]:
        """The example's own turns."""
        for example in examples:
            yield Conversation(example.id, example.image, (example.turns,))

    def loss(self, logps: "LogProbs") -> Loss:
        """-log p per supervised token."""
        return Loss(losses.sft(logps.policy), {})
