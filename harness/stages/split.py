"""The examples that every method of a comparison consumes."""

from functools import partial
from pathlib import Path

from harness import plugins
from harness import split as drawing
from harness.stages.work import Work


def split(work: Work) -> None:
    """The examples every method consumes, and their lock."""
    what, reading = work.what, work.testbed.reading
    if what["source"] == "local":
        module = plugins.module("harness.data", "local")
        file, images = (Path(given).expanduser() for given in (work.request.data, work.request.images))
        load: drawing.Load = partial(module.load, file, images, reading=reading)
    else:
        generated = work.testbed.data == "generated"
        home = Path(work.testbed.data) / "sources" / what["source"]
        module = plugins.module("harness.data", what["source"])
        load = partial(module.load, work.folder("data") if generated else home, reading=reading)
    drawing.write_split(work.out, drawing.split(load, what["n"], what["seed"]), work.store.root)
