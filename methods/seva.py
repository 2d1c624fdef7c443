"""SeVa: what the model says without noise preferred to what it says with it (Zhu et al. 2024, arXiv 2404.10501).

Sigmoid DPO on summed log-probs. Data: chosen is the greedy response to the clean image, rejected the greedy response to
the image after DDPM's forward process on the padded, normalised pixels (official `image_tools`: T = 1000, sigmoid
schedule). Both sides are learnt on the clean image; equal ones are dropped.

Other than in the official code, the reference is cached log-probs instead of a second model, noise is drawn per image
by the comparison's seed, and passes are the testbed's (two in those of LLaVA, because there the data are listed twice).
There the projector learns beside the adapters (of rank 1024 and without dropout, as in the testbeds); responses end at
512 tokens and lose their line breaks, records end at 2,048 tokens, OCR-VQA's questions (up to two per cover) lose their
request for a short answer, and the pairs of step 800 are cut to the number of those of step 500. Here none of this: all
rows get the same prompts, an example's first question, up to the testbed's `response_tokens`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from harness.contracts.method import Loss, Method, Role, Round, Unit
from harness.contracts.records import Dropped, Example, Pair, Prompt, Record
from harness.training import losses

if TYPE_CHECKING:
    from harness.models.logps import LogProbs


@dataclass(frozen=True)
class Seva(Method):
    """Self-generated pairs: clean against noised view; sigmoid DPO on summed log-probs."""

    label: ClassVar[str] = "SeVa"
    of_the_paper: ClassVar[bool] = True
    roles: ClassVar[tuple[Role, ...]] = (Role.POLICY, Role.REFERENCE)
    unit: ClassVar[Unit] = "record"
    training_only: ClassVar[tuple[str, ...]] = ("beta",)

    beta: float = field(default=0.1, metadata={"help": "strength of the implicit KL", "source": "official script"})
    noise_step: int = field(
        default=500,
        metadata={"help": "diffusion step of the noised view, below 1000", "source": "official data: 500 and 800"},
    )

    def build(self, examples: Iterable[Example], round: Round) -> Iterator[Record | Dropped]:
        """One pair per example with an image whose two responses differ."""
        examples = list(examples)
        seen = [e for e in examples if e.image]
        prompts = [Prompt(e.id, e.image, e.turns[0].question) for e in seen]
        clean = dict(zip([e.id for e in seen], round.respond(prompts), strict=True))
        noised = dict(zip([e.id for e in seen], round.respond(prompts, noise_step=self.noise_step), strict=True))
        for example in examples:
            if not example.image:
                yield Dropped(example.id, "no image to add noise to")
                continue
            chosen, rejected = clean[example.id].text.strip(), noised[example.id].text.strip()
            if chosen == rejected:
                yield Dropped(example.id, "the same response with and without noise")
            elif not chosen or not rejected:
                yield Dropped(example.id, "own response is empty")
            else:
                yield Pair(example.id, example.image, example.turns[0].question, chosen, rejected)

    def loss(self, logps: "LogProbs") -> Loss:
        """Eq. 6 of the nSFT paper on sums of response log-probs."""
        return losses.paired(logps, self.beta)
