"""KTO: each response by itself better or worse than the drift from the reference (Ethayarajh et al. 2024, 2402.01306).

With r the log-ratio of a response to the reference, a desirable one has the loss lambda_D (1 - sigma(beta (r - z0))),
an undesirable one lambda_U (1 - sigma(beta (z0 - r))): responses need no partner. The point that they are held to is
z0 = max(0, mean r of responses to other prompts), an estimate of the divergence from the reference without a gradient.

Desirable and undesirable are the two sides of GT-DPO's pairs (`rejected=data`: of the data's), taken apart as the paper
does with DPO's data, so that rows differ in the loss alone; a record has both and their mean. z0 is the mean over the
whole optimiser step, from a forward pass of its own; official code and TRL take a micro-batch's, which depends on how
the work is cut. A prompt's other responses are those of the pair before it in the split, for the whole training, so
that their reference log-probs are cached; in the official code and TRL they are a neighbour's in the same batch.

The paper's weights of 1 are for as many desirable as undesirable responses, as here.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from harness.contracts.method import Lesson, Loss, Role, Round
from harness.contracts.records import Beside, Dropped, Example, Pair, Record
from harness.training import losses
from methods._pairs import Pairs

if TYPE_CHECKING:
    from torch import Tensor

    from harness.models.logps import LogProbs


@dataclass(frozen=True)
class Kto(Pairs):
    """Two responses of a record, each against the mean divergence of the step."""

    label: ClassVar[str] = "KTO"
    roles: ClassVar[tuple[Role, ...]] = (Role.POLICY, Role.REFERENCE)
    training_only: ClassVar[tuple[str, ...]] = ("beta", "desirable_weight", "undesirable_weight")

    beta: float = field(default=0.1, metadata={"help": "how soon a gain saturates", "source": "official code; TRL"})
    desirable_weight: float = field(default=1.0, metadata={"help": "lambda_D", "source": "official code; TRL"})
    undesirable_weight: float = field(default=1.0, metadata={"help": "lambda_U", "source": "official code; TRL"})

    def lesson(self, number: int) -> Lesson:
        """Chosen and rejected response, and two that answer another prompt."""
        return Lesson(reference=True, unit="record", anchored=True, answers=(4,))

    def build(self, examples: Iterable[Example], round: Round) -> Iterator[Record | Dropped]:
        """The pairs, each with both responses of the one before it; of the first the last."""
        made = list(self.pairs(list(examples), round))
        pairs = [one for one in made if isinstance(one, Pair)]
        others = dict(zip((pair.id for pair in pairs), pairs[-1:] + pairs[:-1], strict=True))
        for one in made:
            if isinstance(one, Dropped):
                yield one
            elif len(pairs) == 1:
                yield Dropped(one.id, "no other prompt's responses to estimate the divergence with")
            else:
                other = others[one.id]
                yield replace(one, beside=(Beside(other.chosen), Beside(other.rejected)))

    def anchor(self, logps: "LogProbs") -> "Tensor":
        """(pairs,) mean log-ratio of the responses to another prompt."""
        return logps.ratios().detach().view(-1, 4)[:, 2:].mean(1)

    def loss(self, logps: "LogProbs") -> Loss:
        """The mean of the two sides' losses; TRL's metric names."""
        divergence = max(0.0, logps.anchor)
        chosen, rejected, *_ = logps.ratios().view(-1, 4).unbind(1)
        desirable, undesirable = losses.kto(chosen, rejected, divergence, self.beta)
        values = (self.desirable_weight * desirable + self.undesirable_weight * undesirable) / 2
        metrics = losses.figures(self.beta * chosen, self.beta * rejected, logps)
        return Loss(values, metrics | {"kl": values.new_full(values.shape, divergence)})
