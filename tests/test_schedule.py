"""Steps run once, in an order that respects what they read, in one process or in several."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.profile import Tick
from harness.schedule import execute, pending
from harness.steps import Step
from harness.store import Stage, Store
from harness.terminal import Silent
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

    def __call__(self) -> Callable[[Step, Tick], None]:
        store = Store(Path(self.root))

        def body(step: Step, tick: Tick) -> None:
            def fill(out: Path) -> None:
                if step.title == self.fails:
                    raise HarnessError("no.")
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
def test_a_failure_stops_the_run_and_keeps_what_was_done(tmp_path: Path, workers: int) -> None:
    steps = diamond()
    with pytest.raises(HarnessError, match="no"):
        execute(steps, Toy(str(tmp_path), fails="d"), workers, Silent())
    assert [step.title for step in pending([steps[3]], Store(tmp_path), steps)] == ["d"]
