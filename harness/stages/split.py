"""The examples that every method of a comparison consumes."""

from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Annotated

from pydantic import PlainSerializer

from harness.contracts import plugins
from harness.contracts.behind import behind
from harness.contracts.images import StoreImages
from harness.contracts.joined import parts_of
from harness.contracts.settings import Reading
from harness.contracts.source import official
from harness.contracts.stage import Kind, Plugins, Work
from harness.stages._drawn import Drawn, changed
from harness.store.closure import Entry
from harness.training import split as drawing


def _without_limits(reading: Reading) -> dict[str, object]:
    return reading.model_dump(exclude={"max_dropped"})


class Split(Kind):
    """The examples every method consumes, and their lock.

    source: the source's name, "local" for a data file of the user's; of several that are joined all names and weights
    n: how many examples are drawn; None: all of the user's
    seed: of the draw
    reading: how records and pictures are read; how many may be unusable is no part of it
    content: digest of the source's files
    file: digest of the user's data file
    images: digest of the pictures that it names
    """

    source: str
    n: int | None
    seed: int
    reading: Annotated[Reading, PlainSerializer(_without_limits)]
    content: str = ""
    file: str = ""
    images: str = ""

    class Reads(Drawn):
        """The files of its source."""

    def loads(self, known: Plugins) -> tuple[Entry | None, ...]:
        """The source, or all that are joined."""
        return tuple(plugins.counted("harness.sources", name) for name in parts_of(self.source))

    def fill(self, work: Work) -> None:
        """Draw the examples from those that the source has."""
        data, reading = self.Reads.of(work.step).data, work.testbed.reading
        mine = self.source == work.request.data.name
        source = work.request.data if mine else official(self.source, behind(work.testbed.data).home)
        source = deepcopy(source)  # by its file as it is now, which is held to what the key has
        if data:
            source = source.at(work.folder(data))
        pictures = StoreImages(work.places, work.out, work.store.path(work.step.stage), reading.images == "upright")
        load = partial(source.load, reading=reading, keep=pictures.of)
        chosen = drawing.split(load, self.n, self.seed, reading.max_dropped)
        if self.n is not None:
            source.check_drawn(chosen.examples)
        settled = tuple(map(pictures.settled, chosen.examples))
        if not data and any(getattr(self, name) != digest for name, digest in source.identity(reading).items()):
            raise changed(source.start)
        drawing.write_split(work.out, replace(chosen, examples=settled), work.places)
