"""ORPO: SFT on the chosen response, and its odds above those of the rejected one (Hong et al. 2024, arXiv 2403.07691).

Its loss is L_SFT + lam * L_OR, Eq. 6, without a reference. L_SFT is the chosen response's mean negative log-prob,
L_OR is -log sigma(log odds(chosen) - log odds(rejected)) with odds P / (1 - P) of P = exp(mean log-prob), Eq. 3, 4, 7.
Pairs are GT-DPO's (`rejected=data`: those of the data).

Official code and TRL take the mean of L_SFT over all tokens of a micro-batch, so that longer answers weigh more and a
result depends on how the work is cut; here each pair has one, as in the paper. TRL, and the official trainer without
`disable_prompt_loss`, learn the prompt's words as well; here, as in every row, only answers are learnt. lam is the
official scripts' `alpha`, 0.1 with a rate of 5e-6 for all weights of Mistral, and TRL's beta.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from harness.contracts.method import Loss
from harness.training import losses
from methods._pairs import Pairs

if TYPE_CHECKING:
    from harness.models.logps import LogProbs


@dataclass(frozen=True)
class Orpo(Pairs):
    """SFT and an odds ratio in one loss, without a reference."""

    label: ClassVar[str] = "ORPO"
    training_only: ClassVar[tuple[str, ...]] = ("lam",)

    lam: float = field(default=0.1, metadata={"help": "weight of the odds ratio", "source": "official script; TRL"})

    def loss(self, logps: "LogProbs") -> Loss:
        """Eq. 6; rewards are lam times mean log-probs, as TRL logs them."""
        chosen, rejected = losses.sides(logps.mean(logps.policy))
        ratio = losses.odds_ratio(chosen, rejected)
        metrics = losses.figures(self.lam * chosen, self.lam * rejected, logps)
        parts = {"loss/sft": -chosen.detach(), "loss/odds_ratio": ratio.detach()}
        return Loss(self.lam * ratio - chosen, metrics | parts)
