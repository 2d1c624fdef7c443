"""What stands behind a testbed's `data`: where the files of its sources and benchmarks come from.

A kind is a file. `harness/testbeds/folder.py` is a folder of official files, meant by its path; `mini.py` draws a
world, meant by a word of its own; a user's is "./mine.py" in a YAML file. One that draws puts the official files of a
source or a benchmark into an empty folder, whenever a comparison needs them:

    class Signs(TestbedKind):
        '''Photos of signs, rendered.'''

        sources = ("textcaps",)

        def draw_source(self, name, split, seed, n, out):
            for number in range(n):
                ...

What it drew is kept like everything else, under its arguments and the code that drew it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from harness.system.errors import UsageError

if TYPE_CHECKING:
    from harness.contracts.judge_kind import JudgeKind
    from harness.contracts.records import Item, Response


@dataclass(frozen=True, slots=True)
class Bar:
    """One demand on a base model: a metric between `low` and `high`, and `above_blank` over the blank image's value.

    A negative `above_blank` asks nothing of the blank image, whose value may then be NaN (CHAIR_i of captions that
    name nothing).
    """

    name: str
    metric: str
    low: float
    high: float
    above_blank: float = 0.0

    def holds(self, value: float, blank: float) -> bool:
        """Whether a base with this value, and this one on blank images, meets the demand."""
        return self.low <= value <= self.high and (self.above_blank < 0 or value - blank >= self.above_blank)


@dataclass(frozen=True)
class TestbedKind:
    """A testbed's `data`, read. A file of a kind defines one subclass, which adds no fields.

    `data` is what the testbed says, a path made absolute; `file` the kind's source.
    """

    data: str
    file: Path

    word: ClassVar[str] = ""
    """What `data` is for it, of a kind that comes with the harness; empty where it is a path."""
    synthetic: ClassVar[bool] = True
    """Whether its pictures are made up: then everything that is printed says so."""
    sources: ClassVar[tuple[str, ...]] = ()
    """Sources that it draws."""
    benchmarks: ClassVar[tuple[str, ...]] = ()
    """Benchmarks that it draws the files of."""
    judges: ClassVar[tuple[str, ...]] = ()
    """Words that `judge` and `writer` may be here and nowhere else (`judge`)."""
    bars: ClassVar[tuple[Bar, ...]] = ()
    """What its own base models must be able to do; `harness doctor` measures them."""

    @property
    def home(self) -> Path | None:
        """The folder with `sources/NAME/` and `benchmarks/NAME/` in the official layouts; None where it draws them."""
        return None

    def unset(self) -> str:
        """What of `data` is not there yet at all, with the cure; else empty."""
        return ""

    def draw_source(self, name: str, split: str, seed: int, n: int, out: Path) -> None:
        """Write `n` examples of one of `sources` into the empty folder `out`, in its official layout.

        `split` is what they are for, "alignment" or "heldout" (examples that nobody trains on), with "tuning" or
        "tuning-heldout" for what rates are chosen on: of different splits and seeds no picture is the same. The same
        arguments give the same bytes, and the first of many examples are those of fewer.
        """
        raise NotImplementedError

    def draw_benchmark(self, name: str, split: str, seed: int, scenes: int, out: Path) -> None:
        """Write the official files of one of `benchmarks` likewise, about so many scenes.

        `split` is "benchmark" or "tuning-benchmark".
        """
        raise NotImplementedError

    def code(self) -> tuple[Path, ...]:
        """Files whose code decides what is drawn, with all that they import: in the keys of it."""
        return (self.file,)

    def judge(self, word: str) -> "type[JudgeKind]":
        """The kind of judge or writer that one of `judges` means; `Post.drawn` is what was drawn."""
        raise NotImplementedError

    def abilities(self, model: Path) -> Mapping[str, float]:
        """Figures of a base model that no benchmark measures, for `bars`: name -> value. Loads the model."""
        return {}

    def figures(
        self, benchmark: str, items: Sequence["Item"], said: Mapping[str, "Response"], drawn: Path
    ) -> Mapping[str, float]:
        """Figures of responses to a benchmark, by their items' ids, that only the drawn world gives, for `bars`."""
        return {}

    def train_base(self, seed: int, out: Path, say: Callable[[str], None]) -> None:
        """Train the base model of a seed into `out` from random weights."""
        raise UsageError(f"{self.data} has no base models of its own to train.")

    def train_clip(self, out: Path, say: Callable[[str], None]) -> None:
        """Train its CLIP into `out`."""
        raise UsageError(f"{self.data} has no CLIP of its own to train.")
