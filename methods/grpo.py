"""GRPO: groups of sampled responses, each better or worse than its group.

Shao et al. 2024, arXiv 2402.03300; DAPO: Yu et al. 2025, 2503.14476; GSPO: Zheng et al. 2025, 2507.18071.

Each round takes its share of the prompts and samples a group of responses to each. A rule rewards them; an advantage
is (reward - mean) / std within the group. Then clipped steps, as PPO's without reward model and critic. `objective`:

- grpo: token ratios, clipped by 0.2 either way; the mean over a response's tokens, then over responses (Eq. 3), and
  0.04 times Schulman's third estimator of the divergence from the base (Eq. 4).
- dapo: clipped by 0.2 below and 0.28 above, the mean over all tokens of a group (Eq. 8), no divergence. A group whose
  rewards are all equal is left out; no other prompt takes its place. A right answer earns 1, a wrong one -1, and a
  response that comes near its limit loses up to 1 (Eq. 13).
- gspo: the ratio of a whole response per token (Eq. 7), clipped by 3e-4 below and 4e-4 above; no divergence.

`variant=as_shipped` is TRL 1.16's GRPOTrainer: 1e-4 is added to the standard deviation, the divergence (by default 0)
is multiplied by the ratio, dapo's mean is over the tokens of a whole step, no group is left out, and length costs
nothing.

What is rewarded, of the first question of an example, by the answer that the data have: the same option letter; the
same yes or no; the same words without marks and articles, where the source has short answers, the question asks for a
word or phrase, or the answer is short (`words`): 1, else 0. Of longer answers, captions: minus the share of the
objects mentioned that the data's own answer does not mention (`captions=chair`: CHAIR's rule with that answer as the
ground truth, so that what it leaves out counts as made up), or minus the number of errors that the writer finds
(`captions=judge`, the lens's question). An example with nothing of that is left out, and data without any are
refused. A row that was rewarded by CHAIR's rule was taught to the benchmark, and may have learnt to say less: read it
beside recall.

What has no reward leaves its group, and is never 0: a prompt too long for the model, a caption that mentions no
object, a reply of the writer that is none. Mean, std and loss are those of the others; fewer than two are no group. A
response that was cut off counts as it is, loses 1 (`overlong=punish`), or is left out of the loss alone
(`overlong=filter`, DAPO's other way).

Groups are of 8 as in TRL, not of 64 (GRPO) or 16 (DAPO). A round's prompts come in batches of the testbed's size, so
that later steps are off-policy and clipped, as DAPO's and GSPO's. Each round has a fresh optimiser at a constant
rate, without a warm-up, in which a round of one step would learn nothing.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from benchmarks._coco_objects import mentions
from benchmarks._listed_objects import accepted, found
from harness.contracts.method import Lesson, Loss, Method, Role, Round, Unit
from harness.contracts.records import Dropped, Example, Prompt, Record, Response, Rollout, Unscored
from harness.contracts.source import declared
from harness.contracts.wordings import SHORT_ANSWER, plain
from harness.judging.codebook import SHIPPED, Codebook, read_codebook
from harness.system import untrusted
from harness.system.errors import UsageError
from harness.training import lens, losses

if TYPE_CHECKING:
    from torch import Tensor

    from harness.models.logps import LogProbs

COCO = "coco"
LETTER = re.compile(r"\W*([A-Z])(?:[).:,]|\W*$)")
YES_NO = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)
KL = {"grpo": 0.04, "dapo": 0.0, "gspo": 0.0}
CLIP = {"grpo": (0.2, 0.2), "dapo": (0.2, 0.28), "gspo": (3e-4, 4e-4)}
CONSTANT = {"lr_scheduler_type": "constant_with_warmup", "warmup_ratio": 0.0}
Rule = Callable[[Response], "float | Unscored"]  # what a response earns


class Sample(NamedTuple):
    """A response of a group."""

    tokens: tuple[int, ...]
    reward: float
    advantage: float


@dataclass(frozen=True)
class Grpo(Method):
    """Clipped surrogate with advantages by group, on rewards that a rule can check."""

    label: ClassVar[str] = "GRPO"
    roles: ClassVar[tuple[Role, ...]] = (Role.POLICY, Role.REFERENCE)
    unit: ClassVar[Unit] = "record"
    training_only: ClassVar[tuple[str, ...]] = ("clip_below", "clip_above", "inner_epochs")

    objective: Literal["grpo", "dapo", "gspo"] = field(
        default="grpo", metadata={"help": "whose loss, clip and treatment of length", "source": "the three papers"}
    )
    variant: Literal["paper", "as_shipped"] = field(
        default="paper", metadata={"help": "as_shipped: as TRL 1.16 has it", "source": "papers; TRL"}
    )
    group: int = field(default=8, metadata={"help": "responses to a prompt", "source": "TRL; GRPO: 64, DAPO: 16"})
    steps: int = field(
        default=8, metadata={"help": "rollout rounds; each takes its share of the prompts", "source": "ours, as ppo"}
    )
    inner_epochs: int = field(default=1, metadata={"help": "passes over each round's rollouts", "source": "GRPO; TRL"})
    temperature: float = field(default=1.0, metadata={"help": "of the rollouts", "source": "TRL; DAPO"})
    response_length: int = field(default=1024, metadata={"help": "tokens of a rollout at most", "source": "GRPO"})
    kl_coef: float | None = field(
        default=None, metadata={"help": "weight of the divergence", "source": "GRPO: 0.04; DAPO, GSPO, TRL: 0"}
    )
    clip_below: float | None = field(
        default=None, metadata={"help": "how far a ratio may fall", "source": "TRL, DAPO: 0.2; GSPO: 3e-4"}
    )
    clip_above: float | None = field(
        default=None, metadata={"help": "how far a ratio may rise", "source": "TRL: 0.2; DAPO: 0.28; GSPO: 4e-4"}
    )
    overlong: Literal["keep", "punish", "filter"] | None = field(
        default=None,
        metadata={"help": "what becomes of responses that were cut off", "source": "DAPO: punish; GRPO, TRL: keep"},
    )
    overlong_share: float = field(
        default=0.2,
        metadata={"help": "last part of response_length in which length costs", "source": "DAPO: 4,096 of 20,480"},
    )
    captions: Literal["chair", "judge", "none"] = field(
        default="chair", metadata={"help": "what rewards an answer that no other rule can check", "source": "ours"}
    )
    objects: str = field(
        default=COCO,
        metadata={"help": "for captions=chair: COCO's, or a file (a line: name, other form, ...)", "source": "CHAIR"},
    )
    words: int = field(default=3, metadata={"help": "a short answer has so many at most", "source": "ours"})

    def __post_init__(self) -> None:
        """UsageError for what is no group; the writer is needed where it judges."""
        if self.group < 2:
            raise UsageError(f"grpo.group={self.group}: one response has none to be compared with; ask for 2 or more.")
        if min(self.steps, self.inner_epochs) < 1 or not 0 <= self.overlong_share <= 1 or self.temperature <= 0:
            raise UsageError("grpo: steps and inner_epochs are 1 or more, temperature > 0, overlong_share from 0 to 1.")
        object.__setattr__(self, "needs_writer", self.captions == "judge")  # of the object, not the class

    @property
    def title(self) -> str:
        """The objective's name."""
        return self.objective.upper()

    @property
    def rounds(self) -> int:
        """One per rollout round."""
        return self.steps

    @property
    def sources(self) -> tuple[Path, ...]:
        """The list of objects decides rewards."""
        return () if self.objects == COCO or self.captions != "chair" else (Path(self.objects),)

    @property
    def divergence(self) -> float:
        """The weight of the divergence from the base."""
        usual = KL[self.objective] if self.variant == "paper" else 0.0
        return usual if self.kl_coef is None else self.kl_coef

    @property
    def dapo(self) -> bool:
        """Whether it is DAPO as its paper has it."""
        return self.objective == "dapo" and self.variant == "paper"

    @property
    def clip(self) -> tuple[float, float]:
        """How far a ratio may fall and rise."""
        (below, above), own = CLIP[self.objective], (self.clip_below, self.clip_above)
        return below if own[0] is None else own[0], above if own[1] is None else own[1]

    @property
    def cut_off(self) -> str:
        """What becomes of responses that were cut off."""
        return self.overlong or ("punish" if self.dapo else "keep")

    def lesson(self, number: int) -> Lesson:
        """Clipped steps on this round's share; the policy goes on, and the divergence is from the base."""
        return Lesson(
            unit="token" if self.objective == "dapo" and not self.dapo else "record",
            continues=True,
            part=(number, self.steps),
            sampled=self.group,
            training={**CONSTANT, "num_train_epochs": self.inner_epochs},
        )

    def build(self, examples: Iterable[Example], round: Round) -> Iterator[Record | Dropped]:
        """A group per example whose answer can be checked, with advantages and the log-probs that the loss needs."""
        rules = self.rules(examples := list(examples), round)
        if examples and not rules:
            raise UsageError(self.nothing(examples))
        asked = [example for example in examples if example.id in rules]
        prompts = [Prompt(f"{e.id}#{round.number}.{n}", e.image, e.turns[0].question)
                   for e in asked for n in range(self.group)]  # fmt: skip
        said = iter(round.respond(prompts, temperature=self.temperature, max_new_tokens=self.response_length))
        made = {e.id: self.sampled(e.id, rules[e.id], [next(said) for _ in range(self.group)]) for e in asked}
        groups = {id: group for id, group in made.items() if not isinstance(group, Dropped)}
        rollouts = self.rollouts([e for e in asked if e.id in groups], groups, round)
        for example in examples:
            lost = made.get(example.id, Dropped(example.id, "no rule can check its answer"))
            yield lost if isinstance(lost, Dropped) else rollouts[example.id]

    def nothing(self, examples: Sequence[Example]) -> str:
        """What is wrong with data of which nothing can be rewarded, and the cure."""
        named, sources = ", nor names an object" * (self.captions == "chair"), sorted({e.source for e in examples})
        return (
            f"grpo can reward nothing in {len(examples):,} examples of {', '.join(sources)}: no first answer is an "
            f"option letter, yes or no, or at most {self.words} words long{named}. Take other data, or have captions "
            "rewarded (captions=judge: by the writer; captions=chair: by the list in objects)."
        )

    def rules(self, examples: Sequence[Example], round: Round) -> dict[str, Rule]:
        """Example id -> what rewards its responses, of the examples of which anything can."""
        objects = namer(self.objects) if self.captions == "chair" else None
        book = read_codebook(SHIPPED) if self.captions == "judge" else {}
        rules: dict[str, Rule] = {}
        for example in examples:
            if right := checked(example, self.words):
                rules[example.id] = partial(correct, right, -1.0 if self.dapo else 0.0)
            elif objects and (there := {*objects(example.turns[0].answer)}):
                rules[example.id] = partial(made_up, objects, there)
            elif self.captions == "judge":
                rules[example.id] = partial(errors, example, book, round)
        return rules

    def sampled(self, id: str, rule: Rule, responses: Sequence[Response]) -> list[Sample] | Dropped:
        """The responses of a group that the loss reads; Dropped where they cannot be compared."""
        import torch

        scored, reasons = list[tuple[Response, float]](), Counter[str]()
        for response in responses:
            earned = Unscored(id, response.unanswered) if response.unanswered else rule(response)
            if isinstance(earned, Unscored) or not response.ids:
                reasons[earned.reason if isinstance(earned, Unscored) else "no token was sampled"] += 1
            else:
                scored.append((response, earned))
        if len(scored) < 2:
            (reason, _), *_ = reasons.most_common(1)
            return Dropped(id, f"fewer than two responses have a reward: {reason}")
        if self.dapo and len({earned for _, earned in scored}) == 1:
            return Dropped(id, "all responses earn the same")
        rewards = torch.tensor([earned - self.charge(said) for said, earned in scored], dtype=torch.float64)
        advantages = losses.group_advantages(rewards, 1e-4 if self.variant == "as_shipped" else 0.0)
        rows = zip(scored, rewards.tolist(), advantages.tolist(), strict=True)
        whole = [Sample(response.ids, reward, advantage) for (response, _), reward, advantage in rows
                 if response.ended or self.cut_off != "filter"]  # fmt: skip
        return whole or Dropped(id, "every response was cut off")

    def charge(self, response: Response) -> float:
        """What length costs, from 0 to 1 (DAPO, Eq. 13)."""
        if self.cut_off != "punish":
            return 0.0
        last = self.overlong_share * self.response_length
        over = len(response.ids) - (self.response_length - last)
        return 1.0 if not response.ended else min(1.0, max(0.0, over / last)) if last else 0.0

    def rollouts(
        self, examples: Sequence[Example], groups: Mapping[str, Sequence[Sample]], round: Round
    ) -> dict[str, Rollout | Dropped]:
        """Each group as a record, with log-probs by the policy that sampled it and, for a divergence, by the base."""
        bare = []
        for example in examples:
            first, *more = (sample.tokens for sample in groups[example.id])
            bare.append(Rollout(example.id, example.image, example.turns[0].question, first, {}, more=tuple(more)))
        roles = {"old_policy": Role.POLICY} | ({"reference": Role.REFERENCE} if self.divergence else {})
        made: dict[str, Rollout | Dropped] = {}
        for record, *measured in zip(bare, *(round.measure(bare, role) for role in roles.values()), strict=True):
            known = {name: each for name, each in zip(roles, measured, strict=True) if not isinstance(each, Dropped)}
            for name, at in (("advantage", 2), ("score", 1)):
                known[name] = tuple(sample[at] for sample in groups[record.id] for _ in sample.tokens)
            lost = next((each for each in measured if isinstance(each, Dropped)), None)
            made[record.id] = lost or replace(record, columns=known)
        return made

    def loss(self, logps: "LogProbs") -> Loss:
        """Clipped surrogate plus the weighted divergence, with the metrics of TRL's GRPOTrainer."""
        given = logps.columns
        log_ratio = logps.policy - given["old_policy"]
        if self.objective == "gspo":
            log_ratio = logps.mean(log_ratio)[logps.branch]  # Eq. 7
        ratio, advantage = log_ratio.exp(), given["advantage"]
        below, above = self.clip
        values = losses.clipped_policy(ratio, advantage, below, above)
        held = ((ratio < 1 - below) & (advantage < 0)) | ((ratio > 1 + above) & (advantage > 0))
        lengths = logps.branch.bincount()[logps.branch]
        metrics = {"reward": given["score"], "clip_ratio/region_mean": held, "completions/mean_length": lengths}
        if "reference" in given:
            divergence = losses.kl_k3(logps.policy, given["reference"])
            divergence = divergence * ratio if self.variant == "as_shipped" else divergence
            values = values + self.divergence * divergence
            metrics["kl"] = divergence.detach()
        return Loss(self.mean(logps, values), {name: self.mean(logps, told.float()) for name, told in metrics.items()})

    def mean(self, logps: "LogProbs", values: "Tensor") -> "Tensor":
        """(N,) values of tokens as the loss has them: one per record, or as they are."""
        if self.objective != "dapo":
            return by_record(logps, logps.mean(values)) / logps.branch_tree.bincount()
        whole = by_record(logps, logps.sequence(values)) / by_record(logps, logps.branch.bincount())
        return whole if self.dapo else values


def by_record(logps: "LogProbs", values: "Tensor") -> "Tensor":
    """(branches,) values summed per record, (records,)."""
    return values.new_zeros(int(logps.branch_tree.max()) + 1).index_add(0, logps.branch_tree, values)


def checked(example: Example, words: int) -> Callable[[str], bool] | None:
    """What tells whether a response to the example's first question is right; None where no rule can."""
    question, answer = example.turns[0].question, example.turns[0].answer.strip()
    letter = re.fullmatch(r"\(?([A-Z])[).]?", answer)
    if letter and re.search(rf"^\W*{letter[1]}[).:]", question, re.MULTILINE):
        return partial(says, LETTER, letter[1])
    said = YES_NO.match(answer)
    if said and re.match(r"[,.;:!]|$", answer[said.end() :]):
        return partial(says, YES_NO, said[1])
    wanted = plain(answer)
    short = wanted and (
        len(wanted.split()) <= words or question.endswith(SHORT_ANSWER) or declared(example.source).short_answers
    )
    return (lambda response: plain(response) == wanted) if short else None


def correct(right: Callable[[str], bool], wrong: float, response: Response) -> float:
    """1 for a right answer, else `wrong`."""
    return 1.0 if right(response.text) else wrong


def says(form: re.Pattern[str], wanted: str, response: str) -> bool:
    """Whether a response begins with what is wanted, in this form."""
    said = form.match(response)
    return said is not None and said[1].lower() == wanted.lower()


def namer(objects: str) -> Callable[[str], Sequence[str]]:
    """What tells the objects that a text mentions, with repetition."""
    if objects == COCO:
        return lambda text: mentions(text, "noun").objects
    forms = accepted(untrusted.text(Path(objects)))
    if not forms:
        raise UsageError(f"grpo.objects: {objects} names no object; wanted: lines of a name and its other forms.")
    return lambda text: [name for name, *_ in found(text, forms)]


def made_up(objects: Callable[[str], Sequence[str]], there: set[str], response: Response) -> float | Unscored:
    """Minus CHAIRi of a caption."""
    named = objects(response.text)
    if not named:
        return Unscored(response.id, "it mentions no object")
    return -sum(name not in there for name in named) / len(named)


def errors(example: Example, book: Codebook, round: Round, response: Response) -> float | Unscored:
    """Minus the number of errors that the writer finds."""
    listed = lens.found_errors(replace(example, id=response.id), response.text.strip(), round.writer, book)
    return listed if isinstance(listed, Unscored) else -float(listed.total())
