"""A benchmark's items."""

from typing import Literal

from harness.contracts import plugins
from harness.contracts.behind import behind
from harness.contracts.benchmark import benchmark_of, folder_of
from harness.contracts.images import StoreImages
from harness.contracts.stage import Plugins, Work
from harness.scoring.limit import stratified
from harness.stages._benchmarked import Benchmarked
from harness.stages._drawn import Drawn, changed
from harness.store.closure import Entry
from harness.store.contents import listing
from harness.system.jsonl import write_jsonl


class Items(Benchmarked):
    """A benchmark's items with their images' identities: the same for every model and seed.

    images: how pictures are opened (`Reading.images`)
    content: digest of the benchmark's official files
    limit: how many of these files' items are asked about; None: all
    """

    images: Literal["llava", "upright"]
    content: str = ""
    limit: int | None = None

    class Reads(Drawn):
        """The files of its benchmark."""

    def loads(self, known: Plugins) -> tuple[Entry | None, ...]:
        """The benchmark, and the source that it takes held-out examples from."""
        heldout = benchmark_of(self).heldout
        return (self.file, *([plugins.counted("harness.sources", self.options["source"])] if heldout else []))

    def fill(self, work: Work) -> None:
        """Write the items, and the pictures that lie in no file of their own."""
        data, benchmark = self.Reads.of(work.step).data, benchmark_of(self)
        official = behind(work.testbed.data).home
        home = work.folder(data) if data else folder_of(self.benchmark, official, work.request.data)
        images = StoreImages(work.places, work.out, work.store.path(work.step.stage), self.images == "upright")
        items = list(benchmark.items(home, images))
        if self.content and listing(home) != self.content:
            raise changed(home)
        write_jsonl(work.out / "items.jsonl", stratified(items, self.limit, benchmark.stratum))
