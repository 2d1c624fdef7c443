"""Which steps run, in which order, and what a failure takes with it: the same for every executor.

A step that fails takes those with it that read what it did not make; all others run.
"""

import errno
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout

from harness.contracts import plugins
from harness.contracts.executor import Bodies, Body, Executor, Failure, Tick, Watcher
from harness.contracts.settings import Runtime
from harness.contracts.steps import Step
from harness.store.store import Store
from harness.system.blame import called_exit, explained, plugin_fault
from harness.system.errors import Denied, Full, HarnessError
from harness.system.profile import quiet

EXECUTORS = "harness.executors"
SHARED = ("split",)  # kinds without which no row is made: where one fails there is nothing to go on for
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


def execute(
    steps: Sequence[Step], bodies: Bodies, store: Store, runtime: Runtime, watcher: Watcher
) -> dict[str, Failure]:
    """Run the steps by the runtime's executor; returns why those were not made that were not, by their keys.

    Raises a failure's error where nothing is left to go on for: the disk is full, or what all rows share was not made.
    """
    executor = plugins.make(EXECUTORS, runtime.executor, Executor, runtime.executor_options)
    course = Course(steps, watcher, store)
    try:
        if steps:
            executor.run(course, bodies, runtime.workers)
    finally:
        _leave()
    if left := [*course.waiting.values(), *course.running.values()]:
        raise HarnessError(
            f'executor {runtime.executor} stopped with {len(left)} steps to go, "{left[0].title}" first; it must go on '
            "while course.waiting or course.running has some."
        )
    return course.lost


def pending(goals: Iterable[Step], store: Store, steps: Sequence[Step]) -> list[Step]:
    """The steps that must run to have `goals`, in plan order: what is done hides what it was made from."""
    by_key = {step.key: step for step in steps}
    wanted: set[str] = set()

    def want(step: Step) -> None:
        """Take a step, and what it reads, unless it is done."""
        if step.key not in wanted and not store.done(step.stage):
            wanted.add(step.key)
            for stage in step.reads.values():
                want(by_key[stage.key])

    for goal in goals:
        want(goal)
    return [step for step in steps if step.key in wanted]


class Course:
    """How far a run has come: the steps that wait, in plan order, those under way, and those that are lost, with why.

    For one thread.
    """

    def __init__(self, steps: Sequence[Step], watcher: Watcher, store: Store) -> None:
        self.waiting = {step.key: step for step in steps}
        self.running: dict[str, Step] = {}
        self.lost: dict[str, Failure] = {}
        self.watcher, self.store = watcher, store
        self._began: dict[str, float] = {}
        self._raised: Exception | None = None
        watcher.expect(steps)

    def next(self, **room: float) -> Step | None:
        """The first step that waits for no other, if it fits beside those under way; none while it does not.

        `room` bounds what all that run take together of a field of `Resources`: next(processes=4, gpus=2). What needs
        more than there is runs alone. Nothing overtakes the first, so that it comes to its turn, but what takes none
        of what that one lacks and leaves it all else: while a judge is waited for, GPUs have work, and the other way.
        """
        for step in self.waiting.values():
            if self._ready(step):
                return step if self._fits((step,), room) else self._beside(step, room)
        if self.waiting and not self.running:
            raise HarnessError(f'"{next(iter(self.waiting.values())).title}" waits for a step that waits for it.')
        return None

    def start(self, step: Step) -> None:
        """The step begins now. HarnessError where it may not: an executor's own fault."""
        if step.key not in self.waiting or not self._ready(step):
            why = "what it reads is not made yet" if step.key in self.waiting else "it runs or has ended"
            raise HarnessError(f'the executor began "{step.title}" though {why}; it may begin what waits and is next.')
        self.running[step.key] = self.waiting.pop(step.key)
        self._began[step.key] = time.monotonic()
        self.watcher.started(step)

    def tick(self, step: Step, done: int, total: int) -> None:
        """A step under way has come so far. What the watcher raises is not the step's fault: `end` raises it."""
        if self._raised is None:
            try:
                self.watcher.ticked(step.key, done, total)
            except Exception as error:
                self._raised = error

    def end(self, step: Step, failed: Failure | None) -> None:
        """The step has ended; a failure takes the steps with it that would fail too, or raises its error."""
        if self.running.pop(step.key, None) is None:
            raise HarnessError(f'the executor ended "{step.title}", which it had not begun.')
        if failed is None and not self.store.done(step.stage):
            why = (
                f"{step.stage.name} is said to be made and is not in {self.store.root}; all machines must have the "
                "store at this path, and see what others wrote."
            )
            failed = Failure(step.title, HarnessError(why))
        if failed is None:
            self.watcher.finished(step, time.monotonic() - self._began[step.key])
        else:
            self._lose(step, failed)
        if self._raised is not None:
            raise self._raised

    def _ready(self, step: Step) -> bool:
        """Whether nothing that it reads, or lets go first, waits or runs."""
        before = (*(stage.key for stage in step.reads.values()), *step.after)
        return not any(key in self.waiting or key in self.running for key in before)

    def _fits(self, steps: Sequence[Step], room: Mapping[str, float]) -> bool:
        """Whether steps fit beside those under way."""
        busy = [one.resources for one in (*self.running.values(), *steps)]
        return not self.running or all(sum(getattr(one, name) for one in busy) <= most for name, most in room.items())

    def _beside(self, first: Step, room: Mapping[str, float]) -> Step | None:
        """What may overtake a step that does not fit."""
        if not self._fits((), room) or any(getattr(first.resources, name) > most for name, most in room.items()):
            return None  # what needs more than there is runs alone
        lacks = {name for name, most in room.items() if not self._fits((first,), {name: most})}
        rest = {name: most for name, most in room.items() if name not in lacks}
        for step in self.waiting.values():
            takes = any(getattr(step.resources, name) for name in lacks)
            if not takes and self._fits((first, step), rest) and self._ready(step):
                return step
        return None

    def _lose(self, step: Step, failed: Failure) -> None:
        taken = {step.key: step}
        refuses = step.resources.asks if isinstance(failed.error, Denied) else ""
        for other in self.waiting.values():  # what reads a step comes after it
            reads = any(stage.key in taken for stage in other.reads.values())
            if reads or (refuses and other.resources.asks == refuses):
                taken[other.key] = other
        if failed.ends or any(other.stage.kind in SHARED for other in taken.values()):
            raise failed.error
        for key, other in taken.items():
            self.waiting.pop(key, None)
            self.lost[key] = failed
            self.watcher.failed(other, str(failed.error) if other is step else "")


_here: tuple[Bodies, Body] | None = None  # what this process makes stages with


def _leave() -> None:
    """Nothing is made here any more: the next comparison loads a user's files as they are then."""
    global _here
    _here = None
    plugins.leave()


def attempt(bodies: Bodies, step: Step, tick: Tick = quiet) -> Failure | None:
    """Make a step's stage, or say why it could not be made: what an executor runs, in whichever process."""
    global _here
    try:
        if _here is None or _here[0] != bodies:
            _here = bodies, bodies()
        with redirect_stdout(sys.stderr):  # what a user's file prints is no result
            _here[1](step, tick)
    except Exception as error:
        return failure(step, error)
    except BaseException as stop:
        if isinstance(stop, KeyboardInterrupt) or not called_exit(stop):
            raise  # a signal to this process, not a plugin's own words
        return Failure(step.title, HarnessError(plugin_fault(stop)))
    return None


def failure(step: Step, error: Exception) -> Failure:
    """What a step's exception means. A disk that takes no more takes no other stage either."""
    refused = isinstance(error, HarnessError) and isinstance(error.__cause__, OSError)  # by the store
    full = isinstance(error, OSError) and error.errno in _FULL
    return Failure(step.title, explained(error), ends=refused or full or isinstance(error, Full))


def insist(lost: Mapping[str, Failure]) -> None:
    """Raise the first failure's error, where everything is needed."""
    for failed in lost.values():
        raise failed.error
