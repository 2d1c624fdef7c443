"""Makes the stages of steps. GPU work ends at `generate`; `score` and `report` are cheap."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from harness.contracts import plugins
from harness.contracts.row import Row
from harness.contracts.settings import Runtime, Testbed
from harness.contracts.stage import Kind, Work, packages
from harness.contracts.steps import Request, Step
from harness.store.closure import SOURCES, Read
from harness.store.contents import CONTENTS
from harness.store.store import Store
from harness.system.machine import seldom_collected
from harness.system.profile import Tick

STAGES = "harness.stages"


def kind(name: str) -> type[Kind]:
    """The kind of stages of this name; UsageError where there is none."""
    return plugins.plugin(STAGES, name, Kind)


@dataclass(frozen=True)
class Bodies:
    """Makes stages. Picklable, so that a worker process can have one; call it to get the body of a step.

    `adopted` are the outside files that the process which makes this one has taken in, `editions` what it has loaded of
    outside files, `ours` our own as it has read them for keys.
    """

    root: str
    testbed: Testbed
    request: Request
    runtime: Runtime
    adopted: plugins.Adopted = field(default_factory=plugins.adopted)
    editions: plugins.Editions = field(default_factory=plugins.editions)
    ours: dict[Path, Read] = field(default_factory=SOURCES.known)

    def __call__(self) -> Callable[[Step, Tick], None]:
        """A body bound to an open store."""
        CONTENTS.keep(Path(self.root))
        plugins.adopt_all(self.adopted)
        plugins.hold(self.editions)
        SOURCES.hold(self.ours)
        return Worker(Store(Path(self.root)), self.testbed, self.request, self.runtime).run


@dataclass(frozen=True)
class Worker:
    """Makes the stages of one request. `rows` are those that it has resolved, each where it is needed first."""

    store: Store
    testbed: Testbed
    request: Request
    runtime: Runtime
    rows: dict[str, Row] = field(default_factory=dict)

    def run(self, step: Step, tick: Tick) -> None:
        """Make the step's stage, unless somebody made it meanwhile, with the code that its key has."""
        made = kind(step.stage.kind).of(step)
        small = "transformers" not in packages(step.stage) and not step.resources.asks

        def fill(out: Path) -> None:
            """Make it while its code is what the key says; HarnessError otherwise."""
            with SOURCES.held(*step.sources), seldom_collected() if small else nullcontext():
                made.fill(self.work(step, out, tick))

        self.store.run(step.stage, fill)

    def work(self, step: Step, out: Path, tick: Tick) -> Work:
        """What the step's body is handed."""
        row = self.row(step.row) if step.row else None
        return Work(step, out, tick, self.store, self.testbed, self.request, self.runtime, row)

    def row(self, name: str) -> Row:
        """The request's row of this id."""
        if name not in self.rows:
            (spec,) = (spec for spec in self.request.methods if spec.id == name)
            self.rows[name] = Row.of(spec, self.testbed)
        return self.rows[name]
