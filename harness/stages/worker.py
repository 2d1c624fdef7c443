"""Runs steps: finds the body of each kind of stage. GPU work ends at `generate`; `score` and `report` are cheap."""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from harness import plugins
from harness.config import Runtime, Testbed
from harness.contents import CONTENTS
from harness.profile import Tick
from harness.stages.work import Work
from harness.steps import Request, Step
from harness.store import Store


def body_of(kind: str) -> Callable[[Work], None]:
    """The function that fills a stage of this kind."""
    body: Callable[[Work], None] = getattr(import_module(f"harness.stages.{kind}"), kind)
    return body


@dataclass(frozen=True)
class Bodies:
    """Makes stages. Picklable, so that a worker process can have one; call it to get the body of a step.

    `adopted` are the outside files that the process which makes this one has taken in.
    """

    root: str
    testbed: Testbed
    request: Request
    runtime: Runtime
    adopted: plugins.Adopted = field(default_factory=plugins.adopted)

    def __call__(self) -> Callable[[Step, Tick], None]:
        """A body bound to an open store."""
        CONTENTS.keep(Path(self.root))
        plugins.adopt_all(self.adopted)
        return Worker(Store(Path(self.root)), self.testbed, self.request, self.runtime).run


@dataclass(frozen=True)
class Worker:
    """Makes the stages of one request."""

    store: Store
    testbed: Testbed
    request: Request
    runtime: Runtime

    def run(self, step: Step, tick: Tick) -> None:
        """Make the step's stage, unless somebody made it meanwhile."""
        body = body_of(step.stage.kind)
        self.store.run(step.stage, lambda out: body(self.work(step, out, tick)))

    def work(self, step: Step, out: Path, tick: Tick) -> Work:
        """What the step's body is handed."""
        return Work(step, out, tick, self.store, self.testbed, self.request, self.runtime)
