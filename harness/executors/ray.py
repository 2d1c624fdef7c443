"""Runs steps as tasks of a Ray cluster whose machines see the store at one path.

Ray says where there is room and begins a task anew whose machine was lost. Each step has a process of its own, and says
how far it is in its folder of the store (`harness.executors._job`).
"""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.contracts.executor import Bodies, Executor, Failure
from harness.contracts.schedule import Course
from harness.contracts.steps import Step
from harness.executors import _job
from harness.system.errors import Gone, HarnessError, UsageError

BEAT_S = 0.25  # between looks at how far tasks are
ENDED_S = 30.0  # for cancelled tasks to be gone


@dataclass(frozen=True)
class Ray(Executor):
    """A Ray cluster."""

    address: str = ""
    """Of its head ("auto" on one of its machines); without one, this machine alone with so many tasks as --workers."""
    retries: int = 3
    """How often a step begins anew whose machine was lost."""

    def run(self, course: Course, bodies: Bodies, workers: int) -> None:
        """By tasks, as many as the cluster has room for."""
        if find_spec("ray") is None:
            raise UsageError("--executor ray needs Ray: pip install 'vlm-alignment-harness[ray]'.")
        with cluster(self.address, workers) as ray:
            tasks = Tasks(ray, course, bodies, self.retries)
            try:
                tasks.run()
            finally:
                tasks.cancel()


@contextmanager
def cluster(address: str, workers: int) -> Iterator[Any]:
    """Ray, connected; a cluster of this machine is gone afterwards. HarnessError where none answers."""
    import ray

    how = {"address": address} if address else {"num_cpus": workers, "include_dashboard": False}
    try:
        ray.init(**how, logging_level="error", log_to_driver=True)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise HarnessError(
            f"no Ray cluster answers at {address or 'this machine'}: {error}; see to ray status."
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


class Tasks:
    """The tasks of one run, by Ray's references to them."""

    def __init__(self, ray: Any, course: Course, bodies: Bodies, retries: int) -> None:
        self.ray, self.course, self.bodies = ray, course, bodies
        self.make = ray.remote(max_calls=1, max_retries=retries)(make)
        self.retries = retries
        self.tasks: dict[Any, Step] = {}
        self.spread: dict[str, Spread] = {}  # by a step's key: what it has on further machines
        self.again, self.ticked = Counter[str](), Counter[str]()

    def run(self) -> None:
        """Until nothing waits and nothing runs."""
        while self.course.waiting or self.course.running:
            has = self.ray.cluster_resources()
            room = {"processes": has.get("CPU", 1)} | ({"gpus": has["GPU"]} if has.get("GPU") else {})
            while step := self.course.next(**room):
                self.course.start(step)
                self.tasks[self._begin(step, has)] = step
            ready, _ = self.ray.wait([*self.tasks], timeout=BEAT_S)
            for task in [*self.tasks]:
                self._pass_on(self.tasks[task])
                if task in ready:
                    step = self.tasks.pop(task)
                    failed = self._end(task, step)
                    if failed and isinstance(failed.error, Gone) and self.again[step.key] < self.retries:
                        self.again[step.key] += 1
                        self.tasks[self._begin(step, has)] = step
                    else:
                        self.course.end(step, failed)

    def _begin(self, step: Step, has: dict[str, float]) -> Any:
        """Hand a step to the cluster; it takes no more than there is."""
        folder, takes = _job.folder_of(self.course.store.root, step.key), step.resources
        _job.give(folder, self.bodies, step, ())
        room = {
            "num_cpus": min(takes.each.processes, has.get("CPU", 1)),
            "num_gpus": min(takes.each.gpus, has.get("GPU", 0)),
        }
        given = str(folder), sys.path, str(Path.cwd())
        if not takes.others:
            return self.make.options(name=step.title, **room).remote(*given)
        spread = self.spread[step.key] = Spread(self.ray, takes.nodes, room)
        first, *spread.tasks = (
            self.make.options(name=f"{step.title}, machine {node + 1}", **room, **spread.at(node)).remote(*given, node)
            for node in range(takes.nodes)
        )
        return first

    def _pass_on(self, step: Step) -> None:
        for done, total in _job.ticks(_job.folder_of(self.course.store.root, step.key)):
            if done > self.ticked.get(step.key, 0):
                self.ticked[step.key] = done
                self.course.tick(step, done, total)

    def _end(self, task: Any, step: Step) -> Failure | None:
        """How a task ended."""
        if spread := self.spread.pop(step.key, None):
            spread.end()
        try:
            end: _job.End = self.ray.get(task)
        except self.ray.exceptions.RayError as error:
            why, *_ = str(error).strip().splitlines() or ["without a word"]
            lost = f"its task was lost ({type(error).__name__}: {why}); give the same command again."
            return Failure(step.title, HarnessError(lost))
        self._pass_on(step)
        return end.failure

    def cancel(self) -> None:
        """Take away the tasks that are under way, and wait until they are gone."""
        for task in self.tasks:
            self.ray.cancel(task, force=True)
        if self.tasks:
            self.ray.wait([*self.tasks], num_returns=len(self.tasks), timeout=ENDED_S)
        for spread in self.spread.values():
            spread.end()


class Spread:
    """Room on several machines of a cluster, and the tasks on all but the first of them."""

    def __init__(self, ray: Any, nodes: int, room: dict[str, float]) -> None:
        """HarnessError where there are not so many machines."""
        from ray.util import placement_group

        there = sum(node["Alive"] for node in ray.nodes())
        if there < nodes:
            raise HarnessError(f"runtime.nodes={nodes}, and the Ray cluster has {there} machines; see to ray status.")
        bundle = {"CPU": room["num_cpus"], "GPU": room["num_gpus"]}
        bundles = [{name: count for name, count in bundle.items() if count}] * nodes
        self.ray, self.group = ray, placement_group(bundles, strategy="STRICT_SPREAD")
        self.tasks: list[Any] = []

    def at(self, node: int) -> dict[str, Any]:
        """Options of the task that runs on one of them."""
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        return {"scheduling_strategy": PlacementGroupSchedulingStrategy(self.group, placement_group_bundle_index=node)}

    def end(self) -> None:
        """Take the tasks and the room away."""
        from ray.util import remove_placement_group

        for task in self.tasks:
            self.ray.cancel(task, force=True)
        if self.tasks:
            self.ray.wait(self.tasks, num_returns=len(self.tasks), timeout=ENDED_S)
        remove_placement_group(self.group)


def make(folder: str, path: list[str], place: str, node: int = 0) -> "_job.End | None":
    """A task: the step of a job's folder, made; paths start where the command was given, not where Ray was."""
    os.chdir(place)
    sys.path[:] = path
    _job.main(Path(folder), node)
    return _job.end_of(Path(folder))
