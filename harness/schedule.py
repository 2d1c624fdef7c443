"""Runs steps in an order that respects what they read: in this process, or in worker processes side by side.

A worker has one CPU thread, so that a number does not depend on how many workers there are. A step that fails takes
those with it that read what it did not make; all others run.
"""

import errno
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from harness import lifeline
from harness.blame import called_exit, explained, plugin_fault
from harness.console import install
from harness.profile import Tick
from harness.steps import Step
from harness.store import Store
from harness.types import Denied, Full, HarnessError, dumps

Body = Callable[[Step, Tick], None]  # makes one step's stage in the store
SHARED = ("split",)  # kinds without which no row is made: where one fails there is nothing to go on for
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


@dataclass(frozen=True)
class Failure:
    """Why a stage was not made: the step that failed, the sentence, and whether every other step would fail too."""

    title: str
    error: HarnessError
    ends: bool = False


def failure(step: Step, error: Exception) -> Failure:
    """What a step's exception means. A disk that takes no more takes no other stage either."""
    refused = isinstance(error, HarnessError) and isinstance(error.__cause__, OSError)  # by the store
    full = isinstance(error, OSError) and error.errno in _FULL
    return Failure(step.title, explained(error), ends=refused or full or isinstance(error, Full))


def insist(lost: Mapping[str, Failure]) -> None:
    """Raise the first failure's error, where everything is needed."""
    for failed in lost.values():
        raise failed.error


class Watcher(Protocol):
    """Who is told what happens: the terminal, a log, a test."""

    def expect(self, steps: Sequence[Step]) -> None:
        """These steps will run."""

    def started(self, step: Step) -> None:
        """A worker took the step."""

    def ticked(self, key: str, done: int, total: int) -> None:
        """The step with this key has come so far."""

    def finished(self, step: Step, seconds: float) -> None:
        """The step is in the store."""

    def failed(self, step: Step, why: str) -> None:
        """The step is not in the store; `why` is empty where it could not begin for lack of what it reads."""


def pending(goals: Iterable[Step], store: Store, steps: Sequence[Step]) -> list[Step]:
    """The steps that must run to have `goals`, in plan order: what is done hides what it was made from."""
    by_key = {step.key: step for step in steps}
    wanted: set[str] = set()

    def want(step: Step) -> None:
        if step.key not in wanted and not store.done(step.stage):
            wanted.add(step.key)
            for stage in step.reads.values():
                want(by_key[stage.key])

    for goal in goals:
        want(goal)
    return [step for step in steps if step.key in wanted]


def execute(steps: Sequence[Step], make_body: Callable[[], Body], workers: int, watcher: Watcher) -> dict[str, Failure]:
    """Run the steps; returns why those were not made that were not, by their keys.

    `make_body` is called once per worker (it must be picklable); one worker means this process. Raises a failure's
    error where nothing is left to go on for: the disk is full, or what all rows share was not made.
    """
    course = Course(steps, watcher)
    if workers == 1 or len(steps) <= 1:
        body = make_body()
        while step := course.next(()):
            began = course.start(step)
            course.end(step, began, _tried(body, step, partial(watcher.ticked, step.key)))
        return course.lost
    context = multiprocessing.get_context("spawn")
    ticks: Any = context.SimpleQueue()
    pool = ProcessPoolExecutor(
        min(workers, len(steps)), mp_context=context, initializer=_start, initargs=(make_body, ticks, os.getpid())
    )
    listener = threading.Thread(target=_listen, args=(ticks, watcher), daemon=True)
    listener.start()
    try:
        _drive(pool, course, min(workers, len(steps)))
        pool.shutdown()  # the workers end by themselves and give back what they hold
    except BrokenProcessPool:
        raise HarnessError(
            "a worker process died (out of memory? unless another cause stands above); what was finished is kept, so "
            "run the same command again, with --workers 1 if memory is short."
        ) from None
    finally:
        left = list((pool._processes or {}).values())
        for process in left:
            process.terminate()
        for process in left:
            process.join()
        pool.shutdown(wait=False, cancel_futures=True)
        ticks.put(None)
    return course.lost


class Course:
    """How far a run has come: the steps that wait, in plan order, and those that are lost, with what took them."""

    def __init__(self, steps: Sequence[Step], watcher: Watcher) -> None:
        self.waiting = {step.key: step for step in steps}
        self.lost: dict[str, Failure] = {}
        self.watcher = watcher
        watcher.expect(steps)

    def next(self, busy: Iterable[str]) -> Step | None:
        """The first waiting step that waits for no other; `busy` are the keys of those under way."""
        before = {*self.waiting, *busy}
        for step in self.waiting.values():
            if before.isdisjoint(stage.key for stage in step.reads.values()) and before.isdisjoint(step.after):
                return step
        return None

    def start(self, step: Step) -> float:
        """The step begins; returns when."""
        del self.waiting[step.key]
        self.watcher.started(step)
        return time.monotonic()

    def end(self, step: Step, began: float, failed: Failure | None) -> None:
        """The step has ended; a failure takes the steps with it that would fail too, or raises its error."""
        if failed is None:
            self.watcher.finished(step, time.monotonic() - began)
            return
        taken = {step.key: step}
        for other in self.waiting.values():  # what reads a step comes after it
            reads = any(stage.key in taken for stage in other.reads.values())
            denied = isinstance(failed.error, Denied) and asks(other) != "" and asks(other) == asks(step)
            if reads or denied:
                taken[other.key] = other
        if failed.ends or any(other.stage.kind in SHARED for other in taken.values()):
            raise failed.error
        for key, other in taken.items():
            self.waiting.pop(key, None)
            self.lost[key] = failed
            self.watcher.failed(other, str(failed.error) if other is step else "")


def asks(step: Step) -> str:
    """Which LLM a step asks; "" for none."""
    asked = step.stage.identity.get("judge") or step.stage.identity.get("writer")
    return dumps(asked) if isinstance(asked, dict) else ""


def _drive(pool: ProcessPoolExecutor, course: Course, slots: int) -> None:
    """Hand out ready steps, first in plan order first, until none is left."""
    running: dict[Future[Failure | None], tuple[Step, float]] = {}
    while course.waiting or running:
        while len(running) < slots and (step := course.next(step.key for step, _ in running.values())):
            began = course.start(step)
            running[pool.submit(_work, step)] = (step, began)
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            course.end(*running.pop(future), future.result())


def _tried(body: Body, step: Step, tick: Tick) -> Failure | None:
    """Make a step's stage, or say why it could not be made."""
    try:
        body(step, tick)
    except SystemExit as stop:
        if not called_exit(stop):
            raise  # a signal to this process, not a plugin's own words
        return Failure(step.title, HarnessError(plugin_fault(stop)))
    except Exception as error:
        return failure(step, error)
    return None


_body: Body | None = None
_ticks: Any = None


def _start(make_body: Callable[[], Body], ticks: Any, parent: int) -> None:
    """Set a worker up: it leaves Ctrl-C to its parent and goes when its parent is gone."""
    global _body, _ticks
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    install()
    here = multiprocessing.parent_process()
    assert here is not None, "a worker was started by this module"
    lifeline.follow(parent, here.sentinel)
    _body, _ticks = make_body(), ticks


def _work(step: Step) -> Failure | None:
    assert _body is not None
    return _tried(_body, step, lambda done, total: _ticks.put((step.key, done, total)))


def _listen(ticks: Any, watcher: Watcher) -> None:
    while (message := ticks.get()) is not None:
        watcher.ticked(*message)
