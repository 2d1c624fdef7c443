"""What makes a model respond. One file in `harness/backends/` per engine, or a file of one's own.

A comparison has one backend, the same for all its rows (`--set generation.backend=NAME` or `./mine.py`): backends may
differ in a token, so a backend's identity and code are in the key of everything that it generated. A response depends
on the prompt, the model and `Sampling`, and on nothing else that the caller can see: not on which other prompts were
asked beside it, nor in which order, beyond what the noise floor of a report says.

    class Mine(Backend):                             # harness/backends/mine.py, or ./mine.py
        def identity(self) -> dict[str, Any]:
            return {"engine": "mine", "version": mine.__version__}
        ...
    harness compare --methods nsft,dpo --set generation.backend=./mine.py
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pydantic import Field

from harness.contracts.records import Prompt, Response
from harness.contracts.settings import Dtype, Fixed
from harness.system.profile import Tick


class Adapted(NamedTuple):
    """A model that is not written as a whole: its base's folder, and the folders of adapters to be merged into it, each
    before the next (`harness.models.load.load`).
    """

    base: Path
    adapters: tuple[Path, ...]

    def __str__(self) -> str:
        return f"{self.base} with the adapters of {', '.join(map(str, self.adapters))}"


Model = Path | Adapted
"""A model: a complete folder in Hugging Face's layout, or a base and adapters."""


class Sampling(Fixed):
    """How responses are drawn; greedy at temperature 0, where `top_p` means nothing.

    With `noise_step`, images are seen after so many steps of diffusion (`harness.models.noise.diffuse`). `dtype` is the
    model's while it responds.
    """

    max_new_tokens: int = Field(gt=0)
    temperature: float = Field(0.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    noise_step: int = Field(0, ge=0, lt=1000)
    seed: int = 0
    dtype: Dtype = "float32"


class Search(Fixed):
    """Diverse beam search with one beam per group (Vijayakumar et al. 2018): `count` greedy continuations side by side,
    each of which pays `penalty` nats for a token that an earlier one takes at the same step. One ends with the token
    `stop` (a sentence's full stop) or the end token.
    """

    count: int = Field(gt=0)
    penalty: float = Field(ge=0)
    stop: str
    max_new_tokens: int = Field(gt=0)
    dtype: Dtype = "float32"


class Running(NamedTuple):
    """How the work is laid on the machine, which changes no response.

    `batch_size` counts prompts, 0 for as many as there is room for; `tick` is told (responses done, responses in all);
    `shelf` is the folder where a vision tower's features of the images may be kept (`harness.models.shelf.Shelf`), None
    for nowhere.
    """

    batch_size: int
    tick: Tick
    shelf: Path | None = None


class Generated(NamedTuple):
    """Responses in the order of their prompts, and the FLOPs by formula that they took, None where nobody counted.

    `peaks`: of processes that were given work, the most that one had of memory, and of an accelerator's, in GiB.
    """

    responses: list[Response]
    flops: int | None
    peaks: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Backend(ABC):
    """An engine that generates with a model's folder in Hugging Face's layout; see above. Its fields are its options,
    which are in the key (`--set "generation.options={tensor_parallel: 2}"`) unless they are `unkeyed`.

    With `merges` it is handed a trained model as what is stored of it, a base and adapters, and loads it by
    `harness.models.load`, or as they are. Without, such a model is first written as a whole, 14 GB of 7B, in the store.
    """

    unkeyed: ClassVar[tuple[str, ...]] = ()
    """Options that change no token: where the engine is found, how much memory it may take."""

    @property
    def merges(self) -> bool:
        """Whether it takes a base and adapters."""
        return False

    @property
    def gpus(self) -> int:
        """How many accelerators it takes at once, where a machine has some."""
        return 1

    def problem(self) -> str:
        """What keeps it from running on this machine, with the cure; empty where nothing does. Loads no model."""
        return ""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What of it may change a token, beside its code and the packages that its file imports: plain data."""

    @abstractmethod
    def respond(
        self, model: Model, prompts: Sequence[Prompt], sampling: Sampling, running: Running, blank: bool = False
    ) -> Generated:
        """One response per prompt, in order. `Response.ids` are the very tokens that were drawn, the end token too.

        `blank` shows a picture of nothing instead of each image. A prompt longer than the model has no response, and
        says so in `Response.unanswered`. Sampling draws from a stream of its own per prompt id and seed. HarnessError
        for a prompt that spells a control token, and where two prompts have one id.
        """

    @abstractmethod
    def candidates(
        self, model: Model, prompts: Sequence[Prompt], search: Search, running: Running
    ) -> list[list[Response]]:
        """`search.count` continuations of each prompt, the first one greedy; `Response.logp` is without the penalty.

        HarnessError where `search.stop` is no token of the model's.
        """

    @abstractmethod
    def logps(
        self, model: Model, prompts: Sequence[Prompt], tokens: Sequence[tuple[int, ...]], dtype: Dtype, running: Running
    ) -> list[tuple[float, ...]]:
        """The log-prob, in nats, of each of the given tokens after its prompt, at temperature 1."""
