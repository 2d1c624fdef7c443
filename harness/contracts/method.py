"""What an alignment method is: resident roles, rounds, the records `build` yields, the `loss` over log-probs.

Nothing else differs between the rows of a comparison: loop, collator, sampler and scorer are one code path.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from harness.contracts.judge import Writer
from harness.contracts.records import Dropped, Example, Image, Prompt, Record, Response
from harness.system.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from harness.models.logps import LogProbs


class Role(StrEnum):
    """A model a method needs. How a role is realised (adapter off, cached log-probs) is a runtime choice."""

    POLICY = "policy"
    REFERENCE = "reference"
    REWARD = "reward"
    CRITIC = "critic"


Unit = Literal["token", "record"]


@dataclass(frozen=True)
class Lesson:
    """What one round trains and what its loss reads.

    columns: figures of the policy's forward pass, as `harness.models.logps.Policy.measure` names them, and "value"
    (the critic's, (N,); with `shared_trunk` a head on the policy) or "reward" (the reward model's, (branches,)).
    reference: whether the loss reads the same figures of the reference, as `LogProbs.reference` and as columns
    "reference/<name>". unit: what the loss has one value per. continues: trained roles go on as they are, adapters as
    adapters, and the reference stays the base; otherwise a round starts from the last round's policy, which is its
    reference. part: this round's share of the examples, every part[1]-th from part[0] on. training: fields of
    `harness.contracts.settings.Training` that the method sets for this round. anchored: whether the loss compares
    every record with one figure of the whole step (`Method.anchor`), which takes a forward pass of its own. answers:
    how many a pair of this round has, under its own picture and under each further one (`Pair.beside`). sampled: how
    many responses a rollout of this round has at most; 0 where it learns from other records. asks_last: this round's
    `build` asks the writer, and by then has asked the model for all that it wants (`Round.respond`), so that it needs
    no GPU while the writer is waited for.
    """

    trains: tuple[Role, ...] = (Role.POLICY,)
    columns: tuple[str, ...] = ("policy",)
    reference: bool = False
    unit: Unit = "token"
    continues: bool = False
    shared_trunk: bool = False
    part: tuple[int, int] = (0, 1)
    training: Mapping[str, Any] = field(default_factory=dict)
    anchored: bool = False
    answers: tuple[int, ...] = (2,)
    sampled: int = 0
    asks_last: bool = False


class Round(Protocol):
    """What a method is handed to build one round's records."""

    @property
    def number(self) -> int:
        """0 for the first."""
        ...

    @property
    def seed(self) -> int:
        """The comparison's seed."""
        ...

    @property
    def writer(self) -> Writer:
        """Who constructs text; only for a method that declares `needs_writer`."""
        ...

    def respond(
        self,
        prompts: Sequence[Prompt],
        temperature: float = 0.0,
        top_p: float = 1.0,
        noise_step: int = 0,
        max_new_tokens: int | None = None,
    ) -> list[Response]:
        """The current policy's own responses, greedy at temperature 0; computed once per comparison.

        With `noise_step`, each image is seen after so many steps of diffusion (`harness.models.noise.diffuse`).
        `max_new_tokens` may ask for fewer than the testbed's `response_tokens`, never for more.
        """
        ...

    def candidates(
        self, prompts: Sequence[Prompt], count: int, penalty: float, stop: str, max_new_tokens: int
    ) -> list[list[Response]]:
        """`count` diverse continuations of each prompt, up to and with `stop`, with log-probs; the first is greedy."""
        ...

    def similarity(self, pairs: Sequence[tuple[Image, str]]) -> list[float]:
        """Cosine of image and text under the testbed's CLIP, in [-1, 1]; for a method that declares `needs_clip`."""
        ...

    def measure(self, records: Sequence[Record], role: Role) -> list[tuple[float, ...] | Dropped]:
        """A role's figures for each record: log-probs (policy, reference) or values (critic) of the supervised tokens,
        one score per branch of the reward model; Dropped for a record that the role cannot read."""
        ...


def realised(lesson: Lesson, wanted: str, adapters: bool) -> str:
    """How the reference of a lesson is had: "" (not at all), "cached" log-probs, "adapter_off", or a second "copy".

    `wanted` is `Runtime.reference`. A divergence needs the reference's whole distribution, so a cache does not do.
    Raises UsageError for adapters that are not there.
    """
    diverges = any(column.startswith("kl_") for column in lesson.columns)
    if not lesson.reference and not diverges:
        return ""
    if wanted == "adapter_off" and not adapters:
        raise UsageError("reference=adapter_off needs adapters (training.lora); use reference=cached.")
    if wanted == "cached" and diverges:
        return "adapter_off" if adapters else "copy"
    return wanted


@dataclass(frozen=True)
class Loss:
    """What a method makes of a batch. `values`: one per unit (`Lesson.unit`), float32, graph attached.

    The engine sums them and divides by the units of the whole optimiser step, so that a loss does not depend on
    how the step was cut into micro-batches. `metrics` are detached per-unit values under TRL's names.
    """

    values: "Tensor"
    metrics: "dict[str, Tensor]"


@dataclass(frozen=True)
class Method:
    """One alignment method. A file in methods/ defines one subclass; its dataclass fields are its options."""

    label: ClassVar[str]
    of_the_paper: ClassVar[bool] = False
    """Whether it is one of the nSFT paper's seven; `harness methods` marks them."""
    roles: ClassVar[tuple[Role, ...]] = (Role.POLICY,)
    unit: ClassVar[Unit] = "token"
    needs_writer: ClassVar[bool] = False
    needs_clip: ClassVar[bool] = False
    joins: ClassVar[bool] = False
    """Whether other data can be learnt together with its records (`training.joint`): its loss is token cross-entropy,
    that of any conversation."""
    training_only: ClassVar[tuple[str, ...]] = ()
    """Options that `build` does not read, only the loss or a lesson's training: another value trains anew on the same
    records. While records are built they have their defaults, so that no record can depend on them.
    """

    @property
    def title(self) -> str:
        """The row's name in tables: the label, unless options make another method of it."""
        return self.label

    @property
    def preferences(self) -> str:
        """What becomes of answers that the data say are the worse ones (`Example.rejected`)."""
        return "not read: this method has no use for them"

    @property
    def rounds(self) -> int:
        """How often build and train alternate."""
        return 1

    def lesson(self, number: int) -> Lesson:
        """What round `number` (0 for the first) trains and reads."""
        return Lesson(reference=Role.REFERENCE in self.roles, unit=self.unit)

    @property
    def sources(self) -> tuple[Path, ...]:
        """Data files `build` reads beside the examples; their content is part of the method's identity."""
        return ()

    def build(self, examples: Iterable[Example], round: Round) -> Iterator[Record | Dropped]:
        """One record per example, in order, or `Dropped` with the reason."""
        raise NotImplementedError

    def loss(self, logps: "LogProbs") -> Loss:
        """The loss of one micro-batch from per-token log-probs; never sees logits."""
        raise NotImplementedError

    def anchor(self, logps: "LogProbs") -> "Tensor":
        """One figure per unit, without a gradient, of an anchored lesson; `loss` finds their mean over the step."""
        raise NotImplementedError


@dataclass(frozen=True)
class Baseline(Method):
    """The untouched policy: a method of zero rounds."""

    label: ClassVar[str] = "baseline"

    @property
    def rounds(self) -> int:
        """None: nothing is built, nothing is trained."""
        return 0
