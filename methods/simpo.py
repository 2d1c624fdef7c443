"""SimPO: mean log-probs of the chosen response above the rejected's by a margin (Meng et al. 2024, arXiv 2405.14734).

Its loss is -log sigma(beta (mean log-prob of chosen - mean log-prob of rejected) - gamma), Eq. 6; no reference. Pairs
are GT-DPO's (`rejected=data`: those of the data), so that the rows differ in the loss alone.

Defaults are those of the official `SimPOConfig`, whose `gamma_beta_ratio` of 0.25 is gamma / beta. Its README's models
have beta 2 or 2.5, gamma / beta 0.1 to 0.8 and rates of 3e-7 to 1e-6 for all weights, and it recommends to search gamma
/ beta between 0 and 1. The script's SFT term (`sft_weight`) is 0 there and not here.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from harness.contracts.method import Loss
from harness.training import losses
from methods._pairs import Pairs

if TYPE_CHECKING:
    from harness.models.logps import LogProbs


@dataclass(frozen=True)
class Simpo(Pairs):
    """Sigmoid loss on mean log-probs with a margin, without a reference."""

    label: ClassVar[str] = "SimPO"
    training_only: ClassVar[tuple[str, ...]] = ("beta", "gamma")

    beta: float = field(
        default=2.0, metadata={"help": "scale of the rewards", "source": "official config; models: 2, 2.5"}
    )
    gamma: float = field(
        default=0.5,
        metadata={"help": "margin that the rewards are to differ by", "source": "official config; models: 0.2 to 1.6"},
    )

    def loss(self, logps: "LogProbs") -> Loss:
        """Eq. 6; rewards are beta times mean log-probs (Eq. 4)."""
        chosen, rejected = (self.beta * side for side in losses.sides(logps.mean(logps.policy)))
        values = losses.simpo(chosen, rejected, self.gamma)
        return Loss(values, losses.figures(chosen, rejected, logps))
