"""Runs steps in an order that respects what they read: in this process, or in worker processes side by side.

A worker has one CPU thread, so that a number does not depend on how many workers there are.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

from harness.console import install
from harness.profile import Tick
from harness.steps import Step
from harness.store import Store
from harness.types import HarnessError

Body = Callable[[Step, Tick], None]  # makes one step's stage in the store


class Watcher(Protocol):
    """Who is told what happens: the terminal, a log, a test."""

    def expect(self, steps: int) -> None:
        """So many steps will run."""

    def started(self, step: Step) -> None:
        """A worker took the step."""

    def ticked(self, key: str, done: int, total: int) -> None:
        """The step with this key has come so far."""

    def finished(self, step: Step, seconds: float) -> None:
        """The step is in the store."""


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


def execute(steps: Sequence[Step], make_body: Callable[[], Body], workers: int, watcher: Watcher) -> None:
    """Run the steps. `make_body` is called once per worker (it must be picklable); one worker means this process."""
    watcher.expect(len(steps))
    if workers == 1 or len(steps) <= 1:
        body = make_body()
        for step in steps:
            watcher.started(step)
            began = time.monotonic()
            body(step, lambda done, total, key=step.key: watcher.ticked(key, done, total))  # type: ignore[misc]
            watcher.finished(step, time.monotonic() - began)
        return
    context = multiprocessing.get_context("spawn")
    ticks: Any = context.SimpleQueue()
    pool = ProcessPoolExecutor(
        min(workers, len(steps)), mp_context=context, initializer=_start, initargs=(make_body, ticks, os.getpid())
    )
    listener = threading.Thread(target=_listen, args=(ticks, watcher), daemon=True)
    listener.start()
    try:
        _drive(pool, steps, watcher, min(workers, len(steps)))
        pool.shutdown()  # the workers end by themselves and give back what they hold
    except BrokenProcessPool:
        raise HarnessError(
            "a worker process died (out of memory?); what was finished is kept, so run the same command again, "
            "with --workers 1 if memory is short."
        ) from None
    finally:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
        ticks.put(None)


def _drive(pool: ProcessPoolExecutor, steps: Sequence[Step], watcher: Watcher, slots: int) -> None:
    """Hand out ready steps, first in plan order first, until all are done; the first failure ends it."""
    waiting = {step.key: step for step in steps}
    running: dict[Future[None], tuple[Step, float]] = {}
    while waiting or running:
        busy = {step.key for step, _ in running.values()}
        for key, step in list(waiting.items()):
            sources = [stage.key for stage in step.reads.values()]
            if len(running) < slots and not any(k in waiting or k in busy for k in (*sources, *step.after)):
                del waiting[key]
                busy.add(key)
                watcher.started(step)
                running[pool.submit(_work, step)] = (step, time.monotonic())
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            step, began = running.pop(future)
            future.result()
            watcher.finished(step, time.monotonic() - began)


_body: Body | None = None
_ticks: Any = None


def _start(make_body: Callable[[], Body], ticks: Any, parent: int) -> None:
    """Set a worker up: it leaves Ctrl-C to its parent and goes when its parent is gone."""
    global _body, _ticks
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    install()
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    _body, _ticks = make_body(), ticks


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _work(step: Step) -> None:
    assert _body is not None
    _body(step, lambda done, total: _ticks.put((step.key, done, total)))


def _listen(ticks: Any, watcher: Watcher) -> None:
    while (message := ticks.get()) is not None:
        watcher.ticked(*message)
