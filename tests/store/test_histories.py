"""The store under anything that may happen to it, in any order: kills, failures, flipped bytes, files lost and added.

A machine that knows what every stage must hold plays random histories; after each run of a stage its bytes are those,
whatever went before. Wrong stores play the same game and lose.
"""

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from harness.store import contents, manifest
from harness.store import store as stores
from harness.store.contents import Contents
from harness.store.store import MANIFEST, Stage, Store
from harness.system.errors import HarnessError
from harness.system.leases import Lease
from tests.laws import caught, play

A, B = Stage("split", {"seed": 1}), Stage("items", {"benchmark": "x"})
C = Stage("train", {"method": "dpo"}, {"split": A})
D = Stage("score", {}, {"train": C, "items": B})
STAGES = (A, B, C, D)
PLACES = ("store.staged", "store.filled", "store.sealed", "store.manifest", "store.synced", "store.renamed")
PLACES += ("store.leased", "store.committed", "store.discarded")
LONG_AGO = time.time() - 7200


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the store's own catches it."""


def holds(stage: Stage) -> dict[str, bytes]:
    """What a stage is to hold: files made of its name, one of them in a folder."""
    seed = hashlib.sha256(stage.name.encode()).digest()
    return {"data.bin": seed * 3, "log.txt": stage.name.encode(), "sub/more.bin": seed[::-1]}


def fill(stage: Stage) -> Callable[[Path], None]:
    def body(out: Path) -> None:
        (out / "sub").mkdir()
        for name, data in holds(stage).items():
            (out / name).write_bytes(data)

    return body


def inside(folder: Path) -> dict[str, bytes]:
    """Every file of a stage but its manifest."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


STAGE = st.sampled_from(STAGES)
FILE = st.sampled_from(["data.bin", "log.txt", "sub/more.bin", MANIFEST])


class Machine(RuleBasedStateMachine):
    """Random histories of one store. `kind` is the store that plays."""

    kind: ClassVar[type[Store]] = Store

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(mkdtemp(prefix="store-"))
        self.patch = pytest.MonkeyPatch()
        self.touched = set[str]()
        """Stages that somebody changed since they were last made."""
        self.anew()

    def teardown(self) -> None:
        self.patch.undo()
        shutil.rmtree(self.root)

    @rule()
    def anew(self) -> None:
        """Another process: what it knows of files is what the store's memo says."""
        known = Contents()
        known.keep(self.root)
        self.patch.setattr(contents, "CONTENTS", known)
        self.patch.setattr(stores, "CONTENTS", known)
        stores._sound.clear()
        self.store = self.kind(self.root)

    @rule(stage=STAGE)
    def run(self, stage: Stage) -> None:
        folder = self.store.run(stage, fill(stage))
        self.touched.discard(stage.name)
        assert inside(folder) == holds(stage)
        assert self.store.done(stage) and self.store.verify(stage) == {}
        assert self.store.manifest(stage)["inputs"] == {name: one.name for name, one in stage.inputs.items()}

    @rule(stage=STAGE)
    def run_twice(self, stage: Stage) -> None:
        """The second time nothing is made."""
        self.run(stage)
        before = (self.store.path(stage) / MANIFEST).stat().st_ino

        def never(out: Path) -> None:
            raise AssertionError("a finished stage was made again")

        self.store.run(stage, never)
        assert (self.store.path(stage) / MANIFEST).stat().st_ino == before

    @rule(stage=STAGE, place=st.sampled_from(PLACES))
    def run_and_die(self, stage: Stage, place: str) -> None:
        def die(name: str) -> None:
            if name == place:
                raise Killed

        was_there = self.store.done(stage) and self.store.verify(stage) == {}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stores, "failpoint", die)
            try:
                self.store.run(stage, fill(stage))
                died = False
            except Killed:
                died = True
        self.anew()
        assert not (was_there and died and not self.store.done(stage))  # what was whole is never taken away
        if self.store.done(stage):
            self.touched.discard(stage.name)

    @rule(stage=STAGE, files=st.integers(0, 2), error=st.sampled_from([RuntimeError, OSError, MemoryError]))
    def run_and_fail(self, stage: Stage, files: int, error: type[Exception]) -> None:
        """A body that breaks leaves nothing behind but its work folder, and no finished stage."""
        (self.store.work(stage) / "state").write_text("kept")

        def body(out: Path) -> None:
            for name in list(holds(stage))[:files]:
                (out / name).write_bytes(b"half")
            raise error("no")

        try:
            self.store.run(stage, body)
        except (error, HarnessError):
            assert not self.store.done(stage)
            assert (self.store.work(stage) / "state").read_text() == "kept"
            assert not any((self.root / ".staging").glob(f"*.{stage.name.replace('/', '-')}"))
        else:
            self.touched.discard(stage.name)
            assert inside(self.store.path(stage)) == holds(stage)

    @rule(stage=STAGE, name=FILE, at=st.integers(0, 10**6), bit=st.integers(0, 7), sly=st.booleans())
    def flip(self, stage: Stage, name: str, at: int, bit: int, sly: bool) -> None:
        """One bit of one file; slyly, its size and times are as they were, as `cp -p` leaves them."""
        path = self.store.path(stage) / name
        if not path.is_file():
            return
        data, before = bytearray(path.read_bytes()), path.stat()
        data[at % len(data)] ^= 1 << bit
        new = path.with_name("new")
        new.write_bytes(data)
        if sly:
            os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
        new.replace(path)
        self.touched.add(stage.name)
        self.anew()

    @rule(stage=STAGE, name=FILE)
    def lose(self, stage: Stage, name: str) -> None:
        path = self.store.path(stage) / name
        if path.is_file():
            path.unlink()
            self.touched.add(stage.name)
            self.anew()

    @rule(stage=STAGE, name=st.sampled_from(["extra", "sub/extra", "more/extra"]))
    def add(self, stage: Stage, name: str) -> None:
        if self.store.done(stage):
            path = self.store.path(stage) / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"not of this stage")
            self.touched.add(stage.name)
            self.anew()

    @rule(one=STAGE, other=STAGE)
    def swap(self, one: Stage, other: Stage) -> None:
        """Somebody copies a whole stage into another's place: sealed, and not this one."""
        if one.name != other.name and self.store.done(one) and one.name not in self.touched:
            there = self.store.path(other)
            shutil.rmtree(there, ignore_errors=True)
            shutil.copytree(self.store.path(one), there)
            self.touched.add(other.name)
            self.anew()

    @rule(stage=STAGE)
    def discard(self, stage: Stage) -> None:
        if self.store.done(stage):
            self.store.discard(stage.name)
            self.touched.discard(stage.name)
            assert not self.store.done(stage)

    @rule()
    def age(self) -> None:
        """Hours pass, so that digests are remembered."""
        real = time.time_ns
        self.patch.setattr(contents.time, "time_ns", lambda: real() + 7200 * 10**9)
        self.anew()
        for name in self.store.finished():
            self.store.damage(name)
        self.patch.setattr(contents.time, "time_ns", real)

    @rule(junk=st.binary(max_size=40))
    def spoil_the_memo(self, junk: bytes) -> None:
        memo = self.root / contents.MEMO
        if memo.is_file():
            memo.write_bytes(memo.read_bytes()[: -len(junk) or None] + junk)
            self.anew()

    @invariant()
    def what_nobody_touched_is_whole(self) -> None:
        for name in self.store.finished():
            if name not in self.touched:
                stage = next(stage for stage in STAGES if stage.name == name)
                assert inside(self.store.path(stage)) == holds(stage)
        assert {*self.store.verify()} <= self.touched

    @invariant()
    def what_is_not_as_it_was_is_never_served(self) -> None:
        for stage in STAGES:
            if stage.name in self.touched and self.store.done(stage) and inside(self.store.path(stage)) != holds(stage):
                with pytest.raises(HarnessError):
                    self.store.sound(stage.name)


def test_no_history_makes_the_store_serve_a_wrong_byte() -> None:
    play(Machine, histories=30)


class Trusting(Store):
    """A mutant: what has a manifest is whole."""

    def damage(self, name: str) -> list[str]:
        return []


class Eager(Store):
    """A mutant: the stage is written where it will lie, its manifest first."""

    def _produce(self, stage: Stage, body: Callable[[Path], None], lease: Lease) -> None:
        final = self.path(stage)
        shutil.rmtree(final, ignore_errors=True)
        final.mkdir(parents=True)
        stores.failpoint("store.staged")
        (final / MANIFEST).write_text("{}")
        stores.failpoint("store.manifest")
        body(final)


class Renaming(Store):
    """A mutant: it discards before it has made anew."""

    def run(self, stage: Stage, body: Callable[[Path], None]) -> Path:
        if self.done(stage) and stores.failpoint.__name__ == "die":
            self.discard(stage.name)
        return super().run(stage, body)


@pytest.mark.parametrize("kind", [Trusting, Eager, Renaming])
def test_a_wrong_store_loses(kind: type[Store]) -> None:
    class Wrong(Machine):
        pass

    Wrong.kind = kind
    with pytest.raises((AssertionError, HarnessError, pytest.fail.Exception)):
        play(Wrong, histories=80)


def by_size_and_time(path: Path | str, known: dict[str, Any], digest: Callable[[Path | str], str]) -> bool:
    """A mutant, as make and rsync have it: what is of the same size is the same."""
    return Path(path).is_file() and Path(path).stat().st_size == known.get("bytes")


def test_a_store_that_compares_sizes_loses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "is_stored", by_size_and_time)
    caught(play, Machine, 80)


@pytest.mark.heavy
def test_a_manifest_of_another_place_that_counts_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant of `damage_in` that does not ask whose manifest it is: a copied stage passes for another."""
    real = manifest.damage_in

    def wrong(folder: Path | str, digest: Callable[[Path | str], str]) -> list[str]:
        return [what for what in real(folder, digest) if "belongs to" not in what]

    monkeypatch.setattr(stores, "damage_in", wrong)
    caught(play, Machine, 120)


# Threads and others at the same store


def test_many_threads_make_every_stage_once(tmp_path: Path) -> None:
    """Eight threads want all stages in another order each: every body runs once, all find the same bytes."""
    made, errors = list[str](), list[BaseException]()
    gate = threading.Barrier(8)

    def work(turn: int) -> None:
        store = Store(tmp_path)
        gate.wait()
        try:
            for stage in (*STAGES[turn % 4 :], *STAGES[: turn % 4]):

                def body(out: Path, stage: Stage = stage) -> None:
                    made.append(stage.name)
                    time.sleep(0.02)
                    fill(stage)(out)

                assert inside(store.run(stage, body)) == holds(stage)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(turn,)) for turn in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert sorted(made) == sorted(stage.name for stage in STAGES)
    assert Store(tmp_path).verify() == {}


def test_whoever_clears_waits_for_nobody_and_nobody_for_whoever_reads(tmp_path: Path) -> None:
    """Two may rely on a store at once; while one does, `alone` is refused at once, and the other way round it waits."""
    store, other = Store(tmp_path), Store(tmp_path)
    with (
        store.used(),
        other.used(),
        pytest.raises(HarnessError, match="a comparison works on this store"),
        store.alone(),
    ):
        pass
    order = list[str]()
    with store.alone():

        def later() -> None:
            with other.used():
                order.append("used")

        thread = threading.Thread(target=later)
        thread.start()
        time.sleep(0.1)
        order.append("alone")
    thread.join(20)
    assert order == ["alone", "used"]


@pytest.mark.parametrize("turned", [3600 * 24 * 365, -3600 * 24 * 365])
def test_a_clock_that_jumps_changes_no_answer(turned: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file changed under a clock that is a year ahead or behind is still a changed file."""
    real = time.time_ns
    monkeypatch.setattr(contents, "CONTENTS", Contents())
    monkeypatch.setattr(stores, "CONTENTS", contents.CONTENTS)
    contents.CONTENTS.keep(tmp_path)
    store = Store(tmp_path)
    folder = store.run(A, fill(A))
    monkeypatch.setattr(contents.time, "time_ns", lambda: real() + turned * 10**9)
    stores._sound.clear()
    assert store.damage(A.name) == []
    was = (folder / "data.bin").stat()
    (folder / "data.bin").write_bytes(bytes(was.st_size))
    os.utime(folder / "data.bin", ns=(was.st_atime_ns, was.st_mtime_ns))
    stores._sound.clear()
    assert store.damage(A.name) == ["data.bin has changed"]


def test_a_stage_made_while_another_discards_it_is_whole_or_gone(tmp_path: Path) -> None:
    """One thread takes a stage out again and again, one makes it: what is done is never half.

    Whoever looks at a stage's files while they are moved away looks again; it is no reason to stop.
    """
    store, stop, wrong = Store(tmp_path), threading.Event(), list[str]()

    def take() -> None:
        while not stop.is_set():
            with stores.exclusive(store._lock(A)):
                if store.done(A):
                    store.discard(A.name)

    thread = threading.Thread(target=take)
    thread.start()
    try:
        for _ in range(60):
            stores._sound.clear()
            store.run(A, fill(A))
            with stores.exclusive(store._lock(A)):
                if store.done(A) and inside(store.path(A)) != holds(A):
                    wrong.append("half")
    finally:
        stop.set()
        thread.join(20)
    assert wrong == []
