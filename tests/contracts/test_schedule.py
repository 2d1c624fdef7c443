"""What is pending, what a course allows, and how an executor is chosen; what executors do is in tests/seams."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.comparison.progress import Silent
from harness.comparison.simulation import simulated
from harness.contracts.executor import Bodies, Body, Tick
from harness.contracts.plugins import module
from harness.contracts.schedule import Course, execute, pending
from harness.contracts.settings import Runtime
from harness.contracts.steps import Step
from harness.store.store import Stage, Store
from harness.system.errors import HarnessError, UsageError
from tests.toy_steps import Toy, step, text

IDLE = "from harness.contracts.executor import Executor\n\n\nclass Idle(Executor):\n    def run(self, *_): pass\n"


def diamond() -> list[Step]:
    """a -> b, c -> d, and b lets c go first."""
    a = step("a")
    c = step("c", a)
    b = step("b", a, after=[c])
    return [a, b, c, step("d", b, derived=[c])]


def run(steps: list[Step], toy: Toy, bodies: Bodies | None = None, **how: object) -> dict[str, str]:
    """Titles of the steps that were not made, and why."""
    runtime = Runtime.model_validate({"workers": 1, **how})
    lost = execute(steps, bodies or toy, toy.store, runtime, Silent())
    return {step.title: str(lost[step.key].error) for step in steps if step.key in lost}


@pytest.mark.parametrize("workers", [1, 2])
def test_steps_run_after_what_they_read(workers: int, tmp_path: Path) -> None:
    steps, toy = diamond(), Toy(tmp_path)
    assert run(pending([steps[3]], toy.store, steps), toy, workers=workers) == {}
    assert [title for event, title, _ in toy.log if event == "began"] == ["a", "c", "b", "d"]
    assert (toy.store.path(steps[3].stage) / "text").read_text() == text(steps[3])


def test_finished_work_is_not_pending_and_hides_what_it_was_made_from(tmp_path: Path) -> None:
    steps, toy = diamond(), Toy(tmp_path)
    run(steps, toy)
    assert pending([steps[3]], toy.store, steps) == []
    toy.store.discard(steps[0].stage.name)
    assert pending([steps[3]], toy.store, steps) == []


def test_what_failed_and_what_reads_it_is_pending_again(tmp_path: Path) -> None:
    steps, toy = diamond(), Toy(tmp_path, {"c": "error"})
    assert run(steps, toy) == {"c": "no.", "d": "no."}
    assert [step.title for step in pending([steps[3]], toy.store, steps)] == ["c", "d"]


def test_a_plugin_that_exits_fails_its_step_and_a_signal_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import sys\ndef leave():\n    sys.exit(1)\n")
    mine = module("methods", str(tmp_path / "mine.py"))

    def ends(leave: Callable[[], None]) -> Bodies:
        def body(step: Step, tick: Tick) -> None:
            leave()

        return lambda: body

    def signal() -> None:
        raise SystemExit(143)

    assert "mine.py:3: SystemExit: 1 (in leave)" in run(diamond()[:1], Toy(tmp_path), ends(mine.leave))["a"]
    with pytest.raises(SystemExit):
        run(diamond()[:1], Toy(tmp_path), ends(signal))


def test_the_first_that_may_begin_is_not_overtaken_for_want_of_room(tmp_path: Path) -> None:
    steps, toy = [step("a"), step("b", processes=2, gpus=4), step("c")], Toy(tmp_path)
    under = Course(steps, Silent(), toy.store)
    for one in steps:
        toy.make(one, lambda *_: None)
    assert under.next(processes=2) is steps[0]
    under.start(steps[0])
    assert under.next(processes=2) is None and under.next(gpus=3) is None
    assert under.next(processes=3) is steps[1] and under.next() is steps[1]
    under.end(steps[0], None)
    assert under.next(processes=1) is steps[1], "what needs more than there is runs alone"


def test_while_gpus_are_taken_a_judge_is_asked(tmp_path: Path) -> None:
    """What takes no GPU overtakes what waits for one, but not what that one needs beside it."""
    trains, waits = step("trains", gpus=1), step("waits", gpus=1)
    judged, wide = step("judged", asks="a judge"), step("wide", processes=2)
    under = Course([trains, waits, wide, judged], Silent(), Everything(tmp_path))
    under.start(trains)
    assert under.next(processes=2, gpus=1) is None, "no room is left beside the one that waits"
    assert under.next(processes=3, gpus=1) is judged
    under.start(judged)
    assert under.next(processes=3, gpus=1) is None
    assert under.next(processes=5, gpus=1) is wide
    under.end(trains, None)
    assert under.next(processes=3, gpus=1) is waits


def test_what_needs_more_gpus_than_there_are_is_overtaken_by_nothing(tmp_path: Path) -> None:
    """It waits until nothing runs, which would never come."""
    under = Course([step("a"), step("eight", gpus=8), step("c")], Silent(), Everything(tmp_path))
    under.start(next(iter(under.waiting.values())))
    assert under.next(processes=9, gpus=4) is None


class Everything(Store):
    """Has every stage."""

    def done(self, stage: Stage) -> bool:
        return True


@pytest.mark.parametrize("seed", range(60))
def test_a_simulation_hands_steps_out_as_a_course_does(seed: int, tmp_path: Path) -> None:
    rng, steps = random.Random(seed), list[Step]()
    for number in range(14):
        reads, first = rng.sample(steps, rng.randint(0, min(2, len(steps)))), rng.sample(steps, min(1, len(steps)))
        takes = {"processes": rng.randint(1, 3), "gpus": rng.choice([0, 0, 1, 2])}
        steps.append(step(str(number), *reads, after=first if rng.random() < 0.3 else (), **takes))
    took = {step.key: float(rng.randint(1, 9)) for step in steps}
    room = {"processes": rng.randint(1, 5), "gpus": rng.randint(1, 3)}
    if seed % 2:
        del room["gpus"]
    now, ends, begun = 0.0, list[tuple[float, int]](), list[tuple[str, float]]()
    under = Course(steps, Silent(), Everything(tmp_path))
    while under.waiting or under.running:
        while one := under.next(**room):
            under.start(one)
            begun.append((one.title, now))
            ends.append((now + took[one.key], steps.index(one)))
        now, first = ends.pop(ends.index(min(ends)))
        under.end(steps[first], None)
    run = simulated(steps, lambda step: took[step.key], room)
    assert [(span.step.title, span.begins) for span in run.spans.values()] == begun
    assert run.seconds == now


def begins_what_waits_for_another(under: Course, steps: list[Step]) -> None:
    under.start(steps[2])


def begins_what_runs(under: Course, steps: list[Step]) -> None:
    under.start(steps[0])
    under.start(steps[0])


def ends_what_has_not_begun(under: Course, steps: list[Step]) -> None:
    under.end(steps[0], None)


@pytest.mark.parametrize(
    ("does", "said"),
    [
        (begins_what_waits_for_another, 'began "c" though what it reads is not made yet'),
        (begins_what_runs, 'began "a" though it runs or has ended'),
        (ends_what_has_not_begun, 'ended "a", which it had not begun'),
    ],
)
def test_an_executor_that_does_what_it_may_not_is_told(
    does: Callable[[Course, list[Step]], None], said: str, tmp_path: Path
) -> None:
    steps = diamond()
    with pytest.raises(HarnessError, match=said):
        does(Course(steps, Silent(), Toy(tmp_path).store), steps)


def test_what_is_said_to_be_made_and_is_not_in_the_store_is_lost(tmp_path: Path) -> None:
    lost = run(diamond(), Toy(tmp_path), lambda: lambda step, tick: None)
    assert set(lost) == set("abcd") and "all machines must have the store at this path" in lost["d"]


def test_an_executor_that_stops_early_is_told(tmp_path: Path) -> None:
    (tmp_path / "idle.py").write_text(IDLE)
    with pytest.raises(HarnessError, match=r'idle\.py stopped with 4 steps to go, "a" first'):
        run(diamond(), Toy(tmp_path), executor=str(tmp_path / "idle.py"))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"executor": "locla"}, 'no executor "locla"; did you mean "local"'),
        ({"executor": "./none.py"}, "no file ./none.py"),
        ({"executor_options": {"patience": 3}}, 'no option of local "patience"'),
    ],
)
def test_an_executor_that_is_none_is_a_sentence(how: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        run(diamond(), Toy(tmp_path), **how)


def test_bodies_that_cannot_be_made_fail_each_step(tmp_path: Path) -> None:
    def none() -> Body:
        raise HarnessError("no store.")

    assert run(diamond(), Toy(tmp_path), none) == dict.fromkeys("abcd", "no store.")


def test_bodies_are_made_once_per_process_and_anew_for_another_run(tmp_path: Path) -> None:
    made = list[str]()

    def bodies(of: Toy) -> Bodies:
        return lambda: made.append(of.folder.name) or of.make  # type: ignore[func-returns-value]

    for name in ("one", "other"):
        toy = Toy(tmp_path / name)
        assert run(diamond(), toy, bodies(toy)) == {}
    assert made == ["one", "other"]


def test_steps_that_wait_for_each_other_are_a_sentence_and_no_endless_loop(tmp_path: Path) -> None:
    one, other = step("one"), step("other")
    circle = [replace(one, after=(other.key,)), replace(other, after=(one.key,))]
    for workers in (1, 2):
        with pytest.raises(HarnessError, match='"one" waits for a step that waits for it'):
            run(circle, Toy(tmp_path), workers=workers)
