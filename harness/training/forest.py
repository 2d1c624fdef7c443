"""The records of a training as trees. Each of several processes makes its share of them, and what it learns from.

Of the others a process has outlines, which those that made them tell: steps are cut and divided by these, so that it
is the same for all. A record is made a tree again where it is first needed, and kept.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from torch import distributed

from harness.contracts.images import resolved
from harness.contracts.records import Example, Record
from harness.models.batches import Outline, Sized
from harness.models.load import Loaded
from harness.models.reference import different
from harness.models.tree import TooLong, Tree, tree
from harness.system.errors import HarnessError
from harness.system.jsonl import lines_of, loads
from harness.training.job import Job
from harness.training.joint import refuse_malformed, said


class Place(NamedTuple):
    """Where a record is written: a line of the file of records, or of `Job.joint`, by the byte where it begins."""

    joint: bool
    start: int


class Share(NamedTuple):
    """What one process has made: outlines of trees by their records' places, how examples are malformed that cannot be
    learnt, and how many examples it has looked at.
    """

    outlines: dict[Place, Outline]
    malformed: dict[Place, str]
    examples: int


class Forest:
    """All records of a job, and examples that are learnt beside them.

    `trees` has each by its id, in an order that is the same in all processes; `joint` the ids of the examples, of which
    `dropped` could not be learnt: those too long for the model, and as many malformed ones as records may be.
    """

    def __init__(self, job: Job, loaded: Loaded, rank: int = 0, world: int = 1) -> None:
        """HarnessError where a record cannot be learnt, or none is there."""
        self._job, self._loaded = job, loaded
        self._made: dict[str, Tree] = {}
        shares = [self._share(rank, world)]
        if world > 1:
            told: list[Share] = [shares[0]] * world
            distributed.all_gather_object(told, shares[0])
            shares = told
        known = sorted(line for share in shares for line in share.outlines.items())
        malformed = sorted(line for share in shares for line in share.malformed.items())
        examples = sum(share.examples for share in shares)
        refuse_malformed([how for _, how in malformed], examples)
        different([one.id for place, one in known if not place.joint])
        if not known or known[0][0].joint:
            raise job.nothing_to_learn()
        self._places = {one.id: place for place, one in known}
        self.trees: dict[str, Sized] = {one.id: self._made.get(one.id, one) for _, one in known}
        self.joint = [id for id, place in self._places.items() if place.joint]
        self.dropped = examples - len(self.joint)

    def whole(self, one: Sized) -> Tree:
        """The tree of one of `trees`, which is kept."""
        if isinstance(one, Tree):
            return one
        place = self._places[one.id]
        _, text = next(lines_of(self._file(place.joint), place.start))
        made = self.trees[one.id] = self._tree(self._record(place.joint, text))
        return made

    def _share(self, rank: int, world: int) -> Share:
        outlines, malformed, examples = dict[Place, Outline](), dict[Place, str](), 0
        for place, text in self._lines(rank, world):
            record = self._record(place.joint, text)
            examples += place.joint
            try:
                made = self._tree(record)
            except ValueError as error:
                if not place.joint:
                    raise HarnessError(f"record {record.id} cannot be trained on: {error}.") from None
                if not isinstance(error, TooLong):
                    malformed[place] = f"{record.id}: {error}"
                continue
            self._made[made.id] = made
            outlines[place] = Outline.of(made)
        return Share(outlines, malformed, examples)

    def _lines(self, rank: int, world: int) -> Iterator[tuple[Place, str]]:
        """Every `world`-th line of the files."""
        for joint in (False, True) if self._job.joint else (False,):
            lines = islice(lines_of(self._file(joint)), rank, None, world)
            yield from ((Place(joint, start), text) for start, text in lines)

    def _file(self, joint: bool) -> Path:
        return Path(self._job.joint if joint and self._job.joint else self._job.records)

    def _record(self, joint: bool, text: str) -> Record:
        record = said(loads(Example, text)) if joint else loads(Record, text)
        return resolved(record, self._job.places) if self._job.places else record

    def _tree(self, record: Record) -> Tree:
        return tree(record, self._loaded, self._job.training.max_length)
