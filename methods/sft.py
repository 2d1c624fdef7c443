"""Continual SFT: token cross-entropy on the ground truth (nSFT paper, Eq. 2).

Data: every assistant turn of the split's own conversations. With `kl`, a divergence from the reference is added per
token (the paper's Table 7, which gives neither direction, weight nor reduction).

Other than in LLaVA's trainer, the mean is over the tokens of the optimiser step; there it is a mean of means over
micro-batches and devices. That is no option here: a result would depend on how the work is laid on the machine, which
is in no key. Examples come in an order by seed, not grouped by length and modality, and nothing is cut to 2,048 tokens.
LLaVA's script tunes language model and projector in full; adapters (as in the testbeds of LLaVA, which leave the
projector as it is) or full tuning, and the rate, are the testbed's here, because the paper says neither.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.contracts.method import Lesson, Loss, Method, Round
from harness.contracts.records import Conversation, Dropped, Example, Record
from harness.training import losses

if TYPE_CHECKING:
    from harness.models.logps import LogProbs


@dataclass(frozen=True)
class Sft(Method):
    """Every assistant turn of the ground truth is learnt; normalised by the tokens of the optimiser step."""

    label: ClassVar[str] = "Cont. SFT"
    of_the_paper: ClassVar[bool] = True
    joins: ClassVar[bool] = True
    training_only: ClassVar[tuple[str, ...]] = ("kl", "kl_weight")

    kl: Literal["none", "forward", "reverse"] = field(
        default="none",
        metadata={
            "help": "per-token divergence over the vocabulary: forward is KL(reference | policy)",
            "source": "Table 7; direction not stated, forward is TDPO's",
        },
    )
    kl_weight: float = field(default=0.1, metadata={"help": "weight of kl", "source": "not stated; TDPO's beta"})

    def lesson(self, number: int) -> Lesson:
        """The divergence is one more figure of the policy's forward pass."""
        return Lesson(columns=("policy",) if self.kl == "none" else ("policy", f"kl_{self.kl}"))

    def build(self, examples: Iterable[Example], round: Round) -> Iterator[Record | Dropped]:
        """The example's own turns."""
        for example in examples:
            yield Conversation(example.id, example.image, (example.turns,))

    def loss(self, logps: "LogProbs") -> Loss:
        """-log p per supervised token, and the weighted divergence."""
        divergence = logps.columns.get(f"kl_{self.kl}")
        metrics = {} if divergence is None else {"kl": divergence.detach()}
        return Loss(losses.sft(logps.policy, divergence, self.kl_weight), metrics)
