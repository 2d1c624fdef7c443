"""The part of `harness check` that tries an executor: steps that take no time, one that fails, and what is told."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness.checking.promises import asked
from harness.contracts import plugins
from harness.contracts.executor import Body, Executor, Tick
from harness.contracts.schedule import EXECUTORS, Course
from harness.contracts.steps import Step
from harness.store.store import Stage, Store
from harness.system.errors import HarnessError, UsageError

KIND, FAILS = "check", "fails"


@dataclass(frozen=True)
class Bodies:
    """Makes stages with nothing in them but a word."""

    root: Path

    def __call__(self) -> Body:
        """A body, wherever it is called."""
        return self.make

    def make(self, step: Step, tick: Tick) -> None:
        """The step's stage; the one that fails has none."""
        if step.title == FAILS:
            raise HarnessError("as it should.")

        def fill(out: Path) -> None:
            tick(1, 1)
            (out / "word").write_text(step.title, encoding="utf-8")

        Store(self.root).run(step.stage, fill)


@dataclass
class Heard:
    """Which steps have begun and ended, in order."""

    told: list[tuple[str, str]] = field(default_factory=list)

    def expect(self, steps: Sequence[Step]) -> None:
        """They will run."""

    def started(self, step: Step) -> None:
        """Handed out."""
        self.told.append(("began", step.title))

    def ticked(self, key: str, done: int, total: int) -> None:
        """Under way."""

    def finished(self, step: Step, seconds: float) -> None:
        """Made."""
        self.told.append(("made", step.title))

    def failed(self, step: Step, why: str) -> None:
        """Not made."""
        self.told.append(("failed", step.title))


def check_executor(name: str, options: Mapping[str, Any], data: Path | None) -> Iterator[str]:
    """An executor: a diamond of steps in order, once each, and a step that fails with what reads it."""
    here = plugins.stem(name)
    executor = plugins.make(EXECUTORS, name, Executor, dict(options))
    a = _step("a")
    b, c = _step("b", a), _step("c", a)
    fails = _step(FAILS)
    steps = [a, b, c, _step("d", b, c), fails, _step("reads it", fails)]
    with TemporaryDirectory(prefix="harness-check-") as scratch:
        heard, store = Heard(), Store(Path(scratch))
        course = Course(steps, heard, store)
        asked(here, "run", lambda: executor.run(course, Bodies(Path(scratch)), 2))
        if left := [*course.waiting.values(), *course.running.values()]:
            raise UsageError(
                f'{here}.run stopped before "{left[0].title}"; wanted: it goes on while something waits or runs.'
            )
        lost = {step.title for step in steps if step.key in course.lost}
        if lost != {FAILS, "reads it"}:
            raise UsageError(
                f"{here}.run lost {', '.join(sorted(lost)) or 'nothing'}; wanted: {FAILS} and what reads it."
            )
    made = [title for what, title in heard.told if what == "made"]
    yield f"{here}: {len(made)} steps in order, each once; one that fails takes what reads it and nothing else"
    yield f"{here}: not tried: what signals, a full disk and a machine that is lost do (tests/seams/test_executor.py)"


def _step(title: str, *reads: Step) -> Step:
    return Step(title, Stage(KIND, {"name": title}, {read.title: read.stage for read in reads}))
