"""PPO with a reward model, as LLaVA-RLHF does it (Sun et al. 2023, arXiv 2309.14525).

Round 1 trains the reward model: an adapter with a scalar head on the same backbone, by Bradley-Terry on pairs from the
same split: two own sampled responses, of which an annotator who knows the ground truth prefers one. LLaVA-RLHF has
people for that; here it is the writer, asked as SIMA asks its critic, or the ground truth itself. Every later round
samples responses to its share of the prompts, shapes rewards (score at the end, minus kl_coef times the log-ratio to
the reference per token), estimates advantages and takes clipped steps on policy and critic. Policy, reference, reward
model and critic are adapters of one backbone; the critic starts as the reward model with a head of zeros.

The reward model reads what is true of the image beside question and response (`facts`, the factual augmentation): the
ground truth, as there image captions.

`variant=as_shipped` has the official code's quirks: log-ratios clamped at 0 per token, shaped rewards times ten, means
and whitening over all positions up to `response_length`, whether a response reaches there or not, and the script's stop
and length terms. Other than there, each round starts with a fresh optimiser, padding has no value estimates, and the
reward model's centering is per pair (there the mean of a micro-batch, so that a result depends on how the work is laid
on the machine). Left out: the judge-style suffix of the reward model's prompt, whose wording is the critic's here, and
the SFT round that LLaVA-RLHF gives its policy first, because every row starts from the same base.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.contracts.judge import Ask
from harness.contracts.method import Lesson, Loss, Method, Role, Round, Unit
from harness.contracts.records import (
    Conversation,
    Dropped,
    Example,
    Pair,
    Prompt,
    Record,
    Response,
    Rollout,
    Turn,
    Unscored,
)
from harness.judging import preference
from harness.training import losses

if TYPE_CHECKING:
    from torch import Tensor

    from harness.models.logps import LogProbs


@dataclass(frozen=True)
class Ppo(Method):
    """Clipped surrogate and value loss on fresh rollouts, with a reward model from the same split."""

    label: ClassVar[str] = "PPO"
    of_the_paper: ClassVar[bool] = True
    roles: ClassVar[tuple[Role, ...]] = (Role.POLICY, Role.REFERENCE, Role.REWARD, Role.CRITIC)
    needs_writer: ClassVar[bool] = True
    training_only: ClassVar[tuple[str, ...]] = (
        "cliprange", "cliprange_value", "vf_coef", "centering", "inner_epochs", "reward_learning_rate", "reward_epochs",
    )  # fmt: skip

    steps: int = field(
        default=8,
        metadata={"help": "rollout rounds; each takes its share of the prompts", "source": "ours (script: 562)"},
    )
    inner_epochs: int = field(default=2, metadata={"help": "passes over each round's rollouts", "source": "script"})
    kl_coef: float = field(
        default=0.1, metadata={"help": "weight of the log-ratio to the reference", "source": "script"}
    )
    gamma: float = field(default=1.0, metadata={"help": "discount", "source": "script"})
    lam: float = field(default=1.0, metadata={"help": "lambda of the advantage estimate", "source": "script"})
    cliprange: float = field(default=0.2, metadata={"help": "clip of the ratio", "source": "script"})
    cliprange_value: float = field(default=0.2, metadata={"help": "clip of the value's change", "source": "script"})
    vf_coef: float = field(default=0.1, metadata={"help": "weight of the value loss", "source": "script"})
    temperature: float = field(default=1.0, metadata={"help": "of the rollouts", "source": "script"})
    stop_penalty: float | None = field(
        default=None,
        metadata={"help": "added where a response did not end", "source": "0; script: -8 (as_shipped)"},
    )
    length_bonus: float | None = field(
        default=None,
        metadata={"help": "times length / response_length, added", "source": "0; script: -10 (as_shipped)"},
    )
    response_length: int = field(default=896, metadata={"help": "positions of a rollout at most", "source": "script"})
    preferences: Literal["writer", "ground_truth", "both"] = field(
        default="writer",
        metadata={
            "help": "pairs for the reward model: own responses ranked by the writer, or below the ground truth",
            "source": "after the paper's human preferences; ours",
        },
    )
    facts: Literal["ground_truth", "none"] = field(
        default="ground_truth",
        metadata={
            "help": "what the reward model reads of the image's truth (factual augmentation)",
            "source": "paper, there captions",
        },
    )
    critic: Literal["separate", "shared_trunk"] = field(
        default="separate",
        metadata={"help": "an adapter of its own, or a head on the policy", "source": "script; ours"},
    )
    variant: Literal["masked", "as_shipped"] = field(
        default="masked", metadata={"help": "as_shipped: the official quirks", "source": "paper; official code"}
    )
    reward_learning_rate: float = field(default=2e-5, metadata={"help": "of the reward model", "source": "script"})
    reward_epochs: int = field(default=1, metadata={"help": "of the reward model", "source": "script"})
    centering: float = field(default=1e-3, metadata={"help": "keeps rewards around 0", "source": "script"})

    @property
    def rounds(self) -> int:
        """The reward model's, then one per rollout round."""
        return 1 + self.steps

    def lesson(self, number: int) -> Lesson:
        """First the reward model from pairs, then policy and critic from rollouts."""
        if number == 0:
            arguments = {"learning_rate": self.reward_learning_rate, "num_train_epochs": self.reward_epochs}
            return Lesson(
                (Role.REWARD,), ("reward",), unit="record", continues=True, training=arguments, asks_last=True
            )
        unit: Unit = "token" if self.variant == "masked" else "record"
        return Lesson(
            (Role.POLICY, Role.CRITIC),
            ("policy", "value"),
            unit=unit,
            continues=True,
            sampled=1,
            shared_trunk=self.critic == "shared_trunk",
            part=(number - 1, self.steps),
            training={"num_train_epochs": self.inner_epochs, "lr_scheduler_type": "constant_with_warmup"},
        )

    def build(self, examples: Iterable[Example], round: Round) -> Iterator[Record | Dropped]:
        """Pairs for the reward model; later rollouts with what their losses need. Each round samples afresh."""
        examples = list(examples)
        takes = ("#1", "#2") if round.number == 0 else (f"#{round.number}",)
        asked = [[Prompt(f"{e.id}{take}", e.image, e.turns[0].question) for take in takes] for e in examples]
        prompts, most = [prompt for each in asked for prompt in each], self.response_length
        said = iter(round.respond(prompts, temperature=self.temperature, max_new_tokens=most))
        own = [[next(said) for _ in each] for each in asked]
        yield from self.pairs(examples, own, round) if round.number == 0 else self.rollouts(examples, own, round)

    def pairs(
        self, examples: Sequence[Example], own: Sequence[Sequence[Response]], round: Round
    ) -> Iterator[Record | Dropped]:
        """One pair per example whose two responses differ and have a verdict."""
        for number, (example, responses) in enumerate(zip(examples, own, strict=True)):
            turn, (one, other) = example.turns[0], [response.text.strip() for response in responses]
            truth = self.preferences == "ground_truth" or (self.preferences == "both" and number % 2)
            if truth:
                one, better = turn.answer.strip(), 1
            if not one or not other or one == other:
                yield Dropped(example.id, "a response is empty, or both sides are the same")
                continue
            if not truth:
                reply = self.preferred(example, one, other, round)
                if isinstance(reply, Dropped):
                    yield reply
                    continue
                better = reply
            chosen, rejected = (one, other) if better == 1 else (other, one)
            yield Pair(example.id, example.image, self.told(example), chosen, rejected)

    def told(self, example: Example) -> str:
        """What the reward model reads before a response: the question, and with `facts` the ground truth."""
        turn = example.turns[0]
        known = f"{preference.REFERENCE} {turn.answer.strip()}"
        return turn.question + known if self.facts == "ground_truth" else turn.question

    def preferred(self, example: Example, one: str, other: str, round: Round) -> int | Dropped:
        """Which of two responses the writer prefers, 1 or 2."""
        turn = example.turns[0]
        facts = {"question": turn.question, "ground_truth": turn.answer, "first": one, "second": other}
        prompt = preference.prompt(turn.question, turn.answer, one, other)
        reply = round.writer.reply(Ask(example.id, "preference", example.image, prompt, facts))
        if isinstance(reply, Unscored):
            return Dropped(example.id, f"writer: {reply.reason}")
        return preference.verdict(reply) or Dropped(example.id, "the writer names neither response as better")

    def rollouts(
        self, examples: Sequence[Example], own: Sequence[Sequence[Response]], round: Round
    ) -> Iterator[Record | Dropped]:
        """Sampled tokens with old log-probs, old values, advantages (whitened over the round) and returns."""
        import torch

        told = [(e, r) for e, (r,) in zip(examples, own, strict=True) if r.text.strip()]
        reasons = {e.id: "own response is empty" for e in examples}
        plain = [Rollout(e.id, e.image, e.turns[0].question, r.ids, {}) for e, r in told]
        judged = [Conversation(e.id, e.image, ((Turn(self.told(e), r.text.strip()),),)) for e, r in told]
        policies = round.measure(plain, Role.POLICY)  # by the model that has responded, before the others' base comes
        scores, others = round.measure(judged, Role.REWARD), (Role.REFERENCE, Role.CRITIC)
        rows, shaped, estimated = [], [], []
        for record, (_, response), *measured in zip(
            plain, told, scores, policies, *(round.measure(plain, role) for role in others), strict=True
        ):
            if lost := next((each for each in measured if isinstance(each, Dropped)), None):
                reasons[record.id] = lost.reason
                continue
            (score,), policy, reference, values = (torch.tensor(each) for each in measured)
            shaped.append(self.rewards(policy, reference, float(score), response))
            estimated.append(losses.advantages(shaped[-1], values, self.gamma, self.lam))
            rows.append((record, policy, values, reference, float(score)))
        whitened = self.whiten([advantage for advantage, _ in estimated], shaped) if rows else []
        made = {}
        for (record, policy, values, reference, score), advantage, (_, returns) in zip(
            rows, whitened, estimated, strict=True
        ):
            columns = {"old_policy": policy, "old_value": values, "advantage": advantage, "return": returns}
            columns["reference"] = reference
            figures = {name: tuple(column.tolist()) for name, column in columns.items()}
            figures["score"] = (score,) * len(record.tokens)
            made[record.id] = Rollout(record.id, record.image, record.question, record.tokens, figures)
        for example in examples:
            yield made.get(example.id) or Dropped(example.id, reasons[example.id])

    def rewards(self, policy: "Tensor", reference: "Tensor", score: float, response: Response) -> "Tensor":
        """(tokens,) shaped rewards of one response: the log-ratio at each token, everything else at the last."""
        ratio = losses.kl_k1(policy, reference)
        shaped = -self.kl_coef * (ratio.clamp(min=0) if self.variant == "as_shipped" else ratio)
        shipped = self.variant == "as_shipped"
        stop = self.stop_penalty if self.stop_penalty is not None else -8.0 * shipped
        length = self.length_bonus if self.length_bonus is not None else -10.0 * shipped
        end = score + length * len(policy) / self.response_length
        shaped[-1] += end if response.ended else end + stop
        return 10 * shaped if shipped else shaped

    def whiten(self, advantages: "Sequence[Tensor]", shaped: "Sequence[Tensor]") -> "list[Tensor]":
        """Advantages whitened over all tokens of the round; as shipped over padding too, which has the end's reward."""
        import torch

        rows = list(advantages)
        if self.variant == "as_shipped":
            rows += [reward[-1].expand(max(0, self.response_length - len(reward))) for reward in shaped]
        whole = losses.whiten(torch.cat(rows))
        return list(torch.split(whole, [len(row) for row in rows]))[: len(advantages)]

    def loss(self, logps: "LogProbs") -> Loss:
        """Bradley-Terry for the reward model; else clipped surrogate plus weighted clipped value loss."""
        given = logps.columns
        if "reward" in given:
            chosen, rejected = given["reward"].view(-1, 2).unbind(1)
            metrics = {
                "rewards/chosen": chosen.detach(),
                "rewards/rejected": rejected.detach(),
                "rewards/margins": (chosen - rejected).detach(),
                "rewards/accuracies": (chosen > rejected).float(),
            }
            return Loss(losses.bradley_terry(chosen, rejected, self.centering), metrics)
        ratio = (logps.policy - given["old_policy"]).exp()
        surrogate = losses.clipped_policy(ratio, given["advantage"], self.cliprange)
        value = losses.clipped_value(given["value"], given["old_value"], given["return"], self.cliprange_value)
        metrics = {
            "loss/policy": surrogate.detach(),
            "loss/value": value.detach(),
            "objective/kl": losses.kl_k1(logps.policy, given["reference"]).detach(),
            "objective/scores": given["score"],
            "policy/approxkl": losses.kl_k3(logps.policy, given["old_policy"]).detach(),
            "policy/clipfrac": ((ratio - 1).abs() > self.cliprange).float(),
        }
        values = surrogate + self.vf_coef * value
        if self.variant == "masked":
            return Loss(values, metrics)
        shares = {name: logps.sequence(one) / self.response_length for name, one in metrics.items()}
        return Loss(logps.sequence(values) / self.response_length, shares)
