"""What an alignment method is: resident roles, rounds, the records `build` yields, the `loss` over log-probs.

Nothing else differs between the rows of a comparison: loop, collator, sampler and scorer are one code path.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from harness.judge import Writer
from harness.types import Dropped, Example, Prompt, Record, Response

if TYPE_CHECKING:
    from torch import Tensor

    from harness.logps import LogProbs


class Role(StrEnum):
    """A model a method needs. How a role is realised (adapter off, cached log-probs) is a runtime choice."""

    POLICY = "policy"
    REFERENCE = "reference"


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

    def respond(self, prompts: Sequence[Prompt], temperature: float = 0.0) -> list[Response]:
        """The current policy's own responses, greedy at temperature 0; computed once per comparison."""
        ...


@dataclass(frozen=True)
class Loss:
    """What a method makes of a batch. `values`: one per unit (`Method.unit`), float32, graph attached.

    The engine sums them and divides by the units of the whole optimiser step, so that a loss does not depend on
    how the step was cut into micro-batches. `metrics` are detached per-unit values under TRL's names.
    """

    values: "Tensor"
    metrics: "dict[str, Tensor]"


@dataclass(frozen=True)
class Method:
    """One alignment method. A file in methods/ defines one subclass; its dataclass fields are its options."""

    label: ClassVar[str]
    roles: ClassVar[tuple[Role, ...]] = (Role.POLICY,)
    unit: ClassVar[Literal["token", "record"]] = "token"
    needs_writer: ClassVar[bool] = False

    @property
    def rounds(self) -> int:
        """How often build and train alternate."""
        return 1

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


@dataclass(frozen=True)
class Baseline(Method):
    """The untouched policy: a method of zero rounds."""

    label: ClassVar[str] = "baseline"

    @property
    def rounds(self) -> int:
        """None: nothing is built, nothing is trained."""
        return 0
