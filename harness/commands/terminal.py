"""What the terminal shows of a finished comparison, and what methods and benchmarks are."""

import dataclasses
import inspect
import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.table import Table as Grid
from rich.text import Text

from harness.contracts import borrowed, plugins
from harness.contracts.benchmark import Benchmark, folder_of
from harness.contracts.method import Method
from harness.store.store import Store
from harness.system.console import columns, console, say_styled

if TYPE_CHECKING:
    from reports.findings import Findings


def show_table(folder: Path, store: Store, verbose: bool = False, made: "Findings | None" = None) -> None:
    """Print a finished comparison's table: coloured on a terminal, plain elsewhere, as wide as there is room.

    `verbose`: with every note below it; `made`: the table, if it is known already.
    """
    from reports.files import WIDTH
    from reports.report import fitted_table  # slow to import, and lists need none of it

    if columns() >= WIDTH and not verbose:
        say_styled((folder / "table.ansi").read_text(encoding="utf-8").rstrip())
    else:
        say_styled(fitted_table(folder, store.root, verbose, made).rstrip())


def show_cost(folder: Path, store: Store) -> None:
    """What each row cost to make, and where to look next."""
    from reports import cards
    from reports.facts import row_facts
    from reports.runs import opened

    with opened([folder], store.root) as (run,):
        for number, (label, words) in enumerate(cards.cost(row_facts(run))):
            typer.echo(f"{'' if number else 'cost':<18}{label}: {words}")
    page = folder / "report.html"
    typer.echo(f"\nOpen {page}" if page.is_file() else f"\nTables, results and provenance are in {folder}")


def examine_store(store: Store) -> bool:
    """Read every byte of a store's stages; print which are damaged and the cure. False where one is."""
    with Progress(
        TextColumn("reading the store"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console(err=True),
        redirect_stdout=False,
        redirect_stderr=False,
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as progress:
        bar = progress.add_task("", total=None)
        damaged = store.verify(tick=lambda read, all: progress.update(bar, completed=read, total=all))
    for name, damage in damaged.items():
        typer.echo(
            f"wrong: stage {name} in {store.root}: {'; '.join(damage)}. The command of a comparison that uses it makes "
            "it anew; where none does, delete its folder."
        )
    if not damaged:
        typer.echo(f"store {store.root}: {len(store.finished())} finished stages, none damaged")
    return not damaged


def show_methods(name: str, verbose: bool = False) -> None:
    """Print a line per method (with its options where `verbose`), or what one is and each of its options."""
    if not name and not verbose:
        lines("methods", Method)
        return
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


def lines(kind: str, base: type[Method] | type[Benchmark]) -> None:
    """One line per plugin: its name, and the first sentence of its file without the citation."""
    grid = Grid.grid(Column(no_wrap=True, style="bold"), Column(overflow="fold"), padding=(0, 2, 0, 0))
    for name in plugins.names(kind):
        made = plugins.plugin(kind, name, base)
        about = sys.modules[made.__module__].__doc__ or ""
        [first, *_] = re.split(r"(?<=[.?])\s+(?=[A-Z])", " ".join(about.split()), maxsplit=1)
        said = re.sub(r"\s*\([^()]*\)\.?$", "", first).rstrip(".")
        grid.add_row(Text(name), Text(said + (" *" if getattr(made, "of_the_paper", False) else "")))
    console().print(grid, highlight=False)
    if kind == "methods":
        console().print(Text("* of the nSFT paper's comparison"))
    more = "; lmms-eval's tasks: NAME lmms:" if kind == "benchmarks" else ""
    console().print(Text(f"One of them in full: harness {kind} NAME; all in full: -v{more}"))


def needs(method: Method) -> str:
    """Roles and rounds of a method, and what its loss is a mean over."""
    return f"roles: {', '.join(method.roles)}; rounds: {method.rounds}; loss normalised by {method.unit}s"


def default(method: Method, option: str) -> str:
    """An option's default; of a file of ours its name."""
    value = getattr(method, option)
    ours = isinstance(value, str) and Path(value).is_relative_to(Path(__file__).parents[1])
    return Path(value).name if ours else str(value)


def show_benchmarks(name: str, verbose: bool = False) -> None:
    """Print a line per benchmark (how it is scored where `verbose`), or what one measures, how, and its traps."""
    if name.endswith(":") and borrowed.maker("benchmarks", f"{name}*"):
        show_borrowed("benchmarks", name)
        return
    if name:
        explain(plugins.stem(name), plugins.make("benchmarks", name, Benchmark, {}))
        return
    if not verbose:
        lines("benchmarks", Benchmark)
        return
    heads = ("benchmark", "label", "metric", "better", "n", "chance", "protocol", "judge")
    cells = (Column(head, overflow="fold", no_wrap=head != "protocol") for head in heads)  # no name or number breaks
    grid = Grid(*cells, box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for benchmark in plugins.names("benchmarks"):
        made: Benchmark = plugins.make("benchmarks", benchmark, Benchmark, {})
        metric = made.metrics[0]
        better = "higher" if metric.higher_is_better else "lower"
        chance = "–" if metric.chance is None else f"{metric.chance:g}"
        judge = "yes" if made.judged else "no"
        grid.add_row(benchmark, made.label, metric.id, better, count(made), chance, made.protocol, judge)
    console().print(grid)


def show_borrowed(package: str, word: str) -> None:
    """Print a line per plugin that another library has: its name, version, data, and its figure or why it has none."""
    heads = ("task", "version", "data set", "its column")
    grid = Grid(*(Column(head, overflow="fold", no_wrap=head == "version") for head in heads), box=None, pad_edge=False)
    found = list(borrowed.listed(package, word))
    for one in found:
        grid.add_row(Text(f"{word}{one.name}"), one.version, Text(one.data), Text(one.figure or f"none: {one.refused}"))
    console().print(grid, highlight=False)
    usable = sum(not one.refused for one in found)
    told = f"{usable:,} of {len(found):,} can be columns, as far as their YAML tells."
    console().print(Text(f"{told} One of them in full: harness benchmarks {word}NAME"))


def count(benchmark: Benchmark) -> str:
    """How many items the official set has."""
    return f"{benchmark.official_n:,}" if benchmark.official_n else "any"


def explain(name: str, benchmark: Benchmark) -> None:
    """Print everything about one benchmark."""
    about = [(sys.modules[type(benchmark).__module__].__doc__ or "").strip(), inspect.getdoc(type(benchmark)) or ""]
    how = f"Protocol: {benchmark.protocol}, greedy, at most {benchmark.max_new_tokens} tokens. "
    how += "Scored by a judge." if benchmark.judged else "Scored without a judge."
    files = f"Files: {benchmark.told(folder_of(name, None))}"
    typer.echo("\n\n".join([*about, f"Items: {count(benchmark)}. {how}", files, ""]))
    grid = Grid("metric", "label", "better", "scale", "chance", box=None)
    for metric in benchmark.metrics:
        ends = [f"{end:g}" if math.isfinite(end) else "?" for end in sorted(metric.scale)]
        scale = " to ".join(ends) + (", no interval" if metric.whole else "")
        chance = "–" if metric.chance is None else f"{metric.chance:g}"
        grid.add_row(metric.id, metric.label, "higher" if metric.higher_is_better else "lower", scale, chance)
    console().print(grid)
    for option in dataclasses.fields(benchmark):
        typer.echo(f"option {name}.{option.name}={getattr(benchmark, option.name)}")
    for extra, says in benchmark.extras.items():
        typer.echo(f"harness score --option {extra}=PATH: {says}")
