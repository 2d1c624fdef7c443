"""mDPO: DPO, the same answer under a part of the picture as worse, and an anchor (Wang et al. 2024, arXiv 2406.11839).

With r = beta times the log-ratio to the reference, its loss is the sum of -log sigma(r_w - r_l), DPO; -log sigma(r_w -
r_w|crop), the chosen answer to the picture above the same answer to a crop of it, so that the picture counts; and -log
sigma(r_w - delta), which keeps the chosen answer as likely as it was. Weights are 1, delta is 0, as in the official
trainer (`mdpo_trainer.py`, Bunny). Pairs are GT-DPO's (`rejected=data`: those of the data); without a picture there is
none.

The crop has 1 to 20 % of the picture's area, torchvision's `RandomResizedCrop(scale=(0.01, 0.2))`; its sides, as shares
of the picture's, are in a proportion of 3:4 to 4:3, which is the crop's own where the picture is square, as it always
is in the official code: of a wide picture it is wider. It is the record's, drawn once by the comparison's seed, so that
policy and reference see the same and reference log-probs are cached; the official code draws anew in every forward
pass, for policy and reference apart. There it is cut from what the processor made of the picture; here from the picture
itself, which the processor then sees, and no padding is in it. Families with places by size give a crop fewer places.
The official training: beta 0.1, rate 1e-5, three passes, batches of 32, LoRA of rank 64.
"""

import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from harness.contracts.method import Lesson, Loss, Role, Round
from harness.contracts.records import Beside, Box, Dropped, Example, Record
from harness.system.errors import UsageError
from harness.training import losses
from methods._pairs import Pairs

if TYPE_CHECKING:
    from harness.models.logps import LogProbs


@dataclass(frozen=True)
class Mdpo(Pairs):
    """DPO of answers, DPO of pictures, and an anchor at the chosen answer."""

    label: ClassVar[str] = "mDPO"
    roles: ClassVar[tuple[Role, ...]] = (Role.POLICY, Role.REFERENCE)
    training_only: ClassVar[tuple[str, ...]] = ("beta", "delta")

    beta: float = field(default=0.1, metadata={"help": "strength of the implicit KL", "source": "official config"})
    delta: float = field(
        default=0.0, metadata={"help": "where the chosen reward is anchored", "source": "official code"}
    )
    crop_least: float = field(default=0.01, metadata={"help": "share of the picture's area", "source": "official code"})
    crop_most: float = field(default=0.2, metadata={"help": "share of the picture's area", "source": "official code"})

    def __post_init__(self) -> None:
        """UsageError for a crop that no picture has."""
        if not 0 < self.crop_least <= self.crop_most <= 1:
            raise UsageError(
                f"mdpo crops {self.crop_least} to {self.crop_most} of a picture; "
                "wanted: 0 < crop_least <= crop_most <= 1."
            )

    def lesson(self, number: int) -> Lesson:
        """Chosen and rejected answer, and the chosen one under the crop."""
        return Lesson(reference=True, unit="record", answers=(2, 1))

    def build(self, examples: Iterable[Example], round: Round) -> Iterator[Record | Dropped]:
        """The pairs, each with its chosen answer under a crop."""
        for made in self.pairs(list(examples), round):
            if isinstance(made, Dropped):
                yield made
            elif made.image is None:
                yield Dropped(made.id, "no picture to crop")
            else:
                yield replace(made, beside=(Beside(made.chosen, self.crop(f"{round.seed}/mdpo/{made.id}")),))

    def crop(self, name: str) -> Box:
        """A part of any picture, the same for the same name; as `RandomResizedCrop` draws it."""
        rng = random.Random(name)
        area, ratio = rng.uniform(self.crop_least, self.crop_most), math.exp(rng.uniform(-1, 1) * math.log(4 / 3))
        width, height = (min(1.0, math.sqrt(side)) for side in (area * ratio, area / ratio))
        left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
        return left, top, left + width, top + height

    def loss(self, logps: "LogProbs") -> Loss:
        """The sum of three terms; TRL's metric names."""
        chosen, rejected, cropped = (self.beta * logps.ratios()).view(-1, 3).unbind(1)
        parts = losses.mdpo(chosen, rejected, cropped, self.delta)
        metrics = losses.figures(chosen, rejected, logps)
        metrics["rewards/cropped"] = cropped.detach()
        names = ("loss/answer", "loss/picture", "loss/anchor")
        told = {name: part.detach() for name, part in zip(names, parts, strict=True)}
        return Loss(sum(parts[1:], parts[0]), metrics | told)
