"""Runs steps on this machine: in this process, or in worker processes side by side.

A worker has one CPU thread, so that a number does not depend on how many workers there are. It has a line to this
process for one step at a time, its ticks and its end; and it goes when this process is gone, however that ends. On a
machine with GPUs it sees so many as its steps need, from its birth on, and no two that are at work see the same one.
"""

import atexit
import gc
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait

from harness.contracts.executor import Bodies, Executor
from harness.contracts.schedule import Course, attempt
from harness.contracts.stage import packages
from harness.contracts.steps import Step
from harness.executors._hosts import Helpers, helpers_of
from harness.system import lifeline, machine
from harness.system.console import install
from harness.system.errors import HarnessError

SLOW = "torch", "transformers.modeling_utils", "peft"  # what a step imports whose code imports transformers
SETTLED_S = 10.0  # for a worker to end by itself, with nothing left to do, before it is killed


@dataclass(frozen=True)
class Local(Executor):
    """This machine, and for trainings over several those of a hostfile."""

    hostfile: str = ""
    """The machines of a training over several (`runtime.nodes`), in DeepSpeed's form: a line "HOST slots=GPUS" each,
    this machine first; the others are reached by SSH, without a password."""

    def run(self, course: Course, bodies: Bodies, workers: int) -> None:
        """In this process where `workers` is 1 or there is one step, else in up to so many others."""
        helpers = helpers_of(self.hostfile, course)
        if workers == 1 or len(course.waiting) == 1:
            while step := course.next():
                course.start(step)
                with helpers.of(step):
                    failed = attempt(bodies, step, partial(course.tick, step))
                course.end(step, failed)
            return
        pool: list[Worker] = []
        gpus = machine.gpus()
        room = {"processes": workers, "others": len(helpers.hosts), **({"gpus": len(gpus)} if gpus else {})}
        try:
            while course.waiting or course.running:
                while step := course.next(**room):
                    course.start(step)
                    _idle(pool, bodies, gpus, step.resources.each.gpus, helpers).begin(step)
                lines = {worker.line: worker for worker in pool}
                for line in wait(list(lines)):
                    assert isinstance(line, Connection)
                    lines[line].tell(course)
        finally:
            _end(pool, at_once=bool(course.waiting or course.running))


class Worker:
    """A process that makes one stage after the other, as this one hands them out."""

    def __init__(self, bodies: Bodies, sees: tuple[str, ...] | None, helpers: Helpers) -> None:
        """`sees`: the GPUs that it sees; None: whatever there is. `helpers`: what runs beside a step elsewhere."""
        context = get_context("spawn")
        self.line, self._its = context.Pipe()
        told = self._its, os.getpid(), sees, os.environ.get(lifeline.SAFE_PATH)
        self.process = context.Process(target=_work, args=told)
        self.sees, self._orders = sees, (bodies, helpers)
        self.step: Step | None = None

    def start(self) -> None:
        """Let it run (`lifeline.start`); from then on the line ends when the process does."""
        lifeline.start(self.process)
        self._its.close()
        self._send(self._orders)  # the line breaks where it has died; what it is born with would wait for ever

    def begin(self, step: Step) -> None:
        """Hand it a step."""
        self.step = step
        self._send(step)

    def _send(self, what: object) -> None:
        try:
            self.line.send(what)
        except OSError:
            raise _died() from None

    def tell(self, course: Course) -> None:
        """Pass on what it says: how far it has come, or how its step ended."""
        try:
            said = self.line.recv()
        except (EOFError, OSError):
            raise _died() from None
        assert self.step is not None
        if isinstance(said, tuple):
            course.tick(self.step, *said)
        else:
            ended, self.step = self.step, None
            course.end(ended, said)


def _idle(pool: list[Worker], bodies: Bodies, gpus: tuple[str, ...], needs: int, helpers: Helpers) -> Worker:
    """A worker that has nothing to do and sees as many GPUs as are needed, a new one where there is none.

    Idle ones that see some of a new one's end before it begins: what they have loaded would take its memory.
    """
    idle = [worker for worker in pool if worker.step is None]
    for worker in idle:
        if worker.sees is None or len(worker.sees) == min(needs, len(gpus)):
            return worker
    busy = {gpu for worker in pool if worker.step for gpu in worker.sees or ()}
    sees = tuple(gpu for gpu in gpus if gpu not in busy)[:needs] if gpus else None
    taken = [worker for worker in idle if {*(worker.sees or ())} & {*(sees or ())}]
    pool[:] = [worker for worker in pool if worker not in taken]
    _end(taken, at_once=False)
    pool.append(Worker(bodies, sees, helpers))  # before it starts, so that whatever comes between, it is ended
    pool[-1].start()
    return pool[-1]


def _died() -> HarnessError:
    return HarnessError(
        "a worker process died (out of memory? unless another cause stands above); what was finished is kept, so run "
        "the same command again, with --workers 1 if memory is short."
    )


def _end(pool: list[Worker], at_once: bool) -> None:
    """Until no worker is left. They end by themselves when their line does, and give back what they hold."""
    begun = [worker for worker in pool if worker.process.pid is not None]
    for worker in begun:
        if at_once:
            worker.process.terminate()
        worker.line.close()
    for worker in begun:
        worker.process.join(SETTLED_S)
        worker.process.kill()
        worker.process.join()


def _work(line: Connection, parent: int, sees: tuple[str, ...] | None, told: str | None) -> None:
    """A worker's life: it goes when its parent is gone."""
    atexit.register(_gone)  # the first, and so called last
    lifeline.safe_path(told)
    if sees is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(sees)  # before anything asks for a device
    install()
    here = parent_process()
    assert here is not None, "a worker was started by this module"
    lifeline.follow(parent, here.sentinel)
    try:
        bodies, helpers = line.recv()
    except EOFError:
        return
    while True:
        try:
            step = line.recv()
        except EOFError:
            return
        _import(step)
        with helpers.of(step):
            failed = attempt(bodies, step, lambda done, total: line.send((done, total)))
        line.send(failed)


def _gone() -> None:
    """End here: to take apart what was imported and loaded would take a second, in which nothing else is done."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _import(step: Step) -> None:
    """Import what takes seconds, where the step is the first to need it, and leave it out of every garbage collection.

    One looks at all that was imported, hundreds of thousands of objects, each time a model is let go; none is here yet.
    """
    if "transformers" in packages(step.stage) and not set(SLOW) <= sys.modules.keys():
        gc.disable()
        with suppress(Exception):  # what is broken, the step says
            for module in SLOW:
                import_module(module)
        gc.enable()
        gc.freeze()
