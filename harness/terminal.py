"""What the terminal shows: a bar per running step, the plan, the table, what methods and benchmarks are."""

import dataclasses
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.table import Table as Grid
from rich.text import Text

from harness import plugins
from harness.benchmark import Benchmark
from harness.config import Testbed
from harness.console import columns, console, say_json, say_styled
from harness.method import Method
from harness.schedule import Watcher
from harness.steps import Plan, Step
from harness.store import Store


class Silent:
    """Says nothing."""

    def expect(self, steps: int) -> None:
        """So many steps will run."""

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

    def expect(self, steps: int) -> None:
        """Remember how many there will be."""
        self.total += steps

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
    """A bar per running step and one for all, with rate and time left."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.all = progress.add_task("all steps", total=0)
        self.bars: dict[str, TaskID] = {}

    def expect(self, steps: int) -> None:
        """Set the length of the bar for all steps."""
        self.progress.update(self.all, total=(self.progress.tasks[0].total or 0) + steps)

    def started(self, step: Step) -> None:
        """Show the step's bar."""
        self.bars[step.key] = self.progress.add_task(Text(step.title).plain, total=None)

    def ticked(self, key: str, done: int, total: int) -> None:
        """Move the step's bar."""
        if key in self.bars:
            self.progress.update(self.bars[key], completed=done, total=total)

    def finished(self, step: Step, seconds: float) -> None:
        """Take the step's bar away and leave a line."""
        self._end(step)
        self.progress.console.print(Text(f"{step.title}: {seconds:.1f} s", style="dim"))

    def failed(self, step: Step, why: str) -> None:
        """Take the step's bar away, if it has one, and say why."""
        self._end(step)
        if why:
            self.progress.console.print(Text(f"{step.title}: FAILED: {why}", style="red"))

    def _end(self, step: Step) -> None:
        if step.key in self.bars:
            self.progress.remove_task(self.bars.pop(step.key))
        self.progress.advance(self.all)


@contextmanager
def watching(quiet: bool) -> Iterator[Watcher]:
    """Bars on a terminal, lines elsewhere, nothing if quiet; all on stderr."""
    if quiet:
        yield Silent()
    elif not sys.stderr.isatty():
        yield Lines()
    else:
        shown = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        # what others print must not pass through it: rich would take their escape sequences for styles
        with Progress(
            *shown,
            Rate(),
            TimeRemainingColumn(),
            console=console(err=True),
            redirect_stdout=False,
            redirect_stderr=False,
        ) as progress:
            yield Bars(progress)


class Rate(TextColumn):
    """Units per second of a bar."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: object) -> Text:
        """The speed, once there is one."""
        speed = getattr(task, "speed", None)
        return Text(f"{speed:.1f}/s" if speed else "")


def show_table(folder: Path, store: Store) -> None:
    """Print a finished comparison's table: coloured on a terminal, plain elsewhere, as wide as there is room."""
    from harness.reporting import narrow_table  # slow to import, and lists need none of it
    from reports.files import WIDTH

    if columns() >= WIDTH:
        say_styled((folder / "table.ansi").read_text(encoding="utf-8").rstrip())
    else:
        say_styled(narrow_table(folder, store.root).rstrip())


def show_cost(folder: Path, store: Store) -> None:
    """What each row cost to make, and where to look next."""
    from reports import cards
    from reports.facts import row_facts
    from reports.runs import opened

    with opened([folder], store.root) as (run,):
        for label, words in cards.cost(row_facts(run)):
            typer.echo(f"{'cost':<18}{label}: {words}")
    page = folder / "report.html"
    typer.echo(f"\nOpen {page}" if page.is_file() else f"\nTables, results and provenance are in {folder}")


def show_plan(planned: Plan, store: Store, testbed: Testbed, as_json: bool = False) -> None:
    """Print every step of a plan: done, or to run and why; as one JSON object if asked."""
    from harness.costs import bills
    from harness.schedule import pending

    todo = {step.key for step in pending(planned.goals, store, planned.steps)}
    lines = []
    for step in planned.steps:
        state, why = "done" if store.done(step.stage) else "skip", ""
        if step.key in todo:
            changed = any(stage.key in todo for stage in step.reads.values())
            state, why = "run", "reads a stage that will run" if changed else store.why(step.stage)
        lines.append({"state": state, "title": step.title, "stage": step.stage.name, "why": why})
    costs = [str(bill) for bill in bills(planned, [step for step in planned.steps if step.key in todo], store)]
    if as_json:
        known = {"testbed": testbed.name, "synthetic": testbed.synthetic, "to_run": len(todo)}
        say_json({**known, "stages": lines, "costs": costs})
        return
    for line in lines:
        about = f": {line['why']}" if line["why"] else f" ({line['stage']})"
        typer.echo(f"{line['state']:<5} {line['title']}{about}")
    typer.echo(f"{len(todo)} of {len(planned.steps)} stages to run.")
    for cost in costs:
        typer.echo(f"{cost}.")
    typer.echo(f"testbed: {testbed.name}{' (synthetic)' if testbed.synthetic else ''}")


def show_methods(name: str) -> None:
    """Print the list of methods with their options, or what one is and each of its options."""
    if not name:
        for method in plugins.names("methods"):
            made: Method = plugins.make("methods", method, Method, {})
            typer.echo(f"{method}: {made.label}; {needs(made)}")
            grid = Grid(*(Column(head, overflow="fold") for head in ("  option", "default", "source")), box=None)
            for option in dataclasses.fields(made):
                row = (f"  {option.name}", default(made, option.name), option.metadata.get("source", ""))
                grid.add_row(*map(Text, row))  # as text: a source in brackets is no markup
            console().print(grid, highlight=False)
        return
    made = plugins.make("methods", name, Method, {})
    typer.echo(f"{plugins.stem(name)}: {made.label}\n\n{(sys.modules[type(made).__module__].__doc__ or '').strip()}\n")
    typer.echo(needs(made))
    for option in dataclasses.fields(made):
        says, source = option.metadata.get("help", ""), option.metadata.get("source", "")
        typer.echo(f"--set {plugins.stem(name)}.{option.name}={getattr(made, option.name)}\n    {says} ({source})")


def needs(method: Method) -> str:
    """Roles and rounds of a method, and what its loss is a mean over."""
    return f"roles: {', '.join(method.roles)}; rounds: {method.rounds}; loss normalised by {method.unit}s"


def default(method: Method, option: str) -> str:
    """An option's default; of a file of ours its name."""
    value = getattr(method, option)
    ours = isinstance(value, str) and Path(value).is_relative_to(Path(__file__).parent)
    return Path(value).name if ours else str(value)


def show_benchmarks(name: str) -> None:
    """Print the list of benchmarks, or what one measures, how, and where its traps are."""
    if name:
        explain(plugins.stem(name), plugins.make("benchmarks", name, Benchmark, {}))
        return
    heads = ("benchmark", "label", "metric", "better", "n", "chance", "protocol", "judge")
    grid = Grid(*(Column(head, overflow="fold") for head in heads), box=None)
    for benchmark in plugins.names("benchmarks"):
        made: Benchmark = plugins.make("benchmarks", benchmark, Benchmark, {})
        metric = made.metrics[0]
        better = "higher" if metric.higher_is_better else "lower"
        chance = "–" if metric.chance is None else f"{metric.chance:g}"
        judge = "yes" if made.judged else "no"
        grid.add_row(benchmark, made.label, metric.id, better, count(made), chance, made.protocol, judge)
    console().print(grid)


def count(benchmark: Benchmark) -> str:
    """How many items the official set has."""
    return f"{benchmark.official_n:,}" if benchmark.official_n else "any"


def explain(name: str, benchmark: Benchmark) -> None:
    """Print everything about one benchmark."""
    about = [(sys.modules[type(benchmark).__module__].__doc__ or "").strip(), inspect.getdoc(type(benchmark)) or ""]
    how = f"Protocol: {benchmark.protocol}, greedy, at most {benchmark.max_new_tokens} tokens. "
    how += "Scored by a judge." if benchmark.judged else "Scored without a judge."
    typer.echo("\n\n".join([*about, f"Items: {count(benchmark)}. {how}", f"Files: {benchmark.layout}", ""]))
    grid = Grid("metric", "label", "better", "scale", "chance", box=None)
    for metric in benchmark.metrics:
        scale = f"{min(metric.scale):g} to {max(metric.scale):g}"
        chance = "–" if metric.chance is None else f"{metric.chance:g}"
        grid.add_row(metric.id, metric.label, "higher" if metric.higher_is_better else "lower", scale, chance)
    console().print(grid)
    for option in dataclasses.fields(benchmark):
        typer.echo(f"option {name}.{option.name}={getattr(benchmark, option.name)}")
    for extra, says in benchmark.extras.items():
        typer.echo(f"harness score --option {extra}=PATH: {says}")
