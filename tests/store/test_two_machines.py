"""Two machines at one store, whose kernels know nothing of each other's locks: one right stage, whatever stops.

The second machine is this process, with another name, without flock, and with a clock that passes while it waits.
"""

import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import toy
from test_histories import A, B, fill, holds, inside
from test_kill import FAILPOINTS, finish, outputs, start

from harness.store import store as stores
from harness.store.store import Stage, Store
from harness.system import leases
from harness.system.errors import HarnessError
from harness.system.leases import EXPIRES_S, Lease
from tests.laws import caught
from tests.machines import Clock, on

PLACES = [name for name in FAILPOINTS if name.startswith("store.") and name != "store.discarded"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def elsewhere(root: Path) -> dict[str, bytes]:
    """The same comparison, given on the second machine; what the store holds then."""
    with on("two"):
        toy.compare(Store(root), root.with_suffix(".log"))
    return outputs(root)


def nothing_is_left(root: Path) -> bool:
    aside = [path for what in (".staging", ".work", ".locks/leases") for path in (root / what).glob("*")]
    return not aside and Store(root).verify() == {}


@pytest.mark.parametrize("name", FAILPOINTS)
def test_a_machine_that_is_lost_at_a_failpoint(
    name: str, tmp_path: Path, clock: Clock, expected: dict[str, bytes]
) -> None:
    root = tmp_path / "store"
    damaged = Store(root).path(toy.DATA)
    damaged.mkdir(parents=True)
    assert finish(start(root, die_at=f"{name}:1")) == 137
    assert elsewhere(root) == expected
    assert clock.now < 3 * EXPIRES_S
    assert Store(root).verify() == {} and not any((root / ".work").glob("*"))


@pytest.mark.parametrize("seed", range(4))
def test_a_machine_that_stands_still_and_wakes(
    seed: int, tmp_path: Path, clock: Clock, expected: dict[str, bytes]
) -> None:
    """SIGSTOP at any instant, until the other machine has made everything; then it goes on, and ends well."""
    root, rng = tmp_path / "store", random.Random(seed)
    owner = start(root)
    time.sleep(rng.uniform(0, 0.3))
    assert owner.pid
    with suppress(ProcessLookupError):  # it may have ended
        os.kill(owner.pid, signal.SIGSTOP)
    try:
        assert elsewhere(root) == expected
    finally:
        with suppress(ProcessLookupError):
            os.kill(owner.pid, signal.SIGCONT)
    assert finish(owner) == 0
    assert outputs(root) == expected and nothing_is_left(root)


class StandsStill:
    """This machine stands still at a failpoint, the first time, while `meanwhile` happens."""

    def __init__(self, patch: pytest.MonkeyPatch, place: str, meanwhile: Callable[[], None]) -> None:
        self.place, self.meanwhile = place, meanwhile
        patch.setattr(stores, "failpoint", self)

    def __call__(self, name: str) -> None:
        if name == self.place:
            self.place = ""
            self.meanwhile()


@pytest.mark.parametrize("place", PLACES)
def test_an_owner_wakes_when_another_machine_has_made_the_stage(
    place: str, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = list[str]()

    def body(who: str, out: Path) -> None:
        made.append(who)
        fill(A)(out)

    def takes_over() -> None:
        with on("two"):
            Store(tmp_path).run(A, lambda out: body("two", out))

    StandsStill(monkeypatch, place, takes_over)
    folder = Store(tmp_path).run(A, lambda out: body("one", out))
    assert inside(folder) == holds(A) and nothing_is_left(tmp_path)
    late = place in ("store.renamed", "store.committed")  # it is done by then
    assert sorted(made) == (["one"] if late else ["one", "two"])


def wakes_while_another_makes_it(root: Path, clock: Clock, patch: pytest.MonkeyPatch, place: str) -> int:
    """How often a stage is made here whose lease another machine has when this one wakes: it commits nothing then."""
    store, made, theirs = Store(root), list[int](), list[Lease]()

    def taken() -> None:
        with on("two"):
            watch = leases.Watch("two")
            while not (lease := leases._taken(root / ".locks" / "leases" / A.name.replace("/", "-"), watch)):
                clock.now += EXPIRES_S
        theirs.append(lease)
        clock.meanwhile = looked_at

    def looked_at() -> None:
        assert not store.done(A)
        theirs[0].release()

    def body(out: Path) -> None:
        made.append(1)
        fill(A)(out)

    StandsStill(patch, place, taken)
    store.run(A, body)
    assert inside(store.path(A)) == holds(A)
    return len(made)


UNPUBLISHED = [name for name in PLACES if name not in ("store.leased", "store.renamed", "store.committed")]


@pytest.mark.parametrize("place", UNPUBLISHED)
def test_an_owner_that_has_lost_its_lease_commits_nothing_and_says_so(
    place: str, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wakes_while_another_makes_it(tmp_path, clock, monkeypatch, place) == 2
    assert "stood still for 60 s or more, and another machine has taken it over" in capsys.readouterr().err


def test_an_owner_that_asks_for_no_lease_is_caught(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant: without fencing it publishes what another machine is making."""
    monkeypatch.setattr(Lease, "mine", lambda self: True)
    assert wakes_while_another_makes_it(tmp_path, clock, monkeypatch, "store.synced") == 1


def test_what_a_sleeper_writes_when_it_wakes_is_in_nobody_s_way(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training's states are sealed where they lie: two that write there would seal a mixture."""
    assert mixed(tmp_path, clock) == []


def test_two_who_have_the_same_work_folder_are_caught(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Store._aside
    monkeypatch.setattr(Store, "_aside", lambda self, what, stage, lease: real(self, what, stage, None))
    assert mixed(tmp_path, clock)


def mixed(root: Path, clock: Clock) -> list[str]:
    """What the second machine finds in its work folder that the first has written there after it woke."""
    found = list[str]()

    def first(out: Path) -> None:
        store = Store(root)
        state = one.work(A)
        (state / "kept").write_text("of before")
        with on("two"):
            store.run(A, lambda out: second(store, state, out))
        raise RuntimeError("its files are gone")

    def second(store: Store, theirs: Path, out: Path) -> None:
        assert (store.work(A) / "kept").read_text() == "of before"
        theirs.mkdir(exist_ok=True)
        (theirs / "late").write_text("of one who wakes")
        found.extend(path.name for path in store.work(A).glob("late"))
        fill(A)(out)

    one = Store(root)
    assert inside(one.run(A, first)) == holds(A)
    return found


def test_a_store_is_cleared_by_nobody_while_another_machine_uses_it(tmp_path: Path, clock: Clock) -> None:
    store = Store(tmp_path)
    with on("two"), Store(tmp_path).used():
        (theirs,) = leases._beating
        clock.meanwhile = theirs.beat
        with on("one"), pytest.raises(HarnessError, match="a comparison works on this store"), store.alone():
            pass
    with store.alone():
        assert clock.now < EXPIRES_S


def test_nobody_uses_a_store_that_another_machine_clears(tmp_path: Path, clock: Clock) -> None:
    store, order = Store(tmp_path), list[str]()
    with on("two"):
        clearing = store.alone()
        clearing.__enter__()
        (theirs,) = leases._beating

    def clear() -> None:
        theirs.beat()
        if clock.now > 2 * EXPIRES_S:
            order.append("cleared")
            clearing.__exit__(None, None, None)

    clock.meanwhile = clear
    with store.used():
        order.append("used")
    assert order == ["cleared", "used"]


class Remembered:
    """Which folders each machine remembers that were not there, as NFS does, until it has changed what they lie in."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.missing, self.real = defaultdict[str, set[Path]](set), Store.done
        patch.setattr(Store, "done", lambda store, stage: self.done(store, stage))
        patch.setattr(stores, "look_anew", self.look_anew)

    def done(self, store: Store, stage: Stage) -> bool:
        missing, places = self.missing[leases.machine()[0]], {store.root / stage.kind, store.path(stage)}
        if missing & places:
            return False
        missing |= {place for place in places if not place.exists()}
        return self.real(store, stage)

    def look_anew(self, folder: Path) -> None:
        missing = self.missing[leases.machine()[0]]
        if folder not in missing:
            missing -= {place for place in missing if place.parent == folder}


def test_what_another_machine_has_made_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though this one remembers that neither the stage nor any of its kind was there."""
    Remembered(monkeypatch)
    with on("one"):
        assert not Store(tmp_path).done(A)
    with on("two"):
        Store(tmp_path).run(A, fill(A))
    with on("one"):
        assert not Store(tmp_path).done(A)
        assert inside(Store(tmp_path).run(A, lambda out: pytest.fail("it is made again"))) == holds(A)


def test_who_looks_at_what_it_remembers_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Remembered, "look_anew", lambda self, folder: None)
    caught(test_what_another_machine_has_made_is_not_made_again, tmp_path, monkeypatch)


def test_both_make_stages_at_once(tmp_path: Path, clock: Clock) -> None:
    """Leases are of stages: another's is not waited for."""
    with on("two"):
        Store(tmp_path).run(A, lambda out: (fill(A)(out), made_here(tmp_path))[0])
    assert clock.now == 0 and Store(tmp_path).done(B)


def made_here(root: Path) -> Stage:
    with on("one"):
        Store(root).run(B, fill(B))
    return B
