"""Runs steps one after the other in this process: the smallest executor there is."""

from functools import partial

from harness.contracts.executor import Bodies, Executor
from harness.contracts.schedule import Course, attempt


class InOrder(Executor):
    """This process alone."""

    def run(self, course: Course, bodies: Bodies, workers: int) -> None:
        """Each step that may begin, until none is left."""
        while step := course.next():
            course.start(step)
            course.end(step, attempt(bodies, step, partial(course.tick, step)))
