"""Where training examples come from. A file in `harness/sources/`, or `--data ./mine.py`, defines one `Source`:

    class Signs(Source):
        layout = "signs.json: [{file, city}]; and the photos"

        def records(self, reading):
            for row in json.loads((self.home / "signs.json").read_text()):
                yield row["file"], row

        def example(self, id, record, pictures, reading):
            turn = Turn("Which city is it?", record["city"])
            return Example(id, self.name, pictures(record["file"]), (turn,))

What every source promises, `tests/seams/test_source.py` tries on each: the same examples whatever the order of its
files; no picture is read before its example is asked for; ids are unique; a record that cannot be used is `Dropped`
with the reason; and `identity` changes with every byte that changes an example, and with nothing else.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

from harness.contracts import plugins, prepared
from harness.contracts.offered import Offered
from harness.contracts.pictures import Keep, Pictures, Seen
from harness.contracts.records import Dropped, Example, Turn
from harness.contracts.settings import Reading
from harness.contracts.wordings import IMAGE
from harness.store.contents import CONTENTS, listing
from harness.system.errors import UsageError

PACKAGE = "harness.sources"
RESERVED = (IMAGE, "<s>", "</s>", "<unk>", "<pad>", "<im_start>", "<im_end>", "<im_patch>")
AS_LLAVA = Reading()

Order = Callable[[str], str]


@dataclass(frozen=True)
class Source(Offered):
    """A source, and where its files lie; a place is in no identity and in nothing that is stored.

    `home` is the folder of its files (of data without a source of their own: the data file); None where the testbed
    draws them. `images` is the folder of the user's that image paths start from; None where pictures come with the
    testbed. `beside` names the folder or file beside an outside
    file, by default that of its own name. `short_answers`: every answer is a word or a name that can be read off the
    picture, so that a response which differs is wrong, and no writer need say so. `published`: how many records its
    makers publish, 0 where that is not known.
    """

    home: Path | None = None
    images: Path | None = None

    beside: ClassVar[str] = ""
    short_answers: ClassVar[bool] = False
    published: ClassVar[int] = 0

    def records(self, reading: Reading) -> Iterable[tuple[str, Any]]:
        """Every record's id and whatever `example` needs to know of it, in any order; reads no picture.

        An id depends on the record alone, and only equal records share one. UsageError for a file that is none.
        """
        raise NotImplementedError

    def example(self, id: str, record: Any, pictures: Pictures, reading: Reading) -> Example:
        """The example in a record; ValueError with the reason, in a clause, where there is none."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """The file's name, by which examples say where they are from."""
        return Path(str(sys.modules[type(self).__module__].__file__)).stem

    def __str__(self) -> str:
        """What tables and plans call it."""
        return self.name

    @property
    def parts(self) -> "tuple[Source, ...]":
        """The sources that it is made of: itself, but of several that are joined (`harness.contracts.joined`)."""
        return (self,)

    @property
    def own(self) -> bool:
        """Whether it is the user's: the testbed knows nothing of it."""
        return self.images is not None

    @property
    def heldout(self) -> Path | None:
        """The home of examples like these that nobody trains on; by default `NAME-heldout` beside the home."""
        home = self.home.with_name(f"{self.home.name}-heldout") if self.own and self.home else None
        return home if home and home.is_dir() else None

    def at(self, home: Path) -> "Source":
        """The same source with its files in another folder."""
        return replace(self, home=home)

    def shares(self, n: int) -> Mapping[str, int]:
        """How many of `n` examples each of `parts` gives, by their names."""
        return {self.name: n}

    def check_drawn(self, examples: Sequence[Example]) -> None:
        """UsageError where a number of examples that was asked for could not be drawn as it should."""

    def check(self) -> None:
        """UsageError with the cure where files are missing."""
        if self.layout and self.home and not self.home.exists():
            raise self.missing("its files")

    def lacks(self) -> str:
        """What `check` says; empty where all is there."""
        try:
            self.check()
        except UsageError as error:
            return str(error)
        return ""

    def missing(self, what: str) -> UsageError:
        """The error for what is not in `home`: what, which layout, where from, how."""
        return UsageError(f"source {self.name} needs {what} in {self.home}. {self.told(self.home or Path())}")

    def identity(self, reading: Reading) -> dict[str, str]:
        """What decides the examples beside `reading` and the code: the content of every file, wherever it lies."""
        if self.home is None or not self.home.exists():
            return {"source": self.name}
        content = listing(self.home) if self.home.is_dir() else CONTENTS.digest(self.home)
        return {"source": self.name, "content": content}

    def records_identity(self, reading: Reading) -> dict[str, str]:
        """What decides its records, of data that name their pictures whatever these hold; by default `identity`."""
        return self.identity(reading)

    def picture_names(self, reading: Reading) -> list[str]:
        """The picture files whose content `identity` asks for one by one, from `start`; by default none."""
        return []

    @property
    def start(self) -> Path:
        """The folder that image paths start from: `images`, or `home`."""
        return self.images or self.home or Path()

    def pictures(self, reading: Reading, keep: Keep | None = None) -> Pictures:
        """Who reads the pictures; `keep` writes one that has no file of its own to one."""
        return Pictures(self.start, reading.links, reading.images == "upright", keep=keep)

    def load(
        self,
        order: Order | None = None,
        reading: Reading = AS_LLAVA,
        keep: Keep | None = None,
        seen: Seen | None = None,
    ) -> Iterator[Example | Dropped]:
        """The examples in the files' order, or sorted by `order(id)`; a picture is read when its example is due.

        `seen` is handed each picture that is read. Of a source that was prepared none is, nor are its records.
        """
        self.check()
        if made := prepared.found(self, reading):
            return made.examples(order, self.start.absolute())
        given: Any = self.records(reading)
        found: list[Any] = list(given) if isinstance(given, Iterable) else [given]
        if not all(isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in found):
            raise UsageError(f"{self.name}.records must give pairs: a text, which is the id, and what example needs.")
        if order is not None:
            found.sort(key=lambda pair: order(pair[0]))
        pictures = replace(self.pictures(reading, keep), seen=seen)
        return (self.tried(id, record, pictures, reading) for id, record in found)

    def tried(self, id: str, record: Any, pictures: Pictures, reading: Reading) -> Example | Dropped:
        """`example`, or why there is none; UsageError where it is not what a source promises."""
        try:
            made = self.example(id, record, pictures, reading)
            if not isinstance(made, Example) or (made.id, made.source) != (id, self.name) or not made.turns:
                raise UsageError(f"{self.name}.example must give the Example {id!r} of {self.name}, with turns.")
            if not all(isinstance(turn, Turn) for turn in made.turns):
                raise UsageError(f"{self.name}.example must give its turns as Turn(question, answer).")
            for text in _texts(made):
                check_text(text)
        except ValueError as error:
            return Dropped(id, str(error))
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        """To another process it goes by name, and a user's by its file, since that process has not imported it."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return _again, (self.name, plugins.adopted().get((PACKAGE, self.name)), given)


def _again(name: str, file: Path | None, given: dict[str, Any]) -> Source:
    plugins.adopt_all({(PACKAGE, name): file} if file else {})
    return declared(name)(**given)


def declared(name: str) -> type[Source]:
    """The class of a source, for what it declares."""
    return plugins.plugin(PACKAGE, name, Source)


def official(name: str, home: Path | None) -> Source:
    """The source of that name, with its files in a testbed's folder `home`; None where the testbed draws them."""
    return declared(name)(home / "sources" / name if home else None)


def _texts(example: Example) -> Iterator[str]:
    for turn in example.turns:
        yield from (turn.question, turn.answer)
    if example.rejected is not None:
        yield example.rejected


def check_text(text: object) -> None:
    """ValueError with the reason where a text cannot be a question or an answer."""
    if not isinstance(text, str):
        raise ValueError("a turn has no text")
    if not text.strip():
        raise ValueError("an empty question or answer")
    for token in RESERVED:
        if token in text:
            raise ValueError(f"a text contains the reserved token {token}")
    if text.encode("utf-8", "replace").decode() != text:
        raise ValueError("a text is not valid Unicode")
