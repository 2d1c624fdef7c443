"""Files that the testbed draws."""

from pathlib import Path

from harness.contracts.behind import behind
from harness.contracts.stage import Kind, Plugins, Work


class Data(Kind):
    """The files of one source or benchmark, drawn by the testbed in the official layout.

    source: the source's name, with
    n: how many examples it has; or
    benchmark: the benchmark's name, with
    scenes: how many scenes it asks about
    split: which scenes: those of alignment, benchmarks or held-out examples, of a comparison or of tuning
    seed: of the scenes
    """

    source: str = ""
    n: int | None = None
    benchmark: str = ""
    scenes: int = 0
    split: str
    seed: int

    def loads(self, known: Plugins) -> tuple[Path, ...]:
        """What the testbed draws with."""
        return known.world

    def fill(self, work: Work) -> None:
        """Draw them."""
        world = behind(work.testbed.data)
        if self.source:
            assert self.n is not None, "a testbed says how many examples its world has"
            world.draw_source(self.source, self.split, self.seed, self.n, work.out)
        else:
            world.draw_benchmark(self.benchmark, self.split, self.seed, self.scenes, work.out)
