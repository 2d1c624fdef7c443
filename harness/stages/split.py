"""The examples that every method of a comparison consumes."""

from functools import partial
from pathlib import Path

from harness import plugins
from harness import split as drawing
from harness.data import local
from harness.images import StoreImages
from harness.stages.work import Work


def split(work: Work) -> None:
    """The examples every method consumes, and their lock."""
    what, reading = work.what, work.testbed.reading
    if what["source"] == "local":
        file, images = local.places(work.request.data, work.request.images)
        inside = StoreImages(work.places, work.out, work.store.path(work.step.stage), reading.images == "upright")
        load: drawing.Load = partial(local.load, file, images, reading=reading, keep=inside.of)
    else:
        generated = work.testbed.data == "generated"
        home = Path(work.testbed.data) / "sources" / what["source"]
        module = plugins.module("harness.data", what["source"])
        load = partial(module.load, work.folder("data") if generated else home, reading=reading)
    drawing.write_split(work.out, drawing.split(load, what["n"], what["seed"], reading.max_dropped), work.places)
