"""GT-DPO: ground truth preferred to the model's own response (nSFT paper, Sec. 3.1 and Eq. 6).

Sigmoid DPO on summed log-probs, no smoothing, no SFT term. Data: chosen is the ground truth of an example's first turn,
rejected the model's own response to it; later turns have no own response. Equal and empty responses are dropped.

With `rejected=data` it is plain DPO on preference data (Rafailov et al. 2023, Eq. 7; TRL's `prompt`, `chosen`,
`rejected`): both answers are the data's, to the last question, and the turns before it are the prompt.

There is no official code: the paper follows the SIMA repository, which has no script for this row. So beta, and in the
testbeds of LLaVA rate, passes, batch and adapters, are SIMA's; whether the rejected response was greedy or sampled is
not stated. The reference is cached log-probs.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from harness.contracts.method import Loss, Role
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
    training_only: ClassVar[tuple[str, ...]] = ("beta",)

    beta: float = field(
        default=0.1, metadata={"help": "strength of the implicit KL", "source": "SIMA's and POVID's default"}
    )

    @property
    def title(self) -> str:
        """On the data's own pairs it is no longer the paper's row."""
        return "DPO (data's pairs)" if self.rejected == "data" else self.label

    def loss(self, logps: "LogProbs") -> Loss:
        """Eq. 6 on the sums of response log-probs; TRL's metric names."""
        return losses.paired(logps, self.beta)
