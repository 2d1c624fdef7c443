"""The embedded world's files."""

from harness.mini.benchsets import write_benchmark
from harness.mini.sources import write_source
from harness.stages.work import Work


def data(work: Work) -> None:
    """The embedded world's files for one source or benchmark, in the official layout."""
    what = work.what
    if "source" in what:
        write_source(what["source"], what["split"], what["seed"], what["n"], work.out)
    else:
        write_benchmark(what["benchmark"], what["seed"], what["scenes"], work.out, split=what["split"])
