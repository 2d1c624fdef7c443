"""Who runs steps: in this process, in worker processes, on a cluster. An executor is only the how.

What may begin, what a failure takes with it and what the watcher hears is decided by
`harness.contracts.schedule.Course`, for every executor alike. The simplest there is:

    class InOrder(Executor):
        def run(self, course, bodies, workers):
            while step := course.next():
                course.start(step)
                course.end(step, attempt(bodies, step, partial(course.tick, step)))
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from harness.system.errors import HarnessError

if TYPE_CHECKING:
    from harness.contracts.schedule import Course
    from harness.contracts.steps import Step

Tick = Callable[[int, int], None]  # (done, total) of work under way
Body = Callable[["Step", Tick], None]  # makes one step's stage in the store; does nothing where it is there already
Bodies = Callable[[], Body]  # picklable; called in every process that makes stages


@dataclass(frozen=True, slots=True)
class Resources:
    """What one step takes while it runs.

    processes: that compute side by side. gpus: of machines that have some, which no other step uses meanwhile; none of
    others. asks: the judge or writer whose replies it waits for, perhaps over the network; "" for none. nodes: over how
    many machines processes and GPUs are spread, as many on each; while the step runs on one, `harness.training.follow`
    is to run on each of the others.
    """

    processes: int = 1
    gpus: int = 0
    asks: str = ""
    nodes: int = 1

    @property
    def others(self) -> int:
        """Machines beside the one on which the step runs."""
        return self.nodes - 1

    @property
    def each(self) -> "Resources":
        """What it takes of each machine."""
        return replace(self, processes=self.processes // self.nodes, gpus=self.gpus // self.nodes, nodes=1)


@dataclass(frozen=True)
class Failure:
    """Why a stage was not made: the step that failed, the sentence, and whether every other step would fail too."""

    title: str
    error: HarnessError
    ends: bool = False


class Watcher(Protocol):
    """Who is told what happens: the terminal, a log, a test. Called by one thread; what it raises ends the run."""

    def expect(self, steps: "Sequence[Step]") -> None:
        """These steps will run."""

    def started(self, step: "Step") -> None:
        """The step was handed out."""

    def ticked(self, key: str, done: int, total: int) -> None:
        """The step with this key has come so far."""

    def finished(self, step: "Step", seconds: float) -> None:
        """The step is in the store."""

    def failed(self, step: "Step", why: str) -> None:
        """The step is not in the store; `why` is empty where it could not begin for lack of what it reads."""


@dataclass(frozen=True)
class Executor:
    """Runs a course's steps. A dataclass, whose fields are its options (`runtime.executor_options`).

    The file is `harness/executors/NAME.py`, or the user's own: `--executor ./mine.py`. How a comparison is run is in no
    stage's key, so an executor may change when and where a stage is made and nothing of what is in it.
    """

    def run(self, course: "Course", bodies: Bodies, workers: int) -> None:
        """Have every step of the course made by `schedule.attempt`; returns when nothing waits and nothing runs.

        That function may be called in any process on any machine that sees the store at the same path: `bodies` and
        steps can be pickled to get there, and what it returns to come back. `workers`: how many processes the user
        wants side by side where no cluster decides; `course.next(processes=workers)` keeps to it.

        It promises that
        - a step begins after `course.start` has allowed it, or once a scheduler that has the graph of `course.waiting`
          allows it: then all that it reads is in the store, and nobody has refused what it asks;
        - it begins once, and never beside itself; a node that was lost may have it begin again when its first body is
          known to have ended;
        - each of its ticks that is passed on comes in order between its start and its end, the last one always;
        - `course.end` hears how it ended, and that it was made only when it is in the store as this machine sees it;
        - whatever `course` raises (the disk is full, what all rows share was not made, the watcher failed), and a
          signal to this process (KeyboardInterrupt, SystemExit), leaves `run`, and by then every process that it has
          started has ended.

        HarnessError where the means fail: a worker that died, a cluster that cannot be reached.
        """
        raise NotImplementedError

    def shown(self, steps: "Sequence[Step]", root: Path) -> str:
        """What `--dry-run` shows of these steps beside the plan: what would be handed to others, and in which order.

        `root` is the store's folder. Starts nothing and asks nobody.
        """
        return ""
