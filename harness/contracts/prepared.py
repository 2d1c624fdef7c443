"""What `harness data prepare` has read of a source, so that a comparison need not read it again.

A stage "prepared" of the store, under what identifies the data, how they are read and the code that read them: every
record as its example, or as dropped with the reason, a JSON line each; where each line begins; and all ids. So a draw
of 10,000 of 665,000 sorts the ids and reads 10,000 lines. It gives what the source itself would give, and where one
byte of the data is another it is passed over: then the source is read.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from hashlib import sha256
from os import cpu_count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.contracts import plugins
from harness.contracts.pictures import Pictures
from harness.contracts.records import Dropped, Example, Image
from harness.contracts.settings import Reading
from harness.store.closure import code
from harness.store.contents import CONTENTS
from harness.store.store import Stage, Store, failpoint
from harness.system.errors import HarnessError, UsageError
from harness.system.jsonl import dumps, loads
from harness.system.locks import exclusive
from harness.system.machine import explained
from harness.system.profile import Tick

if TYPE_CHECKING:
    from harness.contracts.source import Source

KIND = "prepared"
EXAMPLES, STARTS, ABOUT = "examples.jsonl", "starts.npy", "about.json"
DROPPED = b'"kind":"dropped"'  # in no text of an example, where quotation marks are escaped
PART = 1000  # records between two files of the work folder: what a kill can cost


@dataclass(frozen=True)
class Prepared:
    """A source as it was read."""

    folder: Path

    @cached_property
    def about(self) -> dict[str, Any]:
        """Its `identity`, all `ids`, the picture files `named` by records, and how many were `dropped`, by reason."""
        told: dict[str, Any] = json.loads((self.folder / ABOUT).read_text(encoding="utf-8"))
        return told

    def examples(self, order: Callable[[str], str] | None, start: Path) -> Iterator[Example | Dropped]:
        """All of them as `Source.load` gives them; image paths start from `start`."""
        ids, starts = self.about["ids"], np.load(self.folder / STARTS, mmap_mode="r")
        places: Sequence[int] = range(len(ids))
        if order is not None:
            places = sorted(places, key=lambda at: order(ids[at]))
        with (self.folder / EXAMPLES).open("rb") as file:
            for at in places:
                file.seek(int(starts[at]))
                yield _placed(loads(Example | Dropped, file.readline().decode()), lambda path: str(start / path))


def stage_of(source: "Source", reading: Reading) -> Stage:
    """The stage that holds a source as it would be read now."""
    told = plugins.plain(source.records_identity(reading), source.name)
    read = {"reading": reading.model_dump(exclude={"max_dropped"})}
    return Stage(KIND, {**told, **read, **code(__name__, plugins.counted("harness.sources", source.name))})


def candidate(source: "Source", reading: Reading) -> Prepared | None:
    """What was made of a source's data file, whatever has become of its pictures since; None where nothing was."""
    return _of(stage_of(source, reading)) if _any(source) else None


def found(source: "Source", reading: Reading) -> Prepared | None:
    """What was made of exactly these files; None where nothing was, and where any of them is another by now."""
    if not _any(source):
        return None
    stage = stage_of(source, reading)
    made = _of(stage)
    if made is None or made.about["identity"].items() <= stage.identity.items():  # all of it is in the key
        return made
    return made if made.about["identity"] == source.identity(reading) else None


def _any(source: "Source") -> bool:
    return CONTENTS.root is not None and source.home is not None and (CONTENTS.root / KIND).is_dir()


def _of(stage: Stage) -> Prepared | None:
    """What is in the store for a stage; None where it is not there, or not as it was stored."""
    assert CONTENTS.root is not None
    store = Store(CONTENTS.root)
    return Prepared(store.path(stage)) if store.done(stage) and not store.damage(stage.name) else None


def prepare(source: "Source", reading: Reading, store: Store, tick: Tick) -> Prepared:
    """Read all of a source into the store, from where a killed attempt ended; `tick` is told of records.

    UsageError for a source whose pictures have no files of their own, HarnessError where files change meanwhile.
    """
    source.check()
    store.root.mkdir(parents=True, exist_ok=True)
    CONTENTS.keep(store.root)
    stage = stage_of(source, reading)
    with explained(store.root), exclusive(store.root / ".locks" / f"prepare-{stage.key}"):  # what one discards, all do
        if candidate(source, reading) and not found(source, reading):
            store.discard(stage.name)
        return Prepared(store.run(stage, lambda out: _fill(out, store.work(stage), source, reading, tick)))


def _fill(out: Path, work: Path, source: "Source", reading: Reading, tick: Tick) -> None:
    asked, records = source.records_identity(reading), list(source.records(reading))
    identity = source.identity(reading)  # of one's own data it names the pictures, which are known once they are read
    if not asked.items() <= identity.items():
        raise _changed(source)
    begun = work / sha256(dumps(identity).encode()).hexdigest()[:20]  # what was begun on other files lies elsewhere
    begun.mkdir(exist_ok=True)
    parts = _parts(records, begun, source, reading, tick)
    sizes, dropped = list[int](), Counter[str]()
    with (out / EXAMPLES).open("wb") as file:
        for part in parts:
            for line in part.read_bytes().splitlines(keepends=True):
                sizes.append(file.write(line))
                if DROPPED in line:
                    dropped[json.loads(line)["reason"].split(" (")[0]] += 1
    np.save(out / STARTS, np.cumsum([0, *sizes[:-1]], dtype=np.uint64))
    failpoint("prepared.joined")
    ids = [id for id, _ in records]
    if source.identity(reading) != identity:
        raise _changed(source)
    named = source.picture_names(reading)
    about = {"identity": identity, "ids": ids, "named": named, "dropped": dict(dropped.most_common())}
    (out / ABOUT).write_text(json.dumps(about), encoding="utf-8")


def _changed(source: "Source") -> HarnessError:
    return HarnessError(f"{source.start} changed while it was read; give the same command again.")


def _parts(
    records: Sequence[tuple[str, Any]], work: Path, source: "Source", reading: Reading, tick: Tick
) -> Iterator[Path]:
    """Files of `PART` records each, in order: those that are there, and then the others."""
    pictures, start = _once(source.pictures(reading, _fileless)), source.start.absolute()

    def line(record: tuple[str, Any]) -> str:
        """A record as a line of the index."""
        return dumps(_placed(source.tried(*record, pictures, reading), lambda path: _relative(Path(path), start)))

    with ThreadPoolExecutor(min(8, cpu_count() or 1)) as pool:  # decoders let others run
        for begin in range(0, len(records), PART):
            some, part = records[begin : begin + PART], work / f"{begin:09}.jsonl"
            if not part.is_file() or part.read_bytes().count(b"\n") != len(some):
                fresh = part.with_suffix(".new")
                fresh.write_text("".join(f"{text}\n" for text in pool.map(line, some)), encoding="utf-8")
                failpoint("prepared.part")
                fresh.replace(part)
            tick(begin + len(some), len(records))
            yield part


def _fileless(data: bytes) -> Image:
    raise UsageError(
        "its pictures have no files of their own: they lie in its tables, or its code makes them. A comparison takes "
        "them from there, and there is nothing to prepare."
    )


def _relative(path: Path, start: Path) -> str:
    return path.relative_to(start).as_posix() if path.is_relative_to(start) else str(path)


def _placed(made: Example | Dropped, place: Callable[[str], str]) -> Example | Dropped:
    if isinstance(made, Dropped) or made.image is None:
        return made
    return replace(made, image=replace(made.image, path=place(made.image.path)))


@dataclass(frozen=True)
class _Once(Pictures):
    """Reads each file once, however many records are about it."""

    known: dict[str, Image | ValueError] = field(default_factory=dict)

    def __call__(self, cell: Any) -> Image:
        name = None
        with suppress(ValueError):
            name = str(self.named(cell))
        if name is None:
            return super().__call__(cell)
        if name not in self.known:
            try:
                self.known[name] = super().__call__(cell)
            except ValueError as error:
                self.known[name] = error
        told = self.known[name]
        if isinstance(told, ValueError):
            raise ValueError(str(told))
        return told


def _once(pictures: Pictures) -> Pictures:
    if type(pictures) is not Pictures:  # a source's own way to read them
        return pictures
    return _Once(**{one.name: getattr(pictures, one.name) for one in fields(pictures)})
