"""GT-DPO: ground truth preferred to the model's own response (nSFT paper, Sec. 3.1 and Eq. 6).

Sigmoid DPO on summed log-probs, no smoothing, no SFT term. Data: chosen is the ground truth of an example's first turn,
rejected the model's own response to it; later turns have no own response. Equal and empty responses are dropped.

With `rejected=data` it is plain DPO on preference data (Rafailov et al. 2023, Eq. 7; TRL's `prompt`, `chosen`,
`rejected`): both answers are the data's, to the last question, and the turns before it are the prompt.

There is no official code: the paper follows the SIMA repository, which has no script for this row. So beta, and in the
testbeds of LLaVA rate, passes, batch and adapters, are SIMA's; whether the rejected response was greedy or sampled is
not stated. The reference is cached log-probs.

What the rejected side's gradient does (Eq. 9's second term) is asked with `rejected_gradient`: at 0 the rejected answer
only weighs how fast the chosen one is learnt.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from harness.contracts.method import Loss, Role
from harness.system.errors import UsageError
from harness.training import losses
from methods._pairs import Pairs

if TYPE_CHECKING:
    from harness.models.logps import LogProbs


@dataclass(frozen=True)
class Dpo(Pairs):
    """chosen = ground truth, rejected = own response; sigmoid loss on summed log-probs."""

    label: ClassVar[str] = "GT-DPO"
    of_the_paper: ClassVar[bool] = True
    roles: ClassVar[tuple[Role, ...]] = (Role.POLICY, Role.REFERENCE)
    training_only: ClassVar[tuple[str, ...]] = ("beta", "rejected_gradient")

    beta: float = field(
        default=0.1, metadata={"help": "strength of the implicit KL", "source": "SIMA's and POVID's default"}
    )
    rejected_gradient: float = field(
        default=1.0,
        metadata={
            "help": "multiplies the rejected side's gradient",
            "source": "Eq. 6 and 9: 1; others ours",
        },
    )

    def __post_init__(self) -> None:
        """UsageError for a gradient turned around, which would teach the rejected answer."""
        if self.rejected_gradient < 0:
            raise UsageError(f"dpo.rejected_gradient={self.rejected_gradient} teaches rejected answers; 0 or more.")

    @property
    def title(self) -> str:
        """On the data's own pairs it is no longer the paper's row."""
        return "DPO (data's pairs)" if self.rejected == "data" else self.label

    def loss(self, logps: "LogProbs") -> Loss:
        """Eq. 6 on the sums of response log-probs; TRL's metric names."""
        return losses.paired(logps, self.beta, rejected_gradient=self.rejected_gradient)
