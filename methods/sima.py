"""SIMA: two own responses ranked by the model itself (Wang et al. 2024, arXiv 2405.15973).

Sigmoid DPO on summed log-probs. Data: a greedy and a sampled response go back to the same model with the image, the
question, the ground truth and three visual metrics (`harness.judging.preference`); the better one is chosen.

The official loss (`tool/dpo_trainer.py`) is not DPO: its rejected term sums the log-probs of the strongest *competitor*
of each rejected token, which one step raises log p(rejected) instead of lowering it; that is
`rejected_term=competitor`. Whether the published checkpoints were trained so is not known. The official critic always
reads the sampled response first (`order=as_shipped`). Other than there, equal responses are dropped, the critic's words
are ours, its reply and the responses end at the testbed's `response_tokens` (there 4,096 and 1,024), no record is cut
to 2,048 tokens, and the reference is cached log-probs. Dropout of .05 in adapters is in the testbeds of LLaVA. The
projector stays as it is with adapters, as in effect there, where its learning rate never reaches the optimiser.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.contracts.method import Lesson, Loss, Method, Role, Round, Unit
from harness.contracts.records import Dropped, Example, Pair, Prompt, Record
from harness.judging import preference
from harness.training import losses

if TYPE_CHECKING:
    from harness.models.logps import LogProbs


@dataclass(frozen=True)
class Sima(Method):
    """chosen and rejected are the model's own, by its own verdict; sigmoid DPO on summed log-probs."""

    label: ClassVar[str] = "SIMA"
    of_the_paper: ClassVar[bool] = True
    roles: ClassVar[tuple[Role, ...]] = (Role.POLICY, Role.REFERENCE)
    unit: ClassVar[Unit] = "record"
    training_only: ClassVar[tuple[str, ...]] = ("beta", "rejected_term")

    beta: float = field(default=0.1, metadata={"help": "strength of the implicit KL", "source": "official trainer"})
    rejected_term: Literal["label", "competitor"] = field(
        default="label",
        metadata={"help": "label: DPO; competitor: as_shipped", "source": "paper; official `tool/dpo_trainer.py`"},
    )
    temperature: float = field(default=0.8, metadata={"help": "of the sampled response", "source": "official script"})
    top_p: float = field(default=0.9, metadata={"help": "of the sampled response", "source": "official script"})
    order: Literal["random", "swap", "as_shipped"] = field(
        default="random",
        metadata={
            "help": "who is read first: by seed; both orders, disagreements dropped; always the sampled one",
            "source": "ours; as_shipped: official script",
        },
    )

    def lesson(self, number: int) -> Lesson:
        """The competitor's log-prob is one more figure of the forward pass, of policy and reference alike."""
        more = ("competitor",) if self.rejected_term == "competitor" else ()
        return Lesson(columns=("policy", *more), reference=True, unit="record")

    def build(self, examples: Iterable[Example], round: Round) -> Iterator[Record | Dropped]:
        """One pair per example that the critic gives a clear verdict on."""
        examples = list(examples)
        prompts = [Prompt(e.id, e.image, e.turns[0].question) for e in examples]
        greedy = [response.text.strip() for response in round.respond(prompts)]
        sampled = [r.text.strip() for r in round.respond(prompts, temperature=self.temperature, top_p=self.top_p)]
        verdicts = self.verdicts(examples, greedy, sampled, round)
        for example, one, other in zip(examples, greedy, sampled, strict=True):
            better = verdicts.get(example.id)
            if not one or not other:
                yield Dropped(example.id, "own response is empty")
            elif one == other:
                yield Dropped(example.id, "greedy and sampled response are the same")
            elif better is None:
                yield Dropped(example.id, "critic: no verdict in double brackets")
            elif better == "":
                yield Dropped(example.id, "critic: the verdict changes with the order")
            else:
                chosen, rejected = (one, other) if better == "greedy" else (other, one)
                yield Pair(example.id, example.image, example.turns[0].question, chosen, rejected)

    def verdicts(
        self, examples: Sequence[Example], greedy: Sequence[str], sampled: Sequence[str], round: Round
    ) -> dict[str, str | None]:
        """Example id -> "greedy" or "sampled", "" where the orders disagree, None where the critic said neither."""
        asked: list[Prompt] = []
        for example, one, other in zip(examples, greedy, sampled, strict=True):
            if one and other and one != other:
                for first in self.first(f"{round.seed}/{example.id}"):
                    pair = (one, other) if first == "greedy" else (other, one)
                    text = preference.prompt(example.turns[0].question, example.turns[0].answer, *pair)
                    asked.append(Prompt(f"{example.id}/{first}", example.image, text))
        found: dict[str, list[str | None]] = {}
        for prompt, reply in zip(asked, round.respond(asked), strict=True):
            id, first = prompt.id.rsplit("/", 1)
            second = "sampled" if first == "greedy" else "greedy"
            found.setdefault(id, []).append({1: first, 2: second, None: None}[preference.verdict(reply.text)])
        return {id: None if None in said else said[0] if len({*said}) == 1 else "" for id, said in found.items()}

    def first(self, name: str) -> tuple[str, ...]:
        """Which response the critic reads first, once or in both orders."""
        if self.order == "as_shipped":
            return ("sampled",)
        if self.order == "swap":
            return ("greedy", "sampled")
        return (random.Random(name).choice(("greedy", "sampled")),)

    def loss(self, logps: "LogProbs") -> Loss:
        """Sigmoid DPO; with competitor, the rejected side is the sum of its tokens' strongest competitors."""
        return losses.paired(logps, self.beta, "competitor" if self.rejected_term == "competitor" else "policy")
