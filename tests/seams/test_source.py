"""What every source promises (`harness.contracts.source`), tried on all there are, and on one liar per promise."""

import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from harness.comparison.planner import Planner
from harness.comparison.worker import Worker
from harness.contracts import images, pictures, plugins, prepared
from harness.contracts.images import Places, read_image, resolved
from harness.contracts.records import Dropped, Example
from harness.contracts.settings import Reading, Runtime
from harness.contracts.source import Source, declared
from harness.contracts.steps import Request
from harness.contracts.testbed_file import read_testbed
from harness.store.contents import CONTENTS
from harness.store.store import Store
from harness.system.errors import UsageError
from harness.system.jsonl import read_jsonl
from harness.system.profile import quiet
from harness.training.split import DROPPED, EXAMPLES, LOCK
from tests.seams.found import found
from tests.seams.sources import READING, RECORDS, Tried, kept, liar, made, places

FEW = 8  # examples of a split
BED = read_testbed("mini")
FORK = get_context("fork")
KILLS = ("images.written", "split.examples", "split.dropped", "split.lock", "store.renamed")

Promise = Callable[[Tried, Path], None]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test takes in, no other knows."""
    monkeypatch.setattr(plugins, "_adopted", {})
    monkeypatch.setattr(CONTENTS, "root", None)
    monkeypatch.setattr(CONTENTS, "_memo", None)


@pytest.fixture(params=[*found("source"), "signs", "joined"], ids=lambda name: Path(name).stem)
def tried(request: pytest.FixtureRequest, tmp_path: Path) -> Tried:
    return made(request.param, tmp_path / "data")


# -- the promises: each a function that an honest source passes --


def its_order_is_the_caller_s_alone(tried: Tried, scratch: Path) -> None:
    """The same examples whatever the order of the file; ids are its own, and not where a record stands."""
    before = tried.examples(scratch / "kept")
    assert len(before) >= RECORDS
    given = list(tried.source.load(lambda id: id[::-1], keep=kept(scratch / "kept")))
    for part in tried.source.parts:
        ids = [example.id for example in given if isinstance(example, Example) and example.source == part.name]
        assert ids == sorted((e.id for e in before if e.source == part.name), key=lambda id: id[::-1]) != []
    for file in tried.data:
        rows = file.read_text().splitlines()
        whole = rows if file.suffix == ".jsonl" else [json.dumps(row) for row in json.loads(rows[0])]
        text = "\n".join(reversed(whole)) if file.suffix == ".jsonl" else f"[{','.join(reversed(whole))}]"
        file.write_text(text)
    assert tried.examples(scratch / "kept") == before


def its_ids_are_unique_and_it_says_its_name(tried: Tried, scratch: Path) -> None:
    found = tried.examples(scratch / "kept")
    assert len({example.id for example in found}) == len(found)
    names = {part.name for part in tried.source.parts}
    assert {example.source for example in found if isinstance(example, Example)} == names
    assert all(map(declared, names))  # methods find it by this name


def it_reads_what_is_asked_for(tried: Tried, scratch: Path) -> None:
    """Choosing 10,000 of 150,000 reads 10,000 pictures."""
    read = list[bytes]()

    def counted(data: bytes, upright: bool = False) -> Pillow.Image:
        read.append(data)
        return decode(data, upright)

    decode = images.decode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "decode", counted)
        patch.setattr(pictures, "decode", counted)
        loaded = tried.source.load(lambda id: id, keep=kept(scratch / "kept"))
        assert not read
        few = list(islice(loaded, 3))
    assert len(few) == len(read) == 3


def it_drops_what_cannot_be_used(tried: Tried, scratch: Path) -> None:
    """With the reason, and the others stay: a broken picture, then a record whose picture is not there."""
    before = tried.examples(scratch / "kept")
    decode, bad = images.decode, before[1]
    assert isinstance(bad, Example) and bad.image

    def failing(data: bytes, upright: bool = False) -> Pillow.Image:
        if images.hashlib.sha256(data).hexdigest() == bad.image.sha256:
            raise ValueError("cannot be decoded (as if)")
        return decode(data, upright)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "decode", failing)
        patch.setattr(pictures, "decode", failing)
        after = tried.examples(scratch / "kept")
    assert after == [before[0], Dropped(bad.id, "image: cannot be decoded (as if)"), *before[2:]]
    for file in tried.data:
        prefix = next((prefix for _, prefix in getattr(tried.source, "files", ()) if prefix), "")
        broken = json.dumps({"id": "~broken", "image": f"{prefix}~broken.png", "file": "~broken.png", "city": "X"})
        text = file.read_text().rstrip()
        file.write_text(f"{text}\n{broken}\n" if file.suffix == ".jsonl" else f"{text[:-1]},{broken}]")
    found = tried.examples(scratch / "kept") if tried.data else []
    assert {type(example) for example in found if example not in before} <= {Dropped}


def its_identity_is_its_content(tried: Tried, scratch: Path) -> None:
    """Every byte of its files counts; where they lie and when they were written does not."""
    before = tried.identity
    elsewhere = tried.copy(scratch / "moved")
    for file in elsewhere.files:
        os.utime(file, (1, 1))
    assert elsewhere.identity == before
    assert not any(str(place) in str(before) for _, place in places(tried.source))
    for file in tried.files:
        if "heldout" not in str(file):
            data = file.read_bytes()
            file.write_bytes(nudged(data, file in tried.data))
            assert tried.identity != before, file
            file.write_bytes(data)
    assert tried.identity == before


def nudged(data: bytes, is_text: bool) -> bytes:
    """One byte of a file is another; of a text its last letter, so that it is still read."""
    at = max(place for place, byte in enumerate(data) if not is_text or chr(byte).isalpha())
    return data[:at] + bytes([data[at] ^ 0x20]) + data[at + 1 :]


def split(tried: Tried, root: Path) -> Path:
    """The folder of a split that is drawn from it."""
    asked = Request((), tried.source, benchmarks=(), examples=FEW)
    step = Planner(asked, BED, Runtime(), ()).split(0)
    store = Store(root)
    Worker(store, BED, asked, Runtime(workers=1)).run(step, quiet)
    return store.path(step.stage)


def what_is_stored_names_no_place(tried: Tried, scratch: Path) -> None:
    """A split goes on where store and data have moved."""
    folder = split(tried, scratch / "store")
    texts = [(folder / name).read_text() for name in (EXAMPLES, DROPPED, LOCK)]
    assert not any(str(tried.root.parent) in text for text in texts)
    shutil.move(scratch / "store", scratch / "moved")
    moved = Places(scratch / "moved", None, tried.source.images)
    for example in read_jsonl(Example, scratch / "moved" / folder.relative_to(scratch / "store") / EXAMPLES):
        shown = resolved(example, moved).image
        read_image(Path(shown.path), shown.sha256)


def a_split_survives_a_kill(tried: Tried, scratch: Path) -> None:
    """Killed at any point and drawn again, it is the split of one that was left alone."""

    def die(point: str, root: Path) -> None:
        os.environ["HARNESS_FAILPOINT"] = f"{point}:1"
        split(tried, root)

    left_alone = contents(split(tried, scratch / "alone"))
    for point in KILLS:
        child = FORK.Process(target=die, args=(point, scratch / point))
        child.start()
        child.join(60)
        assert child.exitcode == 137 or point == "images.written", point
        assert contents(split(tried, scratch / point)) == left_alone, point


def _prepared(part: Source, store: Path) -> bool:
    """Whether it can be: one whose pictures have no files says that it cannot."""
    try:
        prepared.prepare(part, READING, Store(store), quiet)
    except UsageError as error:
        assert "no files of their own" in str(error)
        return False
    return True


def what_was_prepared_is_what_it_gives(tried: Tried, scratch: Path) -> None:
    """Without a look at a picture; and where one has changed since, what is prepared is not believed."""
    direct, read = contents(split(tried, scratch / "direct")), list[int]()
    ahead = [_prepared(part, scratch / "store") for part in tried.source.parts]

    def counted(data: bytes, upright: bool = False) -> Pillow.Image:
        read.append(len(data))
        return images.decode(data, upright)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CONTENTS, "root", scratch / "store")
        patch.setattr(pictures, "read_image", lambda path, sha256=None, upright=False: counted(path.read_bytes()))
        assert contents(split(tried, scratch / "drawn")) == direct
        assert not read or not all(ahead)
        if not any(ahead):
            return
        broken = next(file for file in tried.files if file.suffix == ".png" and "heldout" not in str(file))
        broken.write_bytes(broken.read_bytes()[:40])
        made = [str(example) for example in tried.examples(scratch / "kept")]
        patch.setattr(CONTENTS, "root", None)
        assert made == [str(example) for example in tried.examples(scratch / "kept")]
        assert sum("Dropped" in example for example in made) == 1


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name in (EXAMPLES, DROPPED, LOCK)]
    return {path.name: path.read_bytes() for path in files}


def nobody_trains_on_what_is_held_out(tried: Tried, scratch: Path) -> None:
    if tried.source.heldout is None:
        return
    asked = declared(tried.source.name)(tried.source.heldout)
    held, trained = (list(source.load(keep=kept(scratch / "kept"))) for source in (asked, tried.source))
    assert held and {example.id for example in held}.isdisjoint(example.id for example in trained)
    assert {shown(example) for example in held}.isdisjoint(map(shown, trained))


def shown(example: Example | Dropped) -> str:
    assert isinstance(example, Example) and example.image
    return example.image.sha256


def it_goes_to_another_process(tried: Tried, scratch: Path) -> None:
    """Which has not imported a user's file."""
    sent = pickle.dumps(tried.source)
    plugins._adopted.clear()
    for name in [name for name in sys.modules if "_file_" in name]:
        del sys.modules[name]
    come = pickle.loads(sent)
    assert places(come) == places(tried.source) and str(come) == str(tried.source)
    assert come.identity(READING) == tried.identity


PROMISES = [
    its_order_is_the_caller_s_alone,
    its_ids_are_unique_and_it_says_its_name,
    it_reads_what_is_asked_for,
    it_drops_what_cannot_be_used,
    its_identity_is_its_content,
    what_is_stored_names_no_place,
    a_split_survives_a_kill,
    nobody_trains_on_what_is_held_out,
    what_was_prepared_is_what_it_gives,
    it_goes_to_another_process,
]


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_a_source_keeps(promise: Promise, tried: Tried, tmp_path: Path) -> None:
    promise(tried, tmp_path)


# -- the liars: a source for each promise that breaks it --


def ids_are_places(self: Any, reading: Reading) -> Iterator[tuple[str, Any]]:
    return ((str(place), told) for place, (_, told) in enumerate(self.true.records(self, reading)))


def one_id_for_all(self: Any, reading: Reading) -> Iterator[tuple[str, Any]]:
    return (("x", told) for _, told in self.true.records(self, reading))


def all_at_once(self: Any, *given: Any, **named: Any) -> Iterator[Example | Dropped]:
    return iter(list(self.true.load(self, *given, **named)))


def in_silence(self: Any, *given: Any, **named: Any) -> Iterator[Example | Dropped]:
    return (made for made in self.true.load(self, *given, **named) if isinstance(made, Example))


def with_a_memory(self: Any, *given: Any, **named: Any) -> Iterator[Example | Dropped]:
    """Gives nothing twice: what a killed run was given, no other gets."""
    memory = self.home.with_name("memory")
    known = memory.read_text().split() if memory.is_file() else []
    for told in self.true.load(self, *given, **named):
        if told.id not in known:
            memory.write_text(" ".join([*known, told.id]))
            yield told


def names_alone(self: Any, reading: Reading) -> dict[str, str]:
    return {"source": self.name, "content": " ".join(sorted(path.name for path in self.home.rglob("*")))}


def times_too(self: Any, reading: Reading) -> dict[str, str]:
    return self.true.identity(self, reading) | {"file": str(max(p.stat().st_mtime_ns for p in self.home.rglob("*")))}


def its_place_too(self: Any, reading: Reading) -> dict[str, str]:
    return self.true.identity(self, reading) | {"file": str(self.home)}


def by_its_class(self: Any) -> tuple[Any, ...]:
    return self.true, (self.home, self.images)


LIES = [
    (its_order_is_the_caller_s_alone, liar(records=ids_are_places)),
    (its_ids_are_unique_and_it_says_its_name, liar(records=one_id_for_all)),
    (its_ids_are_unique_and_it_says_its_name, liar(name="another")),
    (it_reads_what_is_asked_for, liar(load=all_at_once)),
    (it_drops_what_cannot_be_used, liar(load=in_silence)),
    (its_identity_is_its_content, liar(identity=names_alone)),
    (its_identity_is_its_content, liar(identity=times_too)),
    (its_identity_is_its_content, liar(identity=its_place_too)),
    (a_split_survives_a_kill, liar(load=with_a_memory)),
    (nobody_trains_on_what_is_held_out, liar(heldout=property(lambda self: self.home))),
    (what_was_prepared_is_what_it_gives, liar(identity=names_alone)),
    (it_goes_to_another_process, liar(__reduce__=by_its_class)),
]


@pytest.mark.parametrize(("promise", "lie"), LIES, ids=lambda one: getattr(one, "__name__", ""))
def test_a_liar_is_caught(promise: Promise, lie: Callable[[Tried], Tried], tmp_path: Path) -> None:
    promise(made("signs", tmp_path / "data"), tmp_path)
    shutil.rmtree(tmp_path)
    plugins._adopted.clear()
    tmp_path.mkdir()
    with pytest.raises((AssertionError, UsageError, pickle.PicklingError, ModuleNotFoundError)):
        promise(lie(made("signs", tmp_path / "data")), tmp_path)


def test_pictures_that_stay_where_they_were_are_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant of the stage, for a source whose pictures lie in no place that is known to move."""
    tried = made("llava150k", tmp_path / "data")
    what_is_stored_names_no_place(tried, tmp_path)
    monkeypatch.setattr(images.StoreImages, "settled", lambda self, example: example)
    shutil.rmtree(tmp_path / "moved")
    with pytest.raises(AssertionError):
        what_is_stored_names_no_place(tried, tmp_path)
