"""What shows how far a run has come: one live block on a terminal, a line per step elsewhere; all on stderr."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from harness.comparison.forecast import Forecast, together
from harness.contracts.executor import Watcher
from harness.contracts.steps import Step
from harness.store.store import Store
from harness.system.console import console, duration

ALL = "all stages"
BAR, STATE = 12, 34  # columns of a bar, and the most that stand behind it


class Silent:
    """Says nothing."""

    def expect(self, steps: Sequence[Step]) -> None:
        """These steps will run."""

    def started(self, step: Step) -> None:
        """A step began."""

    def ticked(self, key: str, done: int, total: int) -> None:
        """A step came further."""

    def finished(self, step: Step, seconds: float) -> None:
        """A step is done."""

    def failed(self, step: Step, why: str) -> None:
        """A step failed, or (without a reason) one that reads it."""


class Lines(Silent):
    """One line per finished step: for logs and pipes."""

    def __init__(self) -> None:
        self.total = self.count = 0

    def expect(self, steps: Sequence[Step]) -> None:
        """Remember how many there will be."""
        self.total += len(steps)

    def finished(self, step: Step, seconds: float) -> None:
        """Say so."""
        self.count += 1
        typer.echo(f"[{self.count}/{self.total}] {step.title}: {seconds:.1f} s", err=True)

    def failed(self, step: Step, why: str) -> None:
        """Say so; what waited for it is not counted any more."""
        if why:
            self.count += 1
            typer.echo(f"[{self.count}/{self.total}] {step.title}: FAILED: {why}", err=True)
        else:
            self.total -= 1


class Bars(Silent):
    """A bar per running step and one for all, with the time left as far as it is known."""

    def __init__(self, progress: Progress, left: "Left", verbose: bool) -> None:
        self.progress, self.left, self.verbose = progress, left, verbose
        self.all = progress.add_task(ALL, total=0)
        self.bars: dict[str, TaskID] = {}

    def expect(self, steps: Sequence[Step]) -> None:
        """Set the length of the bar for all steps."""
        self.left.expect(steps)
        self.progress.update(self.all, total=(self.progress.tasks[0].total or 0) + len(steps))

    def started(self, step: Step) -> None:
        """Show the step's bar."""
        self.left.started(step)
        self.bars[step.key] = self.progress.add_task(step.title, total=None)

    def ticked(self, key: str, done: int, total: int) -> None:
        """Move the step's bar."""
        if key in self.bars:
            self.progress.update(self.bars[key], completed=done, total=total)

    def finished(self, step: Step, seconds: float) -> None:
        """Take the step's bar away, and leave a line only for those who want it."""
        self._end(step, seconds)
        if self.verbose:
            self.progress.console.print(Text(f"{step.title}: {seconds:.1f} s", style="dim"))

    def failed(self, step: Step, why: str) -> None:
        """Take the step's bar away, if it has one, and say why."""
        self._end(step, None)
        if why:
            self.progress.console.print(Text(f"{step.title}: FAILED: {why}", style="red"))

    def _end(self, step: Step, seconds: float | None) -> None:
        self.left.ended(step, seconds)
        if step.key in self.bars:
            self.progress.remove_task(self.bars.pop(step.key))
        self.progress.advance(self.all)


class Left:
    """When a run will be done, by what its steps took before and take now; says nothing where nothing is known."""

    def __init__(self, store: Store, workers: int) -> None:
        self.forecast, self.workers = Forecast(store), workers
        self.waiting: dict[str, Step] = {}
        self.running: dict[str, tuple[Step, float]] = {}
        self.at, self.whole = 0.0, True

    def expect(self, steps: Sequence[Step]) -> None:
        """These steps will run."""
        self.forecast.learn(steps)
        self.waiting |= {step.key: step for step in steps}
        self._look()

    def started(self, step: Step) -> None:
        """A step began."""
        self.waiting.pop(step.key, None)
        self.running[step.key] = step, time.monotonic()

    def ended(self, step: Step, seconds: float | None) -> None:
        """A step is done; None where it was not made."""
        self.waiting.pop(step.key, None)
        self.running.pop(step.key, None)
        if seconds is not None:
            self.forecast.add(step, seconds)
        self._look()

    def _look(self) -> None:
        now, of = time.monotonic(), self.forecast.of
        took = {step.key: of(step) for step in (*self.waiting.values(), *(step for step, _ in self.running.values()))}
        rest = {key: (took[key] or 0.0) - (now - began) for key, (_, began) in self.running.items()}
        self.whole = None not in took.values() and min(rest.values(), default=0.0) >= 0
        running = [(step, max(rest[key], 0.0)) for key, (step, _) in self.running.items()]
        steps = [*self.waiting.values()]
        self.at = now + together(steps, lambda step: took[step.key] or 0.0, self.workers, running)

    def __str__(self) -> str:
        """In words; empty where nothing is known, or where what was known has passed."""
        left = self.at - time.monotonic()
        return f"{'about' if self.whole else 'more than'} {duration(left)} left" if left >= 0.5 else ""


class State(TimeRemainingColumn):
    """How many of how many and the time left: of all steps by `Left`, of a running one by its own pace."""

    def __init__(self, left: Left) -> None:
        super().__init__(table_column=Column(no_wrap=True))
        self.left = left

    def render(self, task: Any) -> Text:
        """Nothing of a step that has not said how much there is."""
        if task.total is None:
            return Text("")
        done = f"{task.completed:.0f}/{task.total:.0f}"
        if task.description == ALL:
            return Text(f"{done}  {self.left}")
        speed = f"  {task.speed:.1f}/s" if task.speed else ""
        return Text(f"{done}{speed}  ").append_text(super().render(task))


@contextmanager
def watching(store: Store, workers: int, quiet: bool = False, verbose: bool = False) -> Iterator[Watcher]:
    """A live block on a terminal, lines elsewhere, nothing if quiet; with `verbose` finished steps leave a line."""
    if quiet:
        yield Silent()
    elif not sys.stderr.isatty():
        yield Lines()
    else:
        left = Left(store, workers)
        shown = console(err=True)
        title = Column(no_wrap=True, max_width=max(10, shown.width - STATE - BAR - 2))
        cells = (TextColumn("{task.description}", markup=False, table_column=title), BarColumn(BAR), State(left))
        # what others print must not pass through it: rich would take their escape sequences for styles
        whole: dict[str, Any] = {"redirect_stdout": False, "redirect_stderr": False, "transient": True}
        with Progress(*cells, console=shown, **whole) as progress:
            yield Bars(progress, left, verbose)


def told(stages: int, seconds: float) -> str:
    """What a finished comparison took."""
    if not stages:
        return f"nothing to do ({seconds:.1f} s)"
    return f"{stages} stage{'s' * (stages != 1)} run in {duration(seconds)}"
