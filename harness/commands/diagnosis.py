"""Is everything all right? The installation, the store, and what a testbed's own bases can and cannot do."""

import importlib.util
import platform
from dataclasses import replace
from importlib import metadata
from math import isnan, nan
from pathlib import Path

import typer
from rich.table import Table as Grid

from harness.commands.terminal import examine_store
from harness.commands.testbed_check import examine
from harness.comparison import parity
from harness.comparison.plan import plan
from harness.comparison.preflight import check
from harness.comparison.progress import watching
from harness.comparison.provenance import PACKAGES
from harness.comparison.worker import Bodies
from harness.contracts import plugins
from harness.contracts.behind import behind
from harness.contracts.benchmark import benchmark_of, totals
from harness.contracts.records import Item, Response
from harness.contracts.schedule import execute, insist, pending
from harness.contracts.settings import Runtime, Testbed
from harness.contracts.steps import Plan, Request
from harness.stages.items import Items
from harness.stages.score import Score
from harness.store.store import Store
from harness.system.console import console, wrapped
from harness.system.errors import UsageError
from harness.system.jsonl import read_jsonl
from reports.cards import flips
from reports.outcomes import read_units


def installation(root: Path) -> bool:
    """Print versions, plugins and the store's state; False if something is wrong."""
    healthy = True
    typer.echo(f"python {platform.python_version()} on {platform.platform()}")
    typer.echo("  ".join(f"{name} {metadata.version(name)}" for name in PACKAGES))
    if importlib.util.find_spec("torchvision"):
        typer.echo("note: torchvision is installed; its CPU wheels break transformers' LLaVA. Uninstall it on a CPU.")
    for package in ("methods", "benchmarks"):
        typer.echo(f"{package}: {', '.join(plugins.names(package))}")
    if root.is_dir():
        return examine_store(Store(root)) and healthy
    typer.echo(f"store {root}: not there yet")
    return healthy


def examined(request: Request, testbed: Testbed) -> bool:
    """Print a line per part of a testbed of official files; False if one is wrong. Asks nobody who costs money."""
    findings = []
    for finding in examine(testbed, request):
        typer.echo(str(finding))
        findings.append(finding)
    wrong = [finding for finding in findings if not finding.good]
    typer.echo(f"testbed {testbed.name}: {len(findings)} parts looked at, {len(wrong)} wrong")
    return not wrong


def bars(request: Request, testbed: Testbed, runtime: Runtime, root: Path) -> bool:
    """Print every base's own scores with the blank-image baseline beside; False if a bar is not met."""
    asked = Request((), data=request.data, seeds=len(testbed.models), limit=request.limit, blank=True)
    store, planned = Store(root), plan(asked, testbed, runtime, check(asked, testbed))
    kind = behind(testbed.data)
    with watching(store, runtime.workers) as watcher, store.used():
        todo = pending([cell.score for cell in planned.cells], store, planned.steps)
        insist(execute(todo, Bodies(str(store.root), testbed, asked, runtime), store, runtime, watcher))
        values = measured(planned, store)
    seeds = range(len(testbed.models))
    for seed in seeds:
        values["baseline", seed] |= kind.abilities(Path(testbed.models[seed]))
    grid = Grid("bar", "between", "over blank by", *(f"base {seed} (blank)" for seed in seeds), box=None)
    failures = 0
    for bar in kind.bars:
        row = []
        for seed in seeds:
            value, blank = values["baseline", seed][bar.metric], values["blank", seed].get(bar.metric, nan)
            holds = bar.holds(value, blank)
            failures += not holds
            seen = "–" if isnan(blank) else f"{blank:.1f}"  # who names no object has no CHAIR_i
            row.append(f"{value:.1f} ({seen}){'' if holds else ' FAILS'}")
        over = f"{bar.above_blank:g}" if bar.above_blank > 0 else ""
        grid.add_row(bar.name, f"{bar.low:g} to {bar.high:g}", over, *row)
    console().print(grid)
    typer.echo(f"testbed: {testbed.name} (synthetic), {request.limit or testbed.scenes} scenes; {failures} bars fail")
    return failures == 0


def agrees(request: Request, testbed: Testbed, runtime: Runtime, root: Path) -> bool:
    """Print per base model how far a backend agrees with transformers; False where that is too little."""
    plans = []
    for seed in range(len(testbed.models)):
        asked = replace(request, first_seed=seed)
        planned = plan(asked, testbed, runtime, check(asked, testbed))
        if planned.parity is None:
            raise UsageError(f"--backend: {testbed.generation.backend} is what other backends are held to.")
        plans.append((planned, planned.parity))
    grid, wrong = Grid("base", "responses the same", "first difference", "tokens", "largest, nats", box=None), 0
    store, floors = Store(root), list[str]()
    for seed, (planned, step) in enumerate(plans):
        with watching(store, runtime.workers) as watcher, store.used():
            todo = pending([step], store, planned.steps)
            insist(execute(todo, Bodies(str(store.root), testbed, planned.request, runtime), store, runtime, watcher))
            told = parity.found(step, store)
        holds = told.largest <= told.bound and not parity.blind(told)
        wrong += not holds
        same = f"{told.same} of {told.prompts}"
        largest = f"{told.largest:.2g}{'' if holds else f' FAILS (bound {told.bound:g})'}"
        grid.add_row(str(seed), same, told.first or "none", f"{told.tokens:,}", largest)
        floors += [wrapped(f"base {seed}, {line}") for line in flips(told)]
    console().print(grid)
    typer.echo("\n".join(floors))
    return not wrong


def measured(planned: Plan, store: Store) -> dict[tuple[str, int], dict[str, float]]:
    """(row, seed) -> metric id -> value, with every sub-score the benchmarks have."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    world = behind(planned.testbed.data)
    for cell in planned.cells:
        benchmark = benchmark_of(Score.of(cell.score))
        units, _ = read_units(store.sound(cell.score.stage.name) / "units.json")
        values = found.setdefault((cell.row, cell.seed), {})
        values |= {name: float(value) for name, value in benchmark.compute(totals(units)).items()}
        if cell.benchmark == "mme":
            values["per_subtask"] = 200 * values["mme/perception"] / values["mme/perception_max"]
        if data := Items.Reads.of(cell.items).data:
            items = list(read_jsonl(Item, store.sound(cell.items.stage.name) / "items.jsonl"))
            responses = read_jsonl(Response, store.sound(cell.responses.stage.name) / "responses.jsonl")
            said = {response.id: response for response in responses}
            values |= world.figures(cell.benchmark, items, said, store.sound(data.name))
    return found
