"""Steps without a model, for whoever runs steps: each writes down when it ran, and makes a text of what it reads.

`python -m tests.toy_steps EXECUTOR FOLDER [SECONDS]` runs a few as the command line would, each so long.
"""

import errno
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

from harness.contracts import plugins
from harness.contracts.executor import Body, Executor, Failure, Resources, Tick
from harness.contracts.schedule import EXECUTORS, Course
from harness.contracts.steps import Step
from harness.store.store import Stage, Store
from harness.system.errors import Denied, HarnessError

TICKS = 5
PATIENCE_S = 60  # for what must happen on a machine that may be busy
FAULTS: dict[str, Callable[[], BaseException]] = {
    "error": lambda: HarnessError("no."),
    "denied": lambda: Denied("401."),
    "full": lambda: OSError(errno.ENOSPC, "No space left"),
}
Event = tuple[str, str, int]  # "began", "made" or "ended", a step's title, the process


def step(
    title: str,
    *reads: Step,
    derived: Sequence[Step] = (),
    after: Sequence[Step] = (),
    kind: str = "toy",
    **takes: int | str,
) -> Step:
    """A step of this title that reads these, and takes so much of `Resources`."""
    inputs = {read.title: read.stage for read in reads}
    aside = {read.title: read.stage for read in derived}
    first = tuple(one.key for one in after)
    resources = replace(Resources(), **takes)  # type: ignore[arg-type]
    return Step(title, Stage(kind, {"name": title}, inputs), aside, first, resources=resources)


def text(step: Step) -> str:
    """What a step makes: its name and digests of what it reads."""
    return _text(step.stage, {name: _text(read, None) for name, read in step.reads.items()})


def _text(stage: Stage, read: Mapping[str, str] | None) -> str:
    read = {name: _text(one, None) for name, one in stage.inputs.items()} if read is None else read
    return str(stage.identity["name"]) + "".join(sha256(read[name].encode()).hexdigest()[:8] for name in sorted(read))


@dataclass(frozen=True)
class Toy:
    """Makes toy stages in the store `folder/store` and notes it in `folder/log`.

    `faults`: a step's title -> which of `FAULTS` it meets. `hold_s`: how long each takes at least; `long_s`: a step's
    title -> how much longer it takes.
    """

    folder: Path
    faults: Mapping[str, str] = field(default_factory=dict)
    hold_s: float = 0.0
    long_s: Mapping[str, float] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return Store(self.folder / "store")

    @property
    def log(self) -> list[Event]:
        """What has begun and ended, in order."""
        file = self.folder / "log"
        return [tuple(json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []

    def __call__(self) -> Body:
        return self.make

    def note(self, event: str, step: Step) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("a") as file:
            file.write(json.dumps([event, step.title, os.getpid()]) + "\n")

    def make(self, step: Step, tick: Tick) -> None:
        self.note("began", step)
        try:
            self.store.run(step.stage, lambda out: self.fill(step, tick, out))
        finally:
            self.note("ended", step)

    def fill(self, step: Step, tick: Tick, out: Path) -> None:
        for done in range(1, TICKS + 1):
            time.sleep((self.hold_s + self.long_s.get(step.title, 0.0)) / TICKS)
            tick(done, TICKS)
        if step.title in self.faults:
            raise FAULTS[self.faults[step.title]]()
        read = {name: (self.store.path(stage) / "text").read_text() for name, stage in step.reads.items()}
        (out / "text").write_text(_text(step.stage, read))
        self.note("made", step)


class Watching:
    """Keeps what it is told. `raises`: the call in which it fails, as a terminal that is gone would."""

    def __init__(self, raises: str = "") -> None:
        self.told: list[tuple[Any, ...]] = []
        self.raises = raises

    def expect(self, steps: Sequence[Step]) -> None:
        self._keep("expect", *(step.title for step in steps))

    def started(self, step: Step) -> None:
        self._keep("started", step.title)

    def ticked(self, key: str, done: int, total: int) -> None:
        self._keep("ticked", key, done, total)

    def finished(self, step: Step, seconds: float) -> None:
        self._keep("finished", step.title)

    def failed(self, step: Step, why: str) -> None:
        self._keep("failed", step.title, why)

    def _keep(self, what: str, *about: object) -> None:
        self.told.append((what, *about))
        if what == self.raises:
            raise OSError(errno.EIO, "the terminal is gone")


@dataclass(frozen=True)
class Ran:
    """What became of steps: what their bodies noted, what the watcher was told, what was lost, what `run` raised."""

    steps: Sequence[Step]
    toy: Toy
    log: list[Event]
    told: list[tuple[Any, ...]]
    lost: dict[str, Failure]
    raised: BaseException | None

    def at(self, event: str, title: str) -> int:
        """The place of the first such event in the log."""
        return next(place for place, (what, name, _) in enumerate(self.log) if (what, name) == (event, title))

    @property
    def began(self) -> list[str]:
        return [title for event, title, _ in self.log if event == "began"]


def run(
    executor: Executor,
    toy: Toy,
    steps: Sequence[Step],
    workers: int = 2,
    raises: str = "",
) -> Ran:
    """The steps, run."""
    watcher, raised = Watching(raises), None
    course = Course(steps, watcher, toy.store)
    try:
        executor.run(course, toy, workers)
    except Exception as error:
        raised = error
    return Ran(steps, toy, toy.log, watcher.told, course.lost, raised)


def made(name: str) -> Executor:
    """An executor by its name or file, or as MODULE:CLASS."""
    if ":" in name:
        module, _, cls = name.partition(":")
        return getattr(import_module(module), cls)()  # type: ignore[no-any-return]
    return plugins.make(EXECUTORS, name, Executor, {})


def until(holds: Callable[[], object], patience_s: float = PATIENCE_S) -> bool:
    """Wait, within patience, until something holds."""
    end = time.monotonic() + patience_s
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(holds())


def living(processes: set[int]) -> set[int]:
    """Those that have not ended."""
    alive = set()
    for process in processes:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            alive.add(process)
    return alive


if __name__ == "__main__":
    from tests.toy_steps import Toy  # the one that other processes know

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    name, folder, *seconds = sys.argv[1:]
    firsts = [step(title) for title in "abcd"]
    ran = run(made(name), Toy(Path(folder), hold_s=float(*seconds or [600])), [*firsts, step("last", *firsts)])
    sys.exit(str(ran.raised or "") or len(ran.lost))
