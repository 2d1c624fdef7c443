"""IPO: the difference of log-ratios is to be 1 / (2 tau) and no more (Azar et al. 2023, arXiv 2310.12036).

Its loss is (h - 1 / (2 tau))^2 with h the chosen response's log-ratio to the reference less the rejected one's, Eq. 17:
a pair that is told apart is not pushed on without end as by DPO. Pairs are GT-DPO's (`rejected=data`: the data's).

The paper writes probabilities of whole responses, so that log-ratios are sums (`log_probs=sum`, the default); there is
no official code. TRL divides each by its number of tokens, by the authors' word to it that the paper's results are so
(`trainer/dpo_trainer.py`): `log_probs=mean`, as_shipped. tau is TRL's beta.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.contracts.method import Loss, Role
from harness.training import losses
from methods._pairs import Pairs

if TYPE_CHECKING:
    from harness.models.logps import LogProbs


@dataclass(frozen=True)
class Ipo(Pairs):
    """Squared distance of the log-ratios' difference to a target."""

    label: ClassVar[str] = "IPO"
    roles: ClassVar[tuple[Role, ...]] = (Role.POLICY, Role.REFERENCE)
    training_only: ClassVar[tuple[str, ...]] = ("tau", "log_probs")

    tau: float = field(default=0.1, metadata={"help": "strength of the regularisation", "source": "TRL's beta"})
    log_probs: Literal["sum", "mean"] = field(
        default="sum",
        metadata={"help": "log-ratios of whole responses, or per token; mean: as_shipped", "source": "Eq. 17; TRL"},
    )

    def loss(self, logps: "LogProbs") -> Loss:
        """Eq. 17; rewards are tau times the log-ratios, as TRL logs them."""
        chosen, rejected = losses.sides(logps.ratios(mean=self.log_probs == "mean"))
        metrics = losses.figures(self.tau * chosen, self.tau * rejected, logps)
        return Loss(losses.ipo(chosen, rejected, self.tau), metrics)
