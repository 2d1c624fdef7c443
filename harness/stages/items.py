"""A benchmark's items."""

from harness.benchmark import benchmark_of, folder_of
from harness.images import StoreImages
from harness.limit import stratified
from harness.stages.work import Work
from harness.types import write_jsonl


def items(work: Work) -> None:
    """A benchmark's items with their images' identities."""
    what = work.what
    home = work.folder("data") if "data" in work.step.reads else folder_of(what["benchmark"], work.testbed.data)
    images = StoreImages(work.places, work.out, work.store.path(work.step.stage), what["images"] == "upright")
    benchmark = benchmark_of(what)
    found = list(benchmark.items(home, images))
    write_jsonl(work.out / "items.jsonl", stratified(found, what.get("limit"), benchmark.stratum))
