"""The local executor's own promises: whatever is killed, nobody is left, and the same command goes on."""

import atexit
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from harness.contracts.executor import Body, Tick
from harness.contracts.schedule import Course
from harness.contracts.steps import Step
from harness.executors.local import Local
from harness.store.store import Stage, Store
from harness.system.errors import HarnessError
from tests.toy_steps import PATIENCE_S, Toy, Watching, living, run, step, until

ROOT = Path(__file__).parents[2]


def begin(folder: Path, seconds: float, **more: object) -> "subprocess.Popen[str]":
    """The toy command in a session of its own."""
    command = [sys.executable, "-m", "tests.toy_steps", "local", str(folder), str(seconds)]
    return subprocess.Popen(
        command, cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE, text=True, **more  # type: ignore[call-overload]
    )  # fmt: skip


def workers(toy: Toy) -> set[int]:
    """Processes in which steps have begun."""
    return {process for event, _, process in toy.log if event == "began"}


def test_a_worker_that_is_killed_ends_the_run_in_a_sentence_and_the_rest_with_it(tmp_path: Path) -> None:
    toy, steps = Toy(tmp_path, hold_s=30), [step("a"), step("b")]

    def kill() -> None:
        until(lambda: len(workers(toy)) == 2)
        os.kill(min(workers(toy)), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    ran = run(Local(), toy, steps)
    killer.join()
    assert isinstance(ran.raised, HarnessError) and str(ran.raised).startswith("a worker process died (out of memory?")
    assert not living(workers(toy)) and ran.lost == {}
    assert run(Local(), Toy(tmp_path), steps).raised is None


def test_a_worker_that_ignores_a_polite_end_is_killed(tmp_path: Path) -> None:
    """A library's handler, or a process that is stopped, does not keep the command waiting for ever."""
    toy, bad = Toy(tmp_path, {"bad": "full"}, hold_s=0.3), step("bad")

    def stop() -> None:
        until(lambda: len(workers(toy)) == 2)
        beside = next(process for event, title, process in toy.log if (event, title) == ("began", "beside"))
        os.kill(beside, signal.SIGSTOP)

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.executors.local.SETTLED_S", 0.5)
        ran = run(Local(), toy, [bad, step("beside")])
    stopper.join()
    assert "No space left" in str(ran.raised) and not living(workers(toy))


def test_no_worker_outlives_a_command_that_is_killed(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    with begin(tmp_path, 600) as running:
        assert until(lambda: len(workers(toy)) == 2)
        running.kill()
        assert until(lambda: not living(workers(toy)))


def test_two_commands_on_one_store_make_each_stage_once(tmp_path: Path) -> None:
    with begin(tmp_path, 0.2) as one, begin(tmp_path, 0.2) as other:
        assert (one.wait(PATIENCE_S), other.wait(PATIENCE_S)) == (0, 0)
    log = Toy(tmp_path).log
    assert sorted(title for event, title, _ in log if event == "made") == ["a", "b", "c", "d", "last"]
    assert len({process for *_, process in log}) == 4


def test_a_command_goes_on_where_another_was_killed(tmp_path: Path) -> None:
    """The second waits for stages that the first makes; the first dies, and the second makes them."""
    toy = Toy(tmp_path)
    with begin(tmp_path, 3) as first:
        assert until(lambda: len(workers(toy)) == 2)
        with begin(tmp_path, 0.1) as second:
            assert until(lambda: len(workers(toy)) == 4)
            first.kill()
            assert second.wait(PATIENCE_S) == 0
    assert sorted(title for event, title, _ in toy.log if event == "made") == ["a", "b", "c", "d", "last"]


@pytest.mark.parametrize("begun", [0, 1, 2])
def test_ctrl_c_is_the_commands_to_tell(begun: int, tmp_path: Path) -> None:
    """It reaches the workers too, also while they start, and none of them prints a traceback."""
    toy = Toy(tmp_path)
    with begin(tmp_path, 600) as running:
        if begun == 0:
            time.sleep(0.5)
        assert until(lambda: len(workers(toy)) >= begun)
        os.killpg(running.pid, signal.SIGINT)
        _, said = running.communicate(timeout=PATIENCE_S)
    assert said.count("Traceback") <= 1, said
    assert not living(workers(toy))


@dataclass
class Loaded:
    """Leaves a folder when it is taken apart."""

    folder: str
    leave: Callable[[str], None] = os.mkdir

    def __del__(self) -> None:
        self.leave(self.folder)


@dataclass(frozen=True)
class Loads:
    """Has each process call something in the end, and load what its interpreter's end would take apart."""

    folder: Path

    def __call__(self) -> Body:
        return self.make

    def make(self, step: Step, tick: Tick) -> None:
        atexit.register((self.folder / f"{step.title} called").touch)
        vars(gc)["loaded"] = Loaded(f"{self.folder}/{step.title} taken apart")
        Store(self.folder / "store").run(step.stage, lambda out: None)


def test_a_worker_ends_at_once_when_all_was_called_that_waits_for_its_end(tmp_path: Path) -> None:
    """Whoever waits for the table waits for nothing to be taken apart."""
    Local().run(Course([step("a"), step("b")], Watching(), Store(tmp_path / "store")), Loads(tmp_path), 2)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "store") == ["a called", "b called"]


@dataclass(frozen=True)
class Imports:
    """Notes of each step what its process had imported, and set aside from collections, before it began."""

    folder: Path

    def __call__(self) -> Body:
        return self.make

    def make(self, step: Step, tick: Tick) -> None:
        (self.folder / step.title).write_text(f"{'peft' in sys.modules} {gc.get_freeze_count() > 100_000}")
        assert until(lambda: all((self.folder / title).exists() for title in "ab"))
        Store(self.folder / "store").run(step.stage, lambda out: None)


@pytest.mark.heavy
def test_what_is_slow_to_import_is_set_aside_where_a_step_needs_it_and_nowhere_else(tmp_path: Path) -> None:
    keys = {"a": {"packages": {"transformers": "5.17"}}, "b": {"packages": {"numpy": "2.0"}}}
    steps = [replace(step(name), stage=Stage("toy", {"name": name, **more})) for name, more in keys.items()]
    Local().run(Course(steps, Watching(), Store(tmp_path / "store")), Imports(tmp_path), 2)
    assert [(tmp_path / name).read_text() for name in keys] == ["True True", "False False"]
