"""What is shown while a comparison runs: failures always, finished steps if asked, a time left only if known."""

import io
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from harness.comparison.progress import Bars, Left, Lines, told
from harness.contracts.steps import Step
from harness.store.store import Stage, Store


def toy(name: str, kind: str = "build") -> Step:
    return Step(name, Stage(kind, {"method": name}))


@pytest.mark.parametrize("verbose", [False, True])
def test_only_failures_leave_a_line_unless_one_asks(tmp_path: Path, verbose: bool) -> None:
    screen = io.StringIO()
    bars = Bars(Progress(console=Console(file=screen, width=80)), Left(Store(tmp_path), 2), verbose)
    made, broken, waits = toy("made"), toy("[red]broken"), toy("waits")
    bars.expect([made, broken, waits])
    for step in (made, broken):
        bars.started(step)
        bars.ticked(step.key, 1, 2)
    bars.finished(made, 2.0)
    bars.failed(broken, "no [b]disk")
    bars.failed(waits, "")
    assert screen.getvalue() == "made: 2.0 s\n" * verbose + "[red]broken: FAILED: no [b]disk\n"
    [all_of_them] = bars.progress.tasks
    assert (all_of_them.completed, all_of_them.total) == (3, 3)


def test_without_a_terminal_every_step_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines, made, broken = Lines(), toy("made"), toy("broken")
    lines.expect([made, broken])
    lines.finished(made, 2.0)
    lines.failed(broken, "no disk")
    assert capsys.readouterr().err == "[1/2] made: 2.0 s\n[2/2] broken: FAILED: no disk\n"


def test_the_time_left_is_silent_without_knowledge_and_whole_only_with_all_of_it(tmp_path: Path) -> None:
    build, train, nothing = toy("sft"), toy("sft", "train"), toy("nothing")
    left = Left(Store(tmp_path), 1)
    left.expect([build, train])
    assert str(left) == ""
    for step, said in ((build, "more than 1 min 0 s left"), (train, "about 2 min 0 s left")):
        left.forecast.add(step, 60.0)
        left.ended(nothing, None)
        assert str(left) == said


def test_a_step_that_takes_longer_than_ever_makes_the_time_a_least_one(tmp_path: Path) -> None:
    build, train = toy("sft"), toy("sft", "train")
    left = Left(Store(tmp_path), 1)
    left.expect([build, train])
    left.forecast.add(build, 60.0)
    left.forecast.add(train, 60.0)
    left.running[build.key] = left.waiting.pop(build.key), -1e6
    left.ended(toy("nothing"), None)
    assert str(left) == "more than 1 min 0 s left"


def test_what_a_comparison_took() -> None:
    assert told(0, 0.84) == "nothing to do (0.8 s)"
    assert told(1, 4) == "1 stage run in 4 s" and told(136, 223) == "136 stages run in 3 min 43 s"
