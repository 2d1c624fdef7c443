"""A simulation says how long the local executor takes, by what each step took: steps that sleep, in real workers."""

import json
import random
import time
from dataclasses import dataclass
from pathlib import Path

from harness.comparison.simulation import simulated
from harness.contracts.executor import Body, Tick
from harness.contracts.schedule import Course
from harness.contracts.steps import Step
from harness.executors.local import Local
from harness.store.store import Store
from tests.toy_steps import Watching, step, until

WORKERS = 3
OFF = 0.15  # of the measured time
READY = [step(f"ready {number}") for number in range(WORKERS)]


def graph() -> list[Step]:
    """Chains, fans, and some that take two workers; all after every worker has begun."""
    rng, steps = random.Random(5), list[Step]()
    for number in range(16):
        reads = rng.sample(steps, rng.randint(0, min(2, len(steps))))
        steps.append(step(f"{number}", *READY, *reads, processes=rng.choice([1, 1, 2])))
    return steps


def lasts(one: Step) -> float:
    return random.Random(one.title).uniform(0.2, 0.9)


@dataclass(frozen=True)
class Timed:
    """Makes a stage by sleeping, and notes when; the first wait for one another, so that all workers are there."""

    folder: Path

    def __call__(self) -> Body:
        return self.make

    def make(self, step: Step, tick: Tick) -> None:
        began = time.monotonic()
        if step in READY:
            (self.folder / step.title).touch()
            assert until(lambda: all((self.folder / one.title).exists() for one in READY))
        else:
            time.sleep(lasts(step))
        Store(self.folder / "store").run(step.stage, lambda out: None)
        with (self.folder / "log").open("a") as file:
            file.write(json.dumps([step.title, began, time.monotonic()]) + "\n")


def test_the_makespan_is_that_of_the_simulation(tmp_path: Path) -> None:
    steps = graph()
    Local().run(Course([*READY, *steps], Watching(), Store(tmp_path / "store")), Timed(tmp_path), WORKERS)
    ran = {
        title: (began, ended) for title, began, ended in map(json.loads, (tmp_path / "log").read_text().splitlines())
    }
    took = {one.key: ran[one.title][1] - ran[one.title][0] for one in steps}
    measured = max(ran[one.title][1] for one in steps) - max(ran[one.title][1] for one in READY)

    def off(workers: int, order: list[Step]) -> float:
        run = simulated(order, lambda one: took[one.key], {"processes": workers})
        return abs(run.seconds - measured) / measured

    assert off(WORKERS, steps) < OFF
    assert min(off(WORKERS - 1, steps), off(WORKERS + 2, steps)) > OFF, "so many workers or others: nothing is shown"
