"""Whoever writes owns the stage: killed in part or whole and started again at once, a comparison is never two.

Trainings run in two processes, so that there is a command, its workers and their ranks to kill. Mutants without the tie
between processes, and without the lock that ranks hold, show that the tests would see it.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, SMALL_BED, fingerprint

COMPARE = [
    "compare",
    "--methods",
    "nsft,dpo",
    "--examples",
    "12",
    "--limit",
    "4",
    "--benchmarks",
    "pope,gqa",
    "--no-page",
]
COMPARE += ["--set", "runtime.num_processes=2", "--set", "runtime.checkpoint_every_steps=1", "--workers", "2"]
UNTIED = "from harness.system import lifeline\nlifeline.follow = lambda parent, line: None\n"
UNLOCKED = UNTIED + "from harness.system import locks\nlocks.held = lambda: ()\n"
PATIENCE_S = 300  # for what must happen on a machine that may be busy

Process = subprocess.Popen[bytes]


def start(folder: Path, *more: str, changes: str = "") -> Process:
    """The comparison in a session of its own; every process of it begins with `changes`."""
    folder.mkdir(exist_ok=True)
    bed = folder / "bed.yaml"
    bed.write_text(SMALL_BED.read_text().replace("../../", f"{ROOT}/") + "crosscheck: false\n")
    changed = folder / "changed"
    changed.mkdir(exist_ok=True)
    (changed / "sitecustomize.py").write_text(changes)
    out = folder / f"out-{len(list(folder.glob('out-*'))) + 1}"  # one that lost a rank may still write its own table
    out.mkdir()
    places = ["--testbed", str(bed), "--store", str(folder / "store"), "--out", str(out)]
    return subprocess.Popen(
        [sys.executable, "-m", "harness.cli", *COMPARE, *places, *more],
        env={**os.environ, "PYTHONPATH": f"{changed}:{ROOT}"},
        stdout=subprocess.DEVNULL,
        stderr=(folder / "stderr").open("ab"),
        start_new_session=True,
    )


def finish(folder: Path, running: Process) -> dict[str, str]:
    """Wait for the end of the last run; what it published."""
    assert running.wait(timeout=PATIENCE_S) == 0, (folder / "stderr").read_text()
    return fingerprint(folder / "store", folder / f"out-{len(list(folder.glob('out-*')))}")


def members(session: int, word: str = "") -> list[int]:
    """Living processes of a session whose command line has the word."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its = path.read_text().rpartition(")")[2].split()[:4]
            words = path.with_name("cmdline").read_text()
        except OSError:
            continue
        if int(its) == session and state != "Z" and word in words:
            found.append(int(path.parent.name))
    return found


def ranks(running: Process) -> list[int]:
    return members(running.pid, "harness.training.launch")


def workers(running: Process) -> list[int]:
    return members(running.pid, "spawn_main")


def until(holds: Callable[[], object]) -> bool:
    """Wait, within patience, until something holds."""
    end = time.monotonic() + PATIENCE_S
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    return bool(holds())


def kill(running: Process, victim: str, rng: random.Random) -> None:
    """SIGKILL the command alone, its whole group, or one worker or rank as soon as there is one."""
    if victim == "group":
        os.killpg(running.pid, signal.SIGKILL)
    elif victim == "command":
        running.kill()
    else:
        list_of = {"worker": workers, "rank": ranks}[victim]
        until(lambda: list_of(running) or running.poll() is not None)
        for process in rng.sample(list_of(running), 1) if list_of(running) else ():
            os.kill(process, signal.SIGKILL)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], float]:
    """What an undisturbed run publishes, and how long it takes here."""
    folder, began = tmp_path_factory.mktemp("undisturbed") / "run", time.monotonic()
    return finish(folder, start(folder)), time.monotonic() - began


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A place for one chain of runs, after which none of their processes is left."""
    sessions: list[int] = []
    plain = subprocess.Popen

    def noted(*arguments: object, **options: object) -> Process:
        process = plain(*arguments, **options)  # type: ignore[call-overload]
        sessions.append(process.pid)
        return process  # type: ignore[no-any-return]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", noted)
        yield tmp_path / "run"
    for session in sessions:
        for process in members(session):
            os.kill(process, signal.SIGKILL)


def chain(folder: Path, victims: list[str], rng: random.Random, span: float) -> dict[str, str]:
    """Kill one victim after another at random instants, and go on with the same command at once; what is published."""
    running = start(folder)
    for victim in victims:
        try:
            running.wait(timeout=rng.uniform(0.05, 0.6) * span)
        except subprocess.TimeoutExpired:
            kill(running, victim, rng)
        before, running = running, start(folder)
        if victim in ("command", "group"):
            before.wait()
            assert until(lambda: not members(before.pid)), "a process outlived the command"  # noqa: B023
    return finish(folder, running)


@pytest.mark.heavy
def test_killed_while_it_trains_and_given_again_at_once_it_publishes_the_same(folder: Path) -> None:
    """Only the command is killed, by SIGKILL; its ranks end by themselves."""
    small = ["--methods", "sft", "--benchmarks", "pope", "--workers", "1"]
    calm = folder.with_name("calm")
    expected = finish(calm, start(calm, *small))
    first = start(folder, *small)
    assert until(lambda: ranks(first))
    first.kill()
    second = start(folder, *small)
    first.wait()
    assert until(lambda: not members(first.pid)), "a process outlived the command"
    assert finish(folder, second) == expected


@pytest.mark.heavy
@pytest.mark.parametrize("number", range(4))
def test_killed_at_twenty_instants_it_publishes_the_same(
    number: int, undisturbed: tuple[dict[str, str], float], folder: Path
) -> None:
    expected, span = undisturbed
    victims = ["command", "group", "worker", "rank"]
    assert chain(folder, victims[number:] + victims[:number] + ["command"], random.Random(number), span) == expected


def waits(running: Process) -> bool:
    """Whether a process of the session waits for a lock that somebody holds."""
    blocked = [line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" in line]
    return any(int(words[5]) in members(running.pid) for words in blocked)


def trained_twice(folder: Path, changes: str) -> tuple[Process, Process, bool]:
    """Kill a command under training whose ranks live on, hold these up, and give the command again.

    Returns both runs, and whether they came to train at once (else the second waits).
    """
    first = start(folder, changes=changes)
    assert until(lambda: ranks(first))
    orphans = ranks(first)
    first.kill()
    for process in members(first.pid, "spawn_main"):
        os.kill(process, signal.SIGKILL)
    first.wait()
    for process in orphans:
        os.kill(process, signal.SIGSTOP)
    second = start(folder, changes=changes)
    assert until(lambda: ranks(second) or waits(second))
    assert members(first.pid), "the ranks were to live on"
    return first, second, bool(ranks(second))


@pytest.mark.heavy
def test_a_run_waits_for_ranks_that_outlive_their_parent(
    undisturbed: tuple[dict[str, str], float], folder: Path
) -> None:
    """With ranks that are not tied to their parent, the lock they hold is what keeps a second training away."""
    first, second, both = trained_twice(folder, UNTIED)
    assert not both
    for process in members(first.pid):
        os.kill(process, signal.SIGCONT)
    assert finish(folder, second) == undisturbed[0]


@pytest.mark.heavy
def test_without_the_lock_two_trainings_write_one_folder(folder: Path) -> None:
    """The mutant of the test before."""
    _, _, both = trained_twice(folder, UNLOCKED)
    assert both


@pytest.mark.heavy
def test_without_the_tie_ranks_outlive_the_command(folder: Path) -> None:
    """The mutant of `chain`: there, no process outlives the command."""
    running = start(folder, changes=UNTIED)
    assert until(lambda: ranks(running))
    os.kill(running.pid, signal.SIGKILL)
    for process in workers(running):
        os.kill(process, signal.SIGKILL)
    running.wait()
    for process in ranks(running):
        os.kill(process, signal.SIGSTOP)
    time.sleep(2)
    assert ranks(running)
