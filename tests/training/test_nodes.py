"""A training over two "machines" on loopback: it equals one; one that is lost is named, and the next run goes on."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import ValidationError

from harness.contracts.settings import Runtime
from harness.system.endpoints import endpoint
from harness.system.errors import Gone, HarnessError
from harness.system.profile import Tick
from harness.training import nodes
from harness.training.follow import command
from harness.training.job import Job
from harness.training.launch import launch
from harness.training.nodes import Fate, Guest, Meeting, invitation, invitations
from tests.trainings import losses, same

heavy = pytest.mark.heavy
HERE = {"rdzv_endpoint": "127.0.0.1", "nodes": 2, "num_processes": 2}
NINE = {"per_device_train_batch_size": 3, "num_train_epochs": 3, "zero_stage": 3, "num_processes": 2}


def over_two(job: Callable[..., Job], name: str) -> Job:
    """Nine steps, sharded, over two machines of one process each."""
    return job(name, **NINE | HERE)


@contextmanager
def other(job: Job, node: int = 1, within: Sequence[str] = ()) -> Iterator["subprocess.Popen[bytes]"]:
    """What an executor has running on a further machine. It ends with its standard input, as over SSH."""
    order = [*within, *command(Path(job.meet or Path(job.work) / nodes.MEET), node)]
    with subprocess.Popen(order, stdin=subprocess.PIPE, start_new_session=True) as process:
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(20) != 0


def at(step: int, do: Callable[[], object]) -> Tick:
    """A tick that does something once a training of nine steps has come so far."""
    did: list[object] = []

    def tick(done: int, total: int) -> None:
        if total == 9 and done >= step and not did:
            did.append(do())

    return tick


def ranks_of(process: "subprocess.Popen[bytes]") -> list[int]:
    told = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(pid) for pid in told.split()]


@heavy
def test_two_machines_equal_one_and_the_next_run_goes_on_from_a_lost_one(job) -> None:  # type: ignore[no-untyped-def]
    """A machine without power breaks no connection: both sides stop where only silence tells; a kill breaks them."""
    both, clean, broken = job("both", **NINE), over_two(job, "clean"), over_two(job, "broken")
    launch(both)
    with other(clean):
        assert launch(clean).resumed_from_step == 0
    assert losses(clean) == pytest.approx(losses(both), abs=1e-5) and same(clean, both)
    assert not (Path(clean.work) / nodes.MEET).exists()
    with other(broken) as process:
        began = list[float]()

        def power_off() -> None:
            began.append(time.monotonic())
            for pid in (process.pid, *ranks_of(process)):
                os.kill(pid, signal.SIGSTOP)

        with pytest.raises(Gone, match=r"machine 2 of 2 \(\S+\) was lost: nothing was heard of it for \d+ s; the same"):
            launch(broken, at(4, power_off))
        assert time.monotonic() - began[0] < 60
        os.killpg(process.pid, signal.SIGKILL)
    with other(broken) as process, pytest.raises(Gone, match="machine 2 of 2"):
        launch(broken, at(5, lambda: os.killpg(process.pid, signal.SIGKILL)))
    with other(broken) as process, pytest.raises(HarnessError, match=r"rank 1 of 2 .* was ended by SIGKILL"):
        launch(broken, at(7, lambda: os.kill(ranks_of(process)[0], signal.SIGKILL)))
    with other(broken):
        assert launch(broken).resumed_from_step in (6, 7, 8)
    assert same(clean, broken) and losses(clean) == losses(broken)


class Cable:
    """Between this network and another, which has no other way to it."""

    def __init__(self) -> None:
        self.beyond = "ip", "netns", "exec", f"harness-{os.getpid()}"

    def ip(self, words: str, beyond: bool = False) -> None:
        subprocess.run([*(self.beyond if beyond else ()), "ip", *words.split()], check=True, capture_output=True)


@pytest.fixture
def cable(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cable]:
    """10.213.7.1 is its end here, .2 the other. Making it wants iproute2 and root."""
    made, there = Cable(), f"harness-{os.getpid()}"
    try:
        made.ip(f"netns add {there}")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespace can be made: {error}")
    try:
        made.ip(f"link add cable type veth peer name cable netns {there}")
        for beyond, address in ((False, "10.213.7.1/30"), (True, "10.213.7.2/30")):
            made.ip(f"addr add {address} dev cable", beyond)
            made.ip("link set cable up", beyond)
        monkeypatch.setenv("GLOO_SOCKET_IFNAME", "cable")
        yield made
    finally:
        made.ip(f"netns del {there}")


@heavy
def test_machines_on_networks_of_their_own_and_a_cable_that_is_cut(job, cable: Cable) -> None:  # type: ignore[no-untyped-def]
    both, apart = job("both", **NINE), job("apart", **NINE | HERE | {"rdzv_endpoint": "10.213.7.1"})
    launch(both)
    with other(apart, within=cable.beyond):
        began = list[float]()

        def cut() -> None:
            began.append(time.monotonic())
            cable.ip("link set cable down")

        with pytest.raises(Gone, match=r"machine 2 of 2 \(\S+\) was lost: nothing was heard of it for \d+ s"):
            launch(apart, at(4, cut))
        assert time.monotonic() - began[0] < 60
    cable.ip("link set cable up")
    with other(apart, within=cable.beyond):
        assert launch(apart).resumed_from_step in (3, 4, 5)
    assert losses(apart) == pytest.approx(losses(both), abs=1e-5) and same(apart, both)


FIRST = """
import sys
from pathlib import Path
from harness.training.job import Job
from harness.training.launch import launch
job = Job.model_validate_json(Path(sys.argv[1]).read_text())
launch(job, lambda done, total: print(done, total, flush=True))
"""


@heavy
def test_the_others_ranks_end_with_the_first_machine(job, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    made, request = over_two(job, "made"), tmp_path / "job.json"
    request.write_text(made.model_dump_json())
    with other(made) as process:
        with subprocess.Popen([sys.executable, "-c", FIRST, str(request)], stdout=subprocess.PIPE) as first:
            assert first.stdout is not None
            assert next(line for line in first.stdout if b"4 9" in line)
            assert ranks_of(process)
            first.kill()
        until = time.monotonic() + 10
        while ranks_of(process) and time.monotonic() < until:
            time.sleep(0.1)
        assert not ranks_of(process) and process.poll() is None


# How they meet, without a training.


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Less patience, where nothing is computed meanwhile."""
    if not request.node.get_closest_marker("heavy"):
        for name, seconds in {"BEAT_S": 0.05, "LOST_S": 1.0, "COME_S": 0.5, "POLL_S": 0.02}.items():
            monkeypatch.setattr(nodes, name, seconds)


def meeting(tmp_path: Path, **more: object) -> Meeting:
    return Meeting(Runtime(**HERE | more), tmp_path / "meet", tmp_path / "job.json")  # type: ignore[arg-type]


def come(meet: Meeting, node: int = 1) -> Guest:
    told = invitation(meet.place)
    assert told is not None
    return Guest(told, node)


def test_one_who_does_not_come_is_a_sentence(tmp_path: Path) -> None:
    with (
        meeting(tmp_path) as meet,
        pytest.raises(HarnessError, match=r"machine 2 of 2 has not come .* 127\.0\.0\.1:\d"),
    ):
        meet.gather()
    assert not meet.place.exists()


def test_a_place_has_one_machine_and_an_attempt_that_is_over_none(tmp_path: Path) -> None:
    """Two commands with a training in common both bring machines; a file may be left of a run that was killed."""
    meet = meeting(tmp_path)
    guest, told = come(meet), invitation(meet.place)
    with pytest.raises(ConnectionError, match="place 1 is taken"):
        come(meet)
    meet.gather()
    guest.end([])
    assert meet.ends() == []
    del meet, guest
    assert told is not None
    with pytest.raises(ConnectionError):
        Guest(told, 1)


def test_how_ranks_failed_elsewhere_is_heard_and_so_is_the_end(tmp_path: Path) -> None:
    fate = Fate(1, 3, "Full", "the disk is full.", "rank-1.txt")
    with meeting(tmp_path) as meet:
        guest = come(meet)
        assert not meet.look() and not guest.look()
        guest.end([fate])
        assert meet.look() and meet.ends() == [fate] and guest.look()


def test_silence_is_told_from_a_machine_that_is_slow(tmp_path: Path) -> None:
    """The mutant that takes any sign of life for a new one never finds a lost machine."""
    with meeting(tmp_path) as meet:
        guest = come(meet)
        for _ in range(15):
            assert not meet.look() and not guest.look()
            time.sleep(0.1)
        with pytest.raises(Gone, match="machine 2 of 2"):
            for _ in range(30):
                meet.look()
                time.sleep(0.1)


def test_an_attempt_is_told_of_once_and_the_next_one_too(tmp_path: Path) -> None:
    heard, over = list[str](), threading.Event()
    place = tmp_path / "meet"
    listening = threading.Thread(target=lambda: heard.extend(one.id for one in invitations(place, over.is_set)))
    listening.start()
    for id in "ab":
        place.write_text("{")  # half of it
        time.sleep(0.1)
        place.write_text(json.dumps({"id": id, "host": "here", "port": 1, "job": "job.json"}))
        time.sleep(0.1)
    over.set()
    listening.join()
    assert heard == ["a", "b"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("", ("", 0)),
        ("node1", ("node1", 0)),
        (":29500", ("", 29500)),
        ("[::1]:8", ("::1", 8)),
        ("10.0.0.1:8", ("10.0.0.1", 8)),
    ],
)
def test_an_endpoint_is_a_host_a_port_or_both(words: str, told: tuple[str, int]) -> None:
    assert endpoint(words) == told and Runtime(rdzv_endpoint=words).rdzv_endpoint == words


@pytest.mark.parametrize("words", ["tcp://node1:8", "node1:port", "node1:99999", "a b", "u@node1", "node1/x", " node1"])
def test_other_words_are_no_endpoint(words: str) -> None:
    with pytest.raises(ValidationError, match=r"give HOST, HOST:PORT or :PORT"):
        Runtime(rdzv_endpoint=words)


def test_processes_that_cannot_be_spread_evenly_are_refused() -> None:
    with pytest.raises(ValidationError, match="num_processes=3 cannot be spread evenly over nodes=2"):
        Runtime(num_processes=3, nodes=2)
