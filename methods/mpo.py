"""MPO: preference, quality and likelihood of a response in one loss (Wang et al. 2024, arXiv 2411.10442; InternVL).

Its loss is 0.8 DPO + 0.2 BCO + 1.0 NLL. DPO is the sigmoid loss on summed log-probs; BCO tells good from bad by itself:
-log sigma(r_w - delta) - log sigma(delta - r_l) of rewards r = beta times the log-ratio to the reference; NLL is the
chosen response's mean negative log-prob. Weights are the official script's (`--sigmoid_loss_weight 0.8
--bco_pair_loss_weight 0.2 --rpo_alpha 1`). Pairs are GT-DPO's (`rejected=data`: those of the data), where the paper has
pairs of reasoning whose answers were checked.

delta is the moving average of the rewards of the steps before (`shift=moving`), as the paper has it; the official code
(TRL 0.10's `bco_pair`) has that of the micro-batch under way in it as well. TRL of today has none: `shift=none`,
as_shipped there. Both take the NLL over all tokens of a micro-batch; here each pair has its own mean, as in the paper.
InternVL learns with all weights, its tower too, at 5e-6 and later 2e-7 in batches of 256.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.contracts.method import Loss, Role
from harness.training import losses
from methods._pairs import Pairs

if TYPE_CHECKING:
    from harness.models.logps import LogProbs


@dataclass(frozen=True)
class Mpo(Pairs):
    """Sigmoid DPO, BCO and SFT on the chosen response, weighted."""

    label: ClassVar[str] = "MPO"
    roles: ClassVar[tuple[Role, ...]] = (Role.POLICY, Role.REFERENCE)
    training_only: ClassVar[tuple[str, ...]] = (
        "beta", "preference_weight", "quality_weight", "generation_weight", "shift",
    )  # fmt: skip

    beta: float = field(default=0.1, metadata={"help": "strength of the implicit KL", "source": "TRL's default, kept"})
    preference_weight: float = field(default=0.8, metadata={"help": "of DPO", "source": "official script"})
    quality_weight: float = field(default=0.2, metadata={"help": "of BCO", "source": "official script"})
    generation_weight: float = field(default=1.0, metadata={"help": "of the NLL", "source": "official script"})
    shift: Literal["moving", "none"] = field(
        default="moving",
        metadata={"help": "BCO's delta; none: as_shipped in TRL 1.16", "source": "paper; TRL"},
    )

    def loss(self, logps: "LogProbs") -> Loss:
        """The weighted sum; TRL's metric names."""
        preference = losses.paired(logps, self.beta)
        chosen, rejected = losses.sides(self.beta * logps.ratios())
        before = [logps.past.get(f"rewards/{side}", 0.0) for side in ("chosen", "rejected")]
        delta = sum(before) / 2 if self.shift == "moving" else 0.0
        quality = losses.bco(chosen, rejected, delta)
        nll = -losses.sides(logps.mean(logps.policy))[0]
        values = (
            self.preference_weight * preference.values + self.quality_weight * quality + self.generation_weight * nll
        )
        parts = {"loss/preference": preference.values, "loss/quality": quality, "loss/generation": nll}
        return Loss(values, preference.metrics | {name: part.detach() for name, part in parts.items()})
