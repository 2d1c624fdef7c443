"""Steps run once, in an order that respects what they read, in one process or in several."""

import errno
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.plugins import module
from harness.profile import Tick
from harness.progress import Silent
from harness.schedule import execute, pending
from harness.steps import Step
from harness.store import Stage, Store
from harness.types import HarnessError


def diamond() -> list[Step]:
    """a -> b, c -> d, and b lets c go first."""
    a = Step("a", Stage("toy", {"name": "a"}))
    c = Step("c", Stage("toy", {"name": "c"}, {"a": a.stage}))
    b = Step("b", Stage("toy", {"name": "b"}, {"a": a.stage}), after=(c.key,))
    d = Step("d", Stage("toy", {"name": "d"}, {"b": b.stage}), derived={"c": c.stage})
    return [a, b, c, d]


@dataclass(frozen=True)
class Toy:
    """Writes when each stage began; `fails` names the one that raises."""

    root: str
    fails: str = ""
    full: bool = False

    def __call__(self) -> Callable[[Step, Tick], None]:
        store = Store(Path(self.root))

        def body(step: Step, tick: Tick) -> None:
            def fill(out: Path) -> None:
                if step.title == self.fails:
                    raise OSError(errno.ENOSPC, "No space left") if self.full else HarnessError("no.")
                tick(1, 1)
                (out / "began").write_text(json.dumps(time.monotonic()))

            store.run(step.stage, fill)

        return body


class Counting(Silent):
    def __init__(self) -> None:
        self.finished_: list[str] = []

    def finished(self, step: Step, seconds: float) -> None:
        self.finished_.append(step.title)


@pytest.mark.parametrize("workers", [1, 2])
def test_steps_run_after_what_they_read(tmp_path: Path, workers: int) -> None:
    steps, watcher = diamond(), Counting()
    execute(pending([steps[3]], Store(tmp_path), steps), Toy(str(tmp_path)), workers, watcher)
    began = {step.title: json.loads((Store(tmp_path).path(step.stage) / "began").read_text()) for step in steps}
    assert began["a"] < min(began["b"], began["c"]) and began["d"] > max(began["b"], began["c"])
    assert sorted(watcher.finished_) == list("abcd")
    if workers == 2:
        assert began["c"] < began["b"]


def test_finished_work_is_not_pending_and_hides_what_it_was_made_from(tmp_path: Path) -> None:
    steps = diamond()
    execute(steps, Toy(str(tmp_path)), 1, Silent())
    assert pending([steps[3]], Store(tmp_path), steps) == []
    Store(tmp_path).discard(steps[0].stage.name)
    assert pending([steps[3]], Store(tmp_path), steps) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failure_takes_what_reads_it_and_the_rest_runs(tmp_path: Path, workers: int) -> None:
    steps, watcher = diamond(), Counting()
    lost = execute(steps, Toy(str(tmp_path), fails="c"), workers, watcher)
    by_key = {step.key: step.title for step in steps}
    assert {by_key[key]: (failed.title, str(failed.error)) for key, failed in lost.items()} == {
        "c": ("c", "no."),
        "d": ("c", "no."),
    }
    assert sorted(watcher.finished_) == ["a", "b"]
    assert [step.title for step in pending([steps[3]], Store(tmp_path), steps)] == ["c", "d"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_ends_all(tmp_path: Path, workers: int) -> None:
    with pytest.raises(HarnessError, match="No space left"):
        execute(diamond(), Toy(str(tmp_path), fails="a", full=True), workers, Silent())


def test_a_plugin_that_exits_fails_its_step_and_a_signal_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import sys\ndef leave():\n    sys.exit(1)\n")
    mine = module("methods", str(tmp_path / "mine.py"))

    def ends(leave: Callable[[], None]) -> Callable[[], Callable[[Step, Tick], None]]:
        return lambda: lambda step, tick: leave()

    def signal() -> None:
        raise SystemExit(143)

    lost = execute(diamond()[:1], ends(mine.leave), 1, Silent())
    assert ["mine.py:3: SystemExit: 1 (in leave)" in str(failed.error) for failed in lost.values()] == [True]
    with pytest.raises(SystemExit):
        execute(diamond()[:1], ends(signal), 1, Silent())
