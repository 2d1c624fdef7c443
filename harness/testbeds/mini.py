"""The embedded testbed, `data: generated`: the one door to `harness.mini`. Synthetic."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from harness.contracts.testbed_kind import TestbedKind
from harness.mini import bars, benchsets, sources

if TYPE_CHECKING:
    from harness.contracts.judge_kind import JudgeKind
    from harness.contracts.records import Item, Response
    from harness.mini.world import Scene

CRITIC_SCENES = 100


class Mini(TestbedKind):
    """A drawn world with benchmark sets, oracles that read its scene graphs, and three small bases."""

    word = "generated"
    sources = tuple(sources.SOURCES)
    benchmarks = tuple(benchsets.PER_THOUSAND)
    judges = ("oracle",)
    bars = bars.BARS

    def draw_source(self, name: str, split: str, seed: int, n: int, out: Path) -> None:
        """Examples of a source about scenes or covers."""
        sources.write_source(name, split, seed, n, out)

    def draw_benchmark(self, name: str, split: str, seed: int, scenes: int, out: Path) -> None:
        """A benchmark's set."""
        benchsets.write_benchmark(name, seed, scenes, out, split=split)

    def code(self) -> tuple[Path, ...]:
        """The world's: this file only hands on what it is given, and knows much that draws nothing."""
        return Path(benchsets.__file__), Path(sources.__file__)

    def judge(self, word: str) -> "type[JudgeKind]":
        """The oracle."""
        from harness.mini.oracle_kind import OracleKind

        return OracleKind

    def abilities(self, model: Path) -> Mapping[str, float]:
        """Percent of a base's verdicts on pairs of its own responses that agree with the scene graph."""
        from harness.mini.measure import measure_critic
        from harness.models.load import load

        loaded = load(str(model))
        return measure_critic(loaded.model.eval(), loaded.tokenizer, CRITIC_SCENES)

    def figures(
        self, benchmark: str, items: "Sequence[Item]", said: "Mapping[str, Response]", drawn: Path
    ) -> Mapping[str, float]:
        """How plausible the objects are that captions invent."""
        from harness.mini.oracles import read_scenes

        if benchmark != "chair":
            return {}
        scenes = read_scenes(drawn / "scenes.jsonl")
        shown = [cast("Scene", scenes[item.image.sha256]) for item in items if item.image]
        return {"plausible": bars.plausible(shown, [said[item.id].text for item in items])}

    def train_base(self, seed: int, out: Path, say: Callable[[str], None]) -> None:
        """A quarter of an hour of one core."""
        from harness.mini.base import train_base

        train_base(seed, out, say)

    def train_clip(self, out: Path, say: Callable[[str], None]) -> None:
        """A few minutes of one core."""
        from harness.mini.similarity import train_clip

        train_clip(out, say)
