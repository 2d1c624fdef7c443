"""What a kind of stage promises: what identifies a stage of it, what that reads, and the body that fills its folder.

A kind is a file in `harness/stages/` with one class; the file's name is the kind's, and its folder's in the store.

    class Shout(Kind):
        '''A text in capitals.

        marks: how many exclamation marks follow
        '''

        marks: int

        @dataclass(frozen=True, kw_only=True)
        class Reads(Kind.Reads):
            text: Stage

        def fill(self, work: Work) -> None:
            reads = self.Reads.of(work.step)
            text = (work.folder(reads.text) / "text").read_text()
            (work.out / "text").write_text(text.upper() + "!" * self.marks)

The planner gives it `Shout(marks=2)` and `Shout.Reads(text=...)`: both are in the stage's key, by the names of their
fields, and so is all code of ours that the file imports (`harness.store.closure`). It is imported to plan, so it leaves
what is slow to import (torch, tables) to its body; imports there count as well. Files of a kind know no other kind's.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from harness.contracts.behind import behind
from harness.contracts.executor import Resources
from harness.contracts.images import Places
from harness.contracts.settings import Fixed, Runtime, Testbed
from harness.contracts.steps import Request, Step
from harness.store.closure import Entry
from harness.store.store import Stage, Store
from harness.system.jsonl import dumps
from harness.system.profile import Tick

if TYPE_CHECKING:
    from harness.contracts.row import Row

CODE = ("code", "packages")  # what a stage's identity has beside its kind's fields: the code that makes it
Asked = str | dict[str, Any]  # what identifies a judge or writer; "" where nobody is asked


def packages(stage: Stage) -> dict[str, str]:
    """Other people's packages that a stage's code imports -> their versions; none where its identity names none."""
    found: dict[str, str] = {**stage.identity}.get(CODE[1], {})
    return found


class Plugins(NamedTuple):
    """Plugins that a stage may be made with, their files.

    The method of its row, its model's family, who generates, and what the testbed draws with.
    """

    method: Path | None
    family: Path | None
    backend: Path | None
    world: tuple[Path, ...]


@dataclass(frozen=True)
class Work:
    """One step under way: `out` is the folder to fill, `tick` is told how far it has come.

    `row` is the one that the step was planned for, where it is one's own.
    """

    step: Step
    out: Path
    tick: Tick
    store: Store
    testbed: Testbed
    request: Request
    runtime: Runtime
    row: "Row | None" = None

    @cached_property  # it looks for what stands behind the testbed's data, and is asked for every item
    def places(self) -> Places:
        """Where stored image paths start from: the store, the testbed's data, and the images of a user's data."""
        home, images = behind(self.testbed.data).home, self.request.data.images
        return Places(self.store.root, home.absolute() if home else None, images.absolute() if images else None)

    def folder(self, stage: Stage) -> Path:
        """A finished stage that the step reads; HarnessError where it is not what was stored."""
        return self.store.sound(stage.name)


class Kind(Fixed):
    """What identifies a stage of one kind, a field each, explained in the class's docstring.

    A field that is not given is in no identity. `also` names modules whose code is in the key beside the kind's own.
    """

    also: ClassVar[tuple[str, ...]] = ()

    @dataclass(frozen=True, kw_only=True)
    class Reads:
        """The finished stages that a stage of this kind reads, by the names that they have in its key; None: not.

        Those in `derived` follow from the others, so that they are in no key.
        """

        derived: ClassVar[frozenset[str]] = frozenset()

        @classmethod
        def of(cls, made: Step | Stage) -> Self:
            """What a step or stage reads. TypeError for what the kind does not declare, and for what is missing."""
            make: Callable[..., Self] = cls
            return make(**(made.reads if isinstance(made, Step) else made.inputs))

        def named(self) -> dict[str, Stage]:
            """All of them by name."""
            given = {field.name: getattr(self, field.name) for field in fields(self)}
            return {name: stage for name, stage in given.items() if stage is not None}

    @classmethod
    def kind(cls) -> str:
        """The kind's name."""
        return cls.__module__.rpartition(".")[2]

    @classmethod
    def of(cls, made: Step | Stage) -> Self:
        """What identifies a planned stage of this kind; ValueError for one of another."""
        stage = made.stage if isinstance(made, Step) else made
        if stage.kind != cls.kind():
            raise ValueError(f"{stage.name} is no {cls.kind()}.")
        return cls.model_validate({name: value for name, value in stage.identity.items() if name not in CODE})

    @classmethod
    def part(cls, stage: Stage) -> Self:
        """The fields that several kinds take from this base, of a stage of one of them."""
        return cls.model_validate({name: stage.identity[name] for name in cls.model_fields})

    @classmethod
    def among(cls, steps: Iterable[Step]) -> Iterator[tuple[Step, Self]]:
        """The steps of this kind, and what identifies each."""
        return ((step, cls.of(step)) for step in steps if step.stage.kind == cls.kind())

    def identity(self) -> dict[str, Any]:
        """The fields that were given, as plain data."""
        return self.model_dump(include=self.model_fields_set, by_alias=True)

    def loads(self, known: Plugins) -> tuple[Entry | None, ...]:
        """Files of plugins that the body loads by name: their code is in the key."""
        return ()

    @property
    def asks(self) -> Asked:
        """Who is asked while the stage is made."""
        return ""

    def takes(self, runtime: Runtime) -> Resources:
        """What it takes while it is made, if it is run so."""
        return Resources(asks=dumps(self.asks) if self.asks else "")

    def fill(self, work: Work) -> None:
        """Write the stage's files into `work.out`."""
        raise NotImplementedError
