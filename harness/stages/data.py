"""The embedded world's files."""

from harness.contracts.stage import Kind, Work


class Data(Kind):
    """The embedded world's files for one source or benchmark, in the official layout.

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

    def fill(self, work: Work) -> None:
        """Draw them."""
        from harness.mini.benchsets import write_benchmark
        from harness.mini.sources import write_source

        if self.source:
            assert self.n is not None, "a testbed says how many examples its world has"
            write_source(self.source, self.split, self.seed, self.n, work.out)
        else:
            write_benchmark(self.benchmark, self.seed, self.scenes, work.out, split=self.split)
