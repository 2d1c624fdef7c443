"""What a training takes on this machine, both sides in one run: thread-CPU time in turns, memory in processes apart."""

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from harness.contracts import plugins
from harness.contracts.method import Method
from harness.system.profile import quiet
from harness.training.deepspeed_engine import distributed, local_rank
from harness.training.engine import Run
from harness.training.job import Job
from tests.perf import work
from tests.perf.work import Case
from tests.trl_side import ours, trl_trainer, trls

SKIPPED = 2  # steps, in which either side sets itself up


class Turns:
    """Two threads take a step each in turn; `spent` has thread-CPU seconds from the end of a step to the next one's."""

    def __init__(self) -> None:
        self.spent: tuple[list[float], list[float]] = ([], [])
        self._last: list[float | None] = [None, None]
        self._turn, self._gone, self._changed = 0, set[int](), threading.Condition()

    def wait(self, side: int) -> None:
        """Until it is this side's turn, or the other has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._turn == side or 1 - side in self._gone)

    def stepped(self, side: int) -> None:
        """Note what the step took, let the other go on, and wait for it."""
        now = time.thread_time()
        if (last := self._last[side]) is not None:
            self.spent[side].append(now - last)
        self._pass(side)
        self.wait(side)
        self._last[side] = time.thread_time()

    def ended(self, side: int) -> None:
        """No more steps of this side; the other need not wait."""
        self._gone.add(side)
        self._pass(side)

    def _pass(self, side: int) -> None:
        with self._changed:
            self._turn = 1 - side
            self._changed.notify_all()

    @property
    def ratio(self) -> float:
        """The other side's median over the first one's."""
        first, second = (statistics.median(spent[SKIPPED:]) for spent in self.spent)
        return second / first


def in_turns(job: Job, case: Case) -> float:
    """Thread-CPU of TRL's steps over ours, everything between two steps included: collator, transfers, log."""
    turns = Turns()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LOCAL_RANK", raising=False)
        patch.setattr("trl.trainer.utils._use_triton", lambda device: True)  # its head as on CUDA, which is less work
        trainer = trl_trainer(job, work.processor(job))
        if case.method == "nsft":
            trainer.data_collator = work.turns(job)

        class Step(TrainerCallback):  # type: ignore[misc]
            def on_step_end(self, *args: Any, **named: Any) -> None:
                turns.stepped(1)

        trainer.add_callback(Step())
        with local_rank():
            run = Run(job, plugins.make("methods", job.method, Method, job.options), *distributed())
        patch.setattr(run, "ahead", lambda trees, after: run.prepared(trees))  # on the thread that is measured
        step = run.step

        def stepped(*args: Any) -> dict[str, float]:
            line = step(*args)
            turns.stepped(0)
            return line

        patch.setattr(run, "step", stepped)
        sides = [threading.Thread(target=side, args=(number, turns, what)) for number, what in
                 enumerate((lambda: run.steps(0, quiet), trainer.train))]  # fmt: skip
        for thread in sides:
            thread.start()
        for thread in sides:
            thread.join()
        run.engine.destroy()
    return turns.ratio


def side(number: int, turns: Turns, what: Callable[[], Any]) -> None:
    """One side's thread."""
    torch.set_num_threads(1)
    try:
        turns.wait(number)
        what()
    finally:
        turns.ended(number)


def peaks(model: Path, case: Case, home: Path) -> float:
    """How much memory our training takes on top of what its process had before, over how much TRL's takes."""
    least = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}  # what is freed is gone
    taken = []
    for name in ("ours", "trl"):
        told = [str(model), *map(str, case), str(home / name), name]
        ran = subprocess.run([sys.executable, "-W", "ignore", "-m", "tests.perf.costs", *told], capture_output=True,
                             text=True, check=True, env=os.environ | least)  # fmt: skip
        taken.append(json.loads(ran.stdout.splitlines()[-1]))
    return float(taken[0] / taken[1])


def most(model: str, method: str, answer: str, lora: str, home: str, name: str) -> int:
    """KiB by which this process grows in a training of four records at a time, at the worst moment."""
    import trl  # noqa: F401  # both processes begin with the same

    case = Case(method, int(answer), lora == "True")
    job = work.job(case, Path(model), Path(home), micro=4)
    work.seen(job)
    work.referred(job)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = resident("VmRSS")
    if name == "ours":
        ours(job, pixels=False)
    else:
        trls(job, work.processor(job), pixels=False, collator=work.turns(job) if method == "nsft" else None)
    return resident("VmHWM") - before


def resident(name: str) -> int:
    """KiB of this process's memory, now (VmRSS) or at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


if __name__ == "__main__":
    print(json.dumps(most(*sys.argv[1:])))
