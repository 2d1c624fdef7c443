"""Leases: who is heard of keeps one, who is silent loses it to one other, and no clock is compared with another's."""

import errno
import os
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.system import leases
from harness.system.leases import BEAT_S, EXPIRES_S, Lease, Watch, alone, together
from harness.system.locks import at_once, exclusive, shared
from tests.laws import caught
from tests.machines import Clock, nfs, on
from tests.store.disk import largest_file


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def held(folder: Path, place: str, number: int = 1) -> Lease:
    lease = Lease.create(folder / str(number), place)
    assert lease
    return lease


def test_a_lease_that_beats_is_never_taken_however_wrong_its_clock(tmp_path: Path, clock: Clock) -> None:
    theirs = held(tmp_path, "two")

    def live() -> None:
        theirs.beat()
        os.utime(theirs.file, (0, 0))  # by its machine's clock it is 1970
        if clock.now > 5 * EXPIRES_S:
            theirs.release()

    clock.meanwhile = live
    with alone(tmp_path, "one") as mine:
        assert clock.now > 5 * EXPIRES_S and mine.after == []


def test_a_silent_one_is_taken_over_after_its_time_and_says_whose_it_was(tmp_path: Path, clock: Clock) -> None:
    theirs = held(tmp_path, "two")
    with alone(tmp_path, "one") as mine:
        assert EXPIRES_S <= clock.now < EXPIRES_S + 1
        assert mine.mine() and not theirs.mine()
        assert mine.after == [f"{leases.machine()[0]} (process {os.getpid()})"]
        theirs.beat()  # it wakes
        theirs.release()
        assert mine.mine()
    assert not tmp_path.exists()


def test_a_dead_process_of_this_machine_is_not_waited_for(tmp_path: Path, clock: Clock) -> None:
    held(tmp_path, "one")
    with alone(tmp_path, "one") as mine:
        assert clock.now == 0 and mine.after == []


@pytest.mark.parametrize("call", ["pwrite", "link", "unlink"])
def test_nor_is_one_that_was_killed_in_the_middle_of_taking_it(call: str, tmp_path: Path, clock: Clock) -> None:
    child = os.fork()
    if not child:
        setattr(os, call, lambda *asked: os._exit(9))
        with alone(tmp_path, "one"):
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 9 << 8
    with alone(tmp_path, "one"):
        assert clock.now == 0
    assert not tmp_path.exists()


def test_whoever_takes_over_clears_a_draft_and_its_writer_drafts_anew(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def late(draft: Path, file: Path) -> None:
        monkeypatch.setattr(os, "link", link)
        with alone(tmp_path, "two"):
            link(draft, file)

    monkeypatch.setattr(os, "link", late)
    with alone(tmp_path, "one") as lease:
        assert lease.mine() and clock.now < 1


def test_a_file_system_without_links_has_leases_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(draft: Path, file: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    with alone(tmp_path, "one") as lease:
        assert lease.mine() and Lease.create(lease.file, "two") is None
    assert not tmp_path.exists()


def test_on_nfs_locks_are_had_and_leave_nothing(tmp_path: Path) -> None:
    file, folder = tmp_path / "locks" / "stage", tmp_path / "locks" / "leases" / "stage"
    for lock, names in ((exclusive, {"1"}), (shared, {"with"}), (at_once, {"1"})):
        with nfs(), lock(file):
            assert {path.name.partition("-")[0] for path in folder.iterdir()} == names
        assert not folder.exists()


@pytest.mark.parametrize("wrong", ["closed late", "by its draft"])
def test_a_lease_that_is_open_when_it_is_unlinked_is_caught(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close, later = os.close, list[int]()
    if wrong == "by its draft":
        monkeypatch.setattr(Lease, "_reopen", lambda self: None)
    else:
        monkeypatch.setattr("harness.system.leases.os.close", later.append)
    caught(test_on_nfs_locks_are_had_and_leave_nothing, tmp_path)
    for descriptor in later:
        close(descriptor)


def test_a_lease_s_folder_may_go_while_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there when it is to be made, and gone when that is looked at: the last lease in it was let go of."""
    make, tries = Path.mkdir, list[Path]()

    def gone(path: Path, *how: object, **named: object) -> None:
        tries.append(path)
        if len(tries) == 1:
            raise FileExistsError(path)
        make(path, *how, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", gone)
    with together(tmp_path / "leases", "one"):
        assert len(tries) > 1 and (tmp_path / "leases").is_dir()


def test_of_two_who_take_over_one_has_it(tmp_path: Path, clock: Clock) -> None:
    """Both have seen the same lease expire; whichever creates the next has it."""
    held(tmp_path, "dead")
    watches = [Watch("one"), Watch("two")]
    assert [leases._taken(tmp_path, watch) for watch in watches] == [None, None]
    clock.now = EXPIRES_S
    first, second = (leases._taken(tmp_path, watch) for watch in watches)
    assert first and first.mine() and second is None


@pytest.mark.parametrize("number", [2, 6, 9])
def test_who_was_slow_to_take_over_leaves_it_to_whom_it_had_not_seen(
    number: int, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its look and its own lease another has come; a network file system may have shown it an old folder."""
    held(tmp_path, "dead", 5)
    watch, real, came = Watch("one"), Lease.create, list[Lease]()
    leases._taken(tmp_path, watch)
    clock.now = EXPIRES_S

    def late(file: Path, place: str) -> Lease | None:
        monkeypatch.setattr(Lease, "create", real)
        came.append(held(tmp_path, "two", number))
        return real(file, place)

    monkeypatch.setattr(Lease, "create", late)
    assert leases._taken(tmp_path, watch) is None
    assert came[0].there and {file.name for file in tmp_path.iterdir()} == {"5", str(number)}


@pytest.mark.parametrize("left", [b"", b"{", b"\xff" * 40, b"0" * 20 + b"[]", b"0" * 20 + b'{"place": "on'])
def test_a_lease_that_cannot_be_read_is_watched_like_any(left: bytes, tmp_path: Path, clock: Clock) -> None:
    """A machine was lost while it wrote it."""
    (tmp_path / "1").write_bytes(left)
    with alone(tmp_path, "one"):
        assert clock.now >= EXPIRES_S


def test_sharers_are_together_and_whoever_is_alone_waits_for_all(tmp_path: Path, clock: Clock) -> None:
    with ExitStack() as others:
        for place in ("one", "two", "two"):
            others.enter_context(together(tmp_path, place))
        clock.meanwhile = lambda: [lease.beat() for lease in [*leases._beating]] if clock.now < 90 else others.close()
        with alone(tmp_path, "three"):
            assert clock.now >= 90


def test_a_sharer_waits_for_whoever_is_alone(tmp_path: Path, clock: Clock) -> None:
    one = held(tmp_path, "two")
    clock.meanwhile = lambda: one.beat() if clock.now < 90 else one.release()
    with together(tmp_path, "one"):
        assert clock.now >= 90


def test_who_does_not_wait_is_refused_when_another_is_heard_of(tmp_path: Path, clock: Clock) -> None:
    lock = tmp_path / "in-use"
    with on("two"), ExitStack() as two:
        two.enter_context(shared(lock))
        (lease,) = leases._beating
        clock.meanwhile = lease.beat
        with on("one"), pytest.raises(BlockingIOError), at_once(lock):
            pass
        assert clock.now < BEAT_S + 1


def test_who_does_not_wait_has_it_where_a_lost_machine_shared_it(tmp_path: Path, clock: Clock) -> None:
    Lease.create(tmp_path / "leases" / "in-use" / "with-two", "two")
    with at_once(tmp_path / "in-use"):
        assert clock.now >= EXPIRES_S


def test_a_lock_that_is_free_costs_no_waiting_and_leaves_no_lease(tmp_path: Path, clock: Clock) -> None:
    with exclusive(tmp_path / "a") as lease, shared(tmp_path / "b"), shared(tmp_path / "b"):
        assert lease.mine()
    assert clock.now == 0 and [*(tmp_path / "leases").iterdir()] == [] and leases._beating == {}


def test_leases_beat_while_they_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT_S", 0.01)
    monkeypatch.setattr(leases, "_heart", None)
    with alone(tmp_path, "one") as lease:
        before, end = lease.file.read_bytes(), time.monotonic() + 30
        while lease.file.read_bytes() == before and time.monotonic() < end:
            time.sleep(0.01)
        assert lease.file.read_bytes()[20:] == before[20:] and lease.beats
    monkeypatch.setattr(leases, "BEAT_S", BEAT_S)


def test_a_lease_that_is_let_go_of_writes_into_no_other_file(tmp_path: Path) -> None:
    """Its descriptor's number is soon another's."""
    lease = held(tmp_path / "a", "one")
    number = lease.descriptor
    lease.release()
    with (tmp_path / "weights").open("w+") as file:
        os.dup2(file.fileno(), number)
        lease.beat()
        os.close(number)
    assert (tmp_path / "weights").read_text() == ""


def test_a_fork_beats_for_nobody(tmp_path: Path) -> None:
    lease = held(tmp_path, "one")
    lease.process += 1
    lease.beat()
    assert lease.beats == 0


@pytest.mark.parametrize("size", [1, 64])
def test_on_a_full_disk_there_is_a_lease_that_says_nothing(size: int, tmp_path: Path, clock: Clock) -> None:
    """Else nobody could clear a store whose disk is full."""
    with largest_file(size), at_once(tmp_path / "in-use"), exclusive(tmp_path / "stage") as lease:
        lease.beat()
        assert lease.mine() and lease.file.read_bytes() == b""
    assert [*(tmp_path / "leases").iterdir()] == []
    with exclusive(tmp_path / "stage") as lease:
        lease.file.unlink()
        assert not lease.mine()
