"""Files that the testbed draws."""

from pathlib import Path

from harness.contracts.behind import behind
from harness.contracts.joined import parts_of, shares
from harness.contracts.stage import Kind, Plugins, Work


class Data(Kind):
    """The files of a source or a benchmark, drawn by the testbed in the official layout.

    source: the source's name, or that of several that are joined, each drawn into a folder of its name; with
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
            parts = parts_of(self.source)
            for name, n in zip(parts, shares([*parts.values()], self.n), strict=True):
                out = work.out / name if len(parts) > 1 else work.out
                out.mkdir(exist_ok=True)
                world.draw_source(name, self.split, self.seed, n, out)
        else:
            world.draw_benchmark(self.benchmark, self.split, self.seed, self.scenes, work.out)
