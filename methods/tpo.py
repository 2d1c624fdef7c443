"""TPO: DPO whose tokens weigh by how much the picture speaks for them (Gu et al. 2024, arXiv 2412.14487).

With z a token's logit less its logit under a noised picture, the log-prob of each token of the chosen answer is
shifted by log c with c = sigma(z) + 1/2, of the rejected answer with c = 3/2 - sigma(z); the loss is DPO's sigmoid on
their sums, of policy and reference alike, each with its own z. The gradient flows through z too. So it is in the
official trainer (`trl/trainer/tpo_trainer.py`), whose other variants are commented out. Pairs are GT-DPO's
(`rejected=data`: those of the data); without a picture there is none.

Noise is SeVa's diffusion on normalised pixels (`harness.models.noise`); it is the record's, drawn once by the
comparison's seed, so that reference logits are cached. Its step is ours. The official training: rate 5e-8, four passes,
batches of 16, RLHF-V's data.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from harness.contracts.method import Lesson, Loss, Role, Round
from harness.contracts.records import Beside, Dropped, Example, Record
from harness.training import losses
from methods._pairs import Pairs

if TYPE_CHECKING:
    from torch import Tensor

    from harness.models.logps import LogProbs


@dataclass(frozen=True)
class Tpo(Pairs):
    """Sigmoid DPO on log-probs that are shifted token by token."""

    label: ClassVar[str] = "TPO"
    roles: ClassVar[tuple[Role, ...]] = (Role.POLICY, Role.REFERENCE)
    training_only: ClassVar[tuple[str, ...]] = ("beta",)

    beta: float = field(default=0.1, metadata={"help": "strength of the implicit KL", "source": "official trainer"})
    noise_step: int = field(
        default=500, metadata={"help": "diffusion step of the noised picture, below 1000", "source": "ours; SeVa's"}
    )

    def lesson(self, number: int) -> Lesson:
        """Both answers, and both under the noised picture; log-probs and logits."""
        return Lesson(columns=("policy", "logit"), reference=True, unit="record", answers=(2, 2))

    def build(self, examples: Iterable[Example], round: Round) -> Iterator[Record | Dropped]:
        """The pairs, each with both answers under noise of its own."""
        for made in self.pairs(list(examples), round):
            if isinstance(made, Dropped):
                yield made
            elif made.image is None:
                yield Dropped(made.id, "no picture to add noise to")
            else:
                seed = random.Random(f"{round.seed}/tpo/{made.id}").getrandbits(31)
                noise = (self.noise_step, seed)
                yield replace(made, beside=tuple(Beside(said, noise=noise) for said in (made.chosen, made.rejected)))

    def shifted(self, logps: "LogProbs", policy: "Tensor", logit: "Tensor") -> "Tensor":
        """(2 * pairs,) sums of log-probs under the clean picture, each shifted by log c, from (N,) of all answers."""
        place, pair = logps.branch % 4, logps.branch // 4
        clean = place < 2
        shift = losses.visual_shift(logit[clean] - logit[~clean], place[clean] == 0)
        owner = 2 * pair[clean] + place[clean]
        return policy.new_zeros(len(logps.branch_tree) // 2).index_add(0, owner, policy[clean] + shift)

    def loss(self, logps: "LogProbs") -> Loss:
        """DPO on shifted log-probs; TRL's metric names."""
        given = logps.columns
        chosen, rejected = losses.sides(self.shifted(logps, logps.policy, given["logit"]))
        known = losses.sides(self.shifted(logps, given["reference/policy"], given["reference/logit"]))
        values, better, worse = losses.dpo(chosen, rejected, *known, self.beta)
        return Loss(values, losses.figures(better, worse, logps))
