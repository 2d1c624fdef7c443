"""What every executor promises (`harness.contracts.executor`), tried on all there are, and on one liar per promise."""

import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import pytest

from harness.contracts.executor import Bodies, Executor, Failure
from harness.contracts.schedule import EXECUTORS, Course, attempt
from harness.contracts.steps import Step
from harness.system.errors import HarnessError
from harness.system.profile import quiet
from tests import fake_slurm
from tests.seams.found import found, package
from tests.toy_steps import TICKS, Ran, Toy, living, made, run, step, text, until

ROOT = Path(__file__).parents[2]
IN_ORDER = ROOT / "tests" / "outside" / "executor" / "in_order.py"
WORKERS = 3


ELSEWHERE = {  # where each step is a process of its own
    "slurm": [pytest.mark.heavy],
    "ray": [pytest.mark.heavy, pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")],
}
EACH = [pytest.param(name, marks=ELSEWHERE.get(name, ())) for name in found("executor")]


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One for executors that want one."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in fake_slurm.install(tmp_path_factory.mktemp("slurm") / "cluster").items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module", params=EACH)
def executor(request: pytest.FixtureRequest) -> Executor:
    return made(request.param)


def graph() -> list[Step]:
    """A diamond whose left waits for its right, a chain, and some that are alone."""
    a = step("a")
    c = step("c", a)
    b = step("b", a, after=[c])
    d = step("d", b, derived=[c])
    chain = [step("e", a, processes=99)]
    for name in "fgh":
        chain.append(step(name, chain[-1]))
    alone = [step(f"alone {number}", processes={1: 2, 2: WORKERS}.get(number, 1)) for number in range(6)]
    return [a, b, c, d, *chain, *alone]


def calm(executor: Executor, folder: Path) -> Ran:
    """Nothing fails, and one step has been made by somebody else meanwhile."""
    steps, toy = graph(), Toy(folder, hold_s=0.02)
    replace(toy, folder=folder)()(next(step for step in steps if step.title == "alone 0"), quiet)
    (folder / "log").unlink()
    return run(executor, toy, steps, WORKERS)


@pytest.fixture(scope="module")
def ran(executor: Executor, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return calm(executor, tmp_path_factory.mktemp("calm"))


def begins_after_what_it_reads(ran: Ran) -> None:
    titles = {step.key: step.title for step in ran.steps}
    for each in ran.steps:
        for before in (*(stage.key for stage in each.reads.values()), *each.after):
            assert ran.at("ended", titles[before]) < ran.at("began", each.title), each.title


def begins_once(ran: Ran) -> None:
    assert sorted(ran.began) == sorted(step.title for step in ran.steps)


def makes_the_same_whoever_runs_it(ran: Ran) -> None:
    for each in ran.steps:
        assert (ran.toy.store.path(each.stage) / "text").read_text() == text(each)


def says_what_happens(ran: Ran) -> None:
    """Each step is begun and finished, in this order, between the two the watcher hears of no other end."""
    titles = [step.title for step in ran.steps]
    assert ran.told[0] == ("expect", *titles) and ran.lost == {} and ran.raised is None
    plain = [told[:2] for told in ran.told if told[0] in ("started", "finished", "failed")]
    for title in titles:
        assert [what for what, name in plain if name == title] == ["started", "finished"]


def ticks_in_order(ran: Ran) -> None:
    """Some may be left out, the last may not."""
    for each in ran.steps:
        told = [one[0] if one[0] != "ticked" else one[2:] for one in ran.told[1:] if one[1] in (each.title, each.key)]
        ticks = told[1:-1]
        assert (told[0], told[-1]) == ("started", "finished")
        assert ticks == sorted(set(ticks))  # type: ignore[type-var]
        assert ticks[-1:] == ([(TICKS, TICKS)] if each.title != "alone 0" else [])


def keeps_to_its_workers(ran: Ran) -> None:
    """No more processes at once than workers, but for a step that needs more than there are: alone."""
    running: set[str] = set()
    for event, title, _ in ran.log:
        (running.add if event == "began" else running.discard if event == "ended" else len)(title)
        taken = sum(step.resources.processes for step in ran.steps if step.title in running)
        assert taken <= WORKERS or len(running) == 1, running


CALM = (
    begins_after_what_it_reads,
    begins_once,
    makes_the_same_whoever_runs_it,
    says_what_happens,
    ticks_in_order,
    keeps_to_its_workers,
)


@pytest.mark.parametrize("promise", CALM, ids=lambda promise: promise.__name__)
def test_it(promise: Callable[[Ran], None], ran: Ran) -> None:
    promise(ran)


def failing(executor: Executor, folder: Path) -> Ran:
    """One step fails; another is refused by the judge."""
    b, c = step("b"), step("c")
    reads_c = step("reads c", b, derived=[c])
    refused = step("refused", asks="the judge")
    again = step("asks the same", after=[refused], asks="the judge")
    other = step("asks another", after=[refused], asks="the writer")
    steps = [b, c, reads_c, step("reads it too", reads_c), refused, again, other, step("reads the same", again)]
    return run(executor, Toy(folder, {"c": "error", "refused": "denied"}), steps)


def a_failure_takes_what_reads_it_or_asks_the_same(ran: Ran) -> None:
    titles = {step.key: step.title for step in ran.steps}
    assert ran.raised is None
    assert {titles[key]: (failed.title, str(failed.error)) for key, failed in ran.lost.items()} == {
        "c": ("c", "no."),
        "reads c": ("c", "no."),
        "reads it too": ("c", "no."),
        "refused": ("refused", "401."),
        "asks the same": ("refused", "401."),
        "reads the same": ("refused", "401."),
    }
    assert sorted(ran.began) == ["asks another", "b", "c", "refused"]
    why = {told[1]: told[2] for told in ran.told if told[0] == "failed"}
    assert why == {titles[key]: "no." * (titles[key] == "c") + "401." * (titles[key] == "refused") for key in ran.lost}


def test_a_failure_takes_what_reads_it_or_asks_the_same(executor: Executor, tmp_path: Path) -> None:
    a_failure_takes_what_reads_it_or_asks_the_same(failing(executor, tmp_path))


def ending(executor: Executor, folder: Path, fault: str = "full", raises: str = "") -> Ran:
    """A step that ends the run, or a watcher that does; and two beside it that take a while.

    A scheduler that has the graph begins at once what waits no more: the end is to be seen while one still runs.
    """
    bad = step("bad", kind="toy" if fault == "full" else "split")
    beside, longer = step("beside"), step("longer")
    steps = [beside, bad, longer, step("later", beside, longer, after=[bad])]
    longer_s = 20.0 if type(executor).__name__.lower() in ELSEWHERE else 0.2
    toy = Toy(folder, {} if raises else {"bad": fault}, hold_s=0.1, long_s={"longer": longer_s})
    return run(executor, toy, steps, raises=raises)


def a_full_disk_ends_all_and_nothing_is_left_running(ran: Ran) -> None:
    assert isinstance(ran.raised, HarnessError) and "No space left" in str(ran.raised)
    assert "later" not in ran.began and not living({process for *_, process in ran.log} - {os.getpid()})


def test_a_full_disk_ends_all_and_nothing_is_left_running(executor: Executor, tmp_path: Path) -> None:
    a_full_disk_ends_all_and_nothing_is_left_running(ending(executor, tmp_path))


def test_what_all_rows_share_ends_all(executor: Executor, tmp_path: Path) -> None:
    ran = ending(executor, tmp_path, "error")
    assert str(ran.raised) == "no." and "later" not in ran.began
    assert not living({process for *_, process in ran.log} - {os.getpid()})


def a_watcher_that_fails_ends_all(ran: Ran) -> None:
    """Its fault is not the step's: no row is lost for it."""
    assert isinstance(ran.raised, OSError) and ran.raised.errno == errno.EIO
    assert ran.lost == {} and "later" not in ran.began
    assert not living({process for *_, process in ran.log} - {os.getpid()})


@pytest.mark.parametrize("raises", ["started", "ticked", "finished"])
def test_a_watcher_that_fails_ends_all(raises: str, executor: Executor, tmp_path: Path) -> None:
    a_watcher_that_fails_ends_all(ending(executor, tmp_path, raises=raises))


def test_it_can_be_used_again(executor: Executor, tmp_path: Path) -> None:
    """A comparison runs twice where what it found in the store turns out to be damaged."""
    for name in ("one", "two"):
        steps = [step(name), step(f"{name} more")]
        assert run(executor, Toy(tmp_path), steps).lost == {}
    assert run(executor, Toy(tmp_path), []).raised is None


def signalled(name: str, folder: Path, number: signal.Signals) -> tuple[int, set[int]]:
    """Signal a process whose steps take very long; its status (0 if it goes on), and which processes it leaves."""
    command = [sys.executable, "-m", "tests.toy_steps", name, str(folder)]
    running = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL)
    processes = set[int]()
    try:
        assert until(lambda: Toy(folder).log)
        time.sleep(0.5)  # for whatever begins beside it
        processes = {process for *_, process in Toy(folder).log}
        if number == signal.SIGINT:  # Ctrl-C reaches all that the terminal shows
            os.killpg(running.pid, number)
        else:
            running.send_signal(number)
        until(lambda: running.poll() is not None)
        return running.poll() or 0, living(processes)
    finally:
        for process in {running.pid, *living(processes)}:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        running.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", EACH)
def test_a_signal_ends_whatever_it_started(name: str, number: signal.Signals, tmp_path: Path) -> None:
    status, left = signalled(name, tmp_path, number)
    assert status != 0 and left == set()


def test_all_files_of_the_seam_are_tried() -> None:
    assert package("executor") == EXECUTORS and {"local", *ELSEWHERE} < set(found("executor"))


def test_the_page_on_adding_one_shows_one_that_is_tried() -> None:
    shown = re.findall(r"```python\n(.*?)```", (ROOT / "docs/extend/executor.md").read_text(), re.DOTALL)
    assert shown == [IN_ORDER.read_text()]


# One per promise that breaks it.


class Mutant(Executor):
    """Runs in order; each of its children does one thing wrong."""

    def run(self, course: Course, bodies: Bodies, workers: int) -> None:
        while step := course.next():
            course.start(step)
            course.end(step, attempt(bodies, step, partial(course.tick, step)))


class BeginsTooEarly(Mutant):
    def run(self, course: Course, bodies: Bodies, workers: int) -> None:
        for each in course.waiting.values():
            attempt(bodies, each, quiet)
        super().run(course, lambda: quiet, workers)  # type: ignore[arg-type,return-value]


class BeginsTwice(Mutant):
    def run(self, course: Course, bodies: Bodies, workers: int) -> None:
        def twice(step: Step, tick: Callable[[int, int], None]) -> None:
            bodies()(step, quiet)
            bodies()(step, tick)

        super().run(course, lambda: twice, workers)


class MakesAnother(Mutant):
    """Another store's stage, as where machines do not share it."""

    def run(self, course: Course, bodies: Bodies, workers: int) -> None:
        toy = cast("Toy", bodies)
        super().run(course, replace(toy, folder=toy.folder / "elsewhere"), workers)


class ForgetsTicks(Mutant):
    def run(self, course: Course, bodies: Bodies, workers: int) -> None:
        super().run(course, lambda: lambda step, tick: bodies()(step, quiet), workers)


class TicksBackwards(Mutant):
    def run(self, course: Course, bodies: Bodies, workers: int) -> None:
        def backwards(step: Step, tick: Callable[[int, int], None]) -> None:
            ticks: list[tuple[int, int]] = []
            bodies()(step, lambda done, total: ticks.append((done, total)))
            for done, total in reversed(ticks):
                tick(done, total)

        super().run(course, lambda: backwards, workers)


class StartsAllAtOnce(Mutant):
    def run(self, course: Course, bodies: Bodies, workers: int) -> None:
        running: dict[Future[Failure | None], Step] = {}
        with ThreadPoolExecutor(64) as pool:
            while course.waiting or course.running:
                while step := course.next():
                    course.start(step)
                    running[pool.submit(attempt, bodies, step, partial(course.tick, step))] = step
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    course.end(running.pop(future), future.result())


class LosesTheKind(Mutant):
    """Hands errors on as text, so that a refusal is an error like any other."""

    def run(self, course: Course, bodies: Bodies, workers: int) -> None:
        while step := course.next():
            course.start(step)
            failed = attempt(bodies, step, partial(course.tick, step))
            course.end(step, failed and replace(failed, error=HarnessError(str(failed.error))))


class HidesFailures(Mutant):
    def run(self, course: Course, bodies: Bodies, workers: int) -> None:
        while step := course.next():
            course.start(step)
            attempt(bodies, step, partial(course.tick, step))
            course.end(step, None)


class GoesOnWhateverHappens(Mutant):
    """Takes the end of a run for the end of a step."""

    def run(self, course: Course, bodies: Bodies, workers: int) -> None:
        while step := course.next():
            try:
                course.start(step)
                course.end(step, attempt(bodies, step, partial(course.tick, step)))
            except Exception:
                continue


class RefusesWhatIsThere(Mutant):
    """Takes a stage that somebody else made meanwhile for a fault."""

    def run(self, course: Course, bodies: Bodies, workers: int) -> None:
        def refuses(step: Step, tick: Callable[[int, int], None]) -> None:
            if course.store.done(step.stage):
                raise FileExistsError(errno.EEXIST, "there already", str(course.store.path(step.stage)))
            bodies()(step, tick)

        super().run(course, lambda: refuses, workers)


class LeavesProcesses(Mutant):
    """Has a step made by a process that nobody ends."""

    def run(self, course: Course, bodies: Bodies, workers: int) -> None:
        toy = cast("Toy", bodies)
        command = [sys.executable, "-m", "tests.toy_steps", str(IN_ORDER), str(toy.folder)]
        subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        while not toy.log:
            time.sleep(0.01)
        super().run(course, bodies, workers)


MUTANTS: list[tuple[type[Mutant], Callable[[Executor, Path], Ran], Callable[[Ran], None]]] = [
    (BeginsTooEarly, calm, begins_after_what_it_reads),
    (BeginsTwice, calm, begins_once),
    (MakesAnother, calm, says_what_happens),
    (ForgetsTicks, calm, ticks_in_order),
    (TicksBackwards, calm, ticks_in_order),
    (StartsAllAtOnce, calm, keeps_to_its_workers),
    (LosesTheKind, failing, a_failure_takes_what_reads_it_or_asks_the_same),
    (HidesFailures, failing, a_failure_takes_what_reads_it_or_asks_the_same),
    (GoesOnWhateverHappens, ending, a_full_disk_ends_all_and_nothing_is_left_running),
    (GoesOnWhateverHappens, partial(ending, raises="finished"), a_watcher_that_fails_ends_all),
    (RefusesWhatIsThere, calm, says_what_happens),
    (LeavesProcesses, ending, a_full_disk_ends_all_and_nothing_is_left_running),
]


@pytest.mark.parametrize(("mutant", "scene", "promise"), MUTANTS, ids=lambda part: getattr(part, "__name__", "there"))
def test_who_breaks_a_promise_is_caught(
    mutant: type[Mutant], scene: Callable[[Executor, Path], Ran], promise: Callable[[Ran], None], tmp_path: Path
) -> None:
    promise(scene(Mutant(), tmp_path / "good"))
    ran = scene(mutant(), tmp_path / "bad")
    with pytest.raises(AssertionError):
        promise(ran)
    for process in living({process for *_, process in ran.log} - {os.getpid()}):
        os.kill(process, signal.SIGKILL)


def test_who_leaves_processes_after_a_signal_is_caught(tmp_path: Path) -> None:
    _, left = signalled(f"{__name__}:{LeavesProcesses.__name__}", tmp_path, signal.SIGTERM)
    assert left
