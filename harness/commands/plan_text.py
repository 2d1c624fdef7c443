"""What `harness plan` prints: a summary of what a comparison still has to do, or every stage and why."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.table import Column
from rich.table import Table as Grid
from rich.text import Text

from harness.commands import simulating
from harness.comparison.asking import ANSWER
from harness.comparison.bill import bills
from harness.comparison.costs import costs_of
from harness.comparison.devices import Device
from harness.comparison.forecast import Forecast, parts, together
from harness.comparison.measuring import meant
from harness.comparison.needs import Need, by_row, whole_rows
from harness.comparison.plan import USUAL
from harness.comparison.sizing import SHOWN, needs, pictures_of
from harness.contracts import plugins
from harness.contracts.executor import Executor
from harness.contracts.schedule import EXECUTORS, pending
from harness.contracts.settings import Runtime
from harness.contracts.steps import Plan, Step
from harness.judging.hire import kind_for
from harness.models.folder import family_of
from harness.store.store import Store
from harness.system.console import console, duration, say_json, wrapped
from harness.system.errors import HarnessError

STATES = {"run": "run", "done": "reused", "skip": "not needed"}
SHARED = "shared by all rows"


@dataclass(frozen=True)
class Share:
    """One row's share of a plan.

    `seconds` are those of the stages to run, as far as they are known, None where nothing is; `unknown` names the kinds
    of the others. `bytes`: what the stages that are reused take on disk.
    """

    row: str
    label: str
    to_run: int
    reused: int
    seconds: float | None
    unknown: tuple[str, ...]
    bytes: int

    @property
    def time(self) -> str:
        """In words."""
        if not self.to_run:
            return "–"
        if self.seconds is None:
            return "not known yet"
        return in_words(self.seconds, whole=not self.unknown)


def shares(planned: Plan, todo: Sequence[Step], store: Store, forecast: Forecast) -> list[Share]:
    """One for what the rows share, and one per row."""
    labels, keys = {"": SHARED} | {cell.row: cell.label for cell in planned.cells}, {step.key for step in todo}
    return [_share(row, labels[row], steps, keys, store, forecast) for row, steps in parts(planned).items()]


def _share(row: str, label: str, steps: Sequence[Step], keys: set[str], store: Store, forecast: Forecast) -> Share:
    mine = [(step.stage.kind, forecast.of(step)) for step in steps if step.key in keys]
    done = [step for step in steps if step.key not in keys and store.done(step.stage)]
    taken = sum(_bytes(store, step) for step in done)
    unknown = tuple(dict.fromkeys(kind for kind, seconds in mine if seconds is None))
    return Share(row, label, len(mine), len(done), summed(seconds for _, seconds in mine), unknown, taken)


def _bytes(store: Store, step: Step) -> int:
    try:
        return sum(known["bytes"] for known in store.manifest(step.stage)["files"].values())
    except HarnessError:  # damaged: the comparison makes it anew and says so
        return 0


def summed(seconds: Iterable[float | None]) -> float | None:
    """The sum of those that are known; None where none is."""
    known = [one for one in seconds if one is not None]
    return math.fsum(known) if known else None


def in_words(seconds: float, whole: bool) -> str:
    """An expected time; `whole` where no part of it is unknown."""
    return f"{'about' if whole else 'more than'} {duration(max(seconds, 1))}"


def show_plan(
    planned: Plan,
    store: Store,
    workers: int,
    as_json: bool = False,
    verbose: bool = False,
    device: str = "",
    runtime: Runtime = USUAL,
    gpus: Sequence[int] | None = None,
) -> None:
    """Print what each row has to run and may reuse, with time, disk and calls; `verbose`: every stage, and why.

    With the name of a `device` also what it takes there, by formula; on official data that is an H100 unless said.
    An executor that hands its work to others shows what (`Executor.shown`). `gpus`: numbers of them on which it is
    simulated, none of them for this machine's workers; None: it is not simulated.
    """
    todo = pending(planned.goals, store, planned.steps)
    forecast = Forecast(store, planned.steps)
    found = shares(planned, todo, store, forecast)
    known_at_all = any(share.seconds is not None for share in found)
    wall = together(todo, lambda step: forecast.of(step) or 0.0, workers) if known_at_all else None
    costs = [str(bill) for bill in bills(planned, todo, store, runtime)]
    executor = plugins.make(EXECUTORS, runtime.executor, Executor, runtime.executor_options)
    handed = executor.shown(todo, store.root)
    testbed = planned.testbed
    families = list(dict.fromkeys(family_of(Path(model)).title for model in testbed.models))
    there = meant(device or "h100", testbed.training.dtype) if device or not testbed.synthetic else None
    pictures = pictures_of(planned) if there else []
    needed = by_row([*needs(planned, todo, runtime, there, pictures)]) if there else []
    stages = costs_of(planned, todo, store, runtime, there, measured=not device) if gpus is not None else {}
    ran = simulating.outcomes(todo, stages, gpus, workers) if gpus is not None else None
    if as_json:
        known = {"testbed": testbed.name, "synthetic": testbed.synthetic, "families": families, "to_run": len(todo)}
        summary = {"rows": [_row(share) for share in found], "seconds": wall, "workers": workers}
        takes: dict[str, object] = {"estimate": [_need(one) for one in needed]} if there else {}
        takes |= {"device": there.title, "device_figures": there._asdict()} if there else {}
        takes |= {"handed": handed} if handed else {}
        takes |= simulating.as_data(*ran) if ran else {}
        say_json({**known, "stages": _lines(planned, todo, store), "costs": costs, "summary": summary, **takes})
        return
    for line in _lines(planned, todo, store) if verbose else ():
        about = f": {line['why']}" if line["why"] else f" ({line['stage']})"
        typer.echo(f"{STATES[line['state']]:<11}{line['title']}{about}")
    if verbose:
        typer.echo()
    if todo:
        console().print(_grid(found), highlight=False)
        typer.echo(_in_all(found, wall, workers))
    else:
        taken = _size(sum(share.bytes for share in found))
        typer.echo(f"nothing to do: all {len(planned.steps)} stages are in the store ({taken})")
    if handed:
        typer.echo(handed)
    for said in (*costs, *held_idle(planned, todo)):
        typer.echo(f"{said}.")
    if there and needed:
        _show_needs(needed, there, {cell.row: cell.label for cell in planned.cells}, verbose, len(pictures))
    if ran and todo:
        simulating.show(*ran, stages, workers, there.title if there else "")
    more = "" if verbose else "; every stage, and why it runs: -v"
    typer.echo(f"testbed: {testbed.name}{' (synthetic)' if testbed.synthetic else ''}, {', '.join(families)}{more}")


def held_idle(planned: Plan, todo: Sequence[Step]) -> list[str]:
    """Which stages hold a GPU while a slow writer is waited for: one sentence without its stop, or none."""
    titles = [step.title for step in todo if step.resources.asks and step.resources.gpus]
    if not titles or not kind_for("writer", planned.testbed).paid:
        return []
    more = f" (and {len(titles) - 1:,} more like it)" if len(titles) > 1 else ""
    return [f"{titles[0]}{more} holds a GPU while the writer is waited for"]


def _need(need: Need) -> dict[str, object]:
    memory = {**need.memory._asdict(), "peak": need.memory.peak}
    takes = {"flops": need.flops, "seconds": need.seconds, "disk": need.disk}
    told = {"layout": need.how, "cure": need.cure} | ({"joint": need.joint} if need.joint else {})
    return {"row": need.row, "stage": need.kind, "memory": memory, **takes, **told}


def _show_needs(needed: Sequence[Need], device: Device, labels: Mapping[str, str], verbose: bool, looked: int) -> None:
    """What rows take on a device, `verbose` stage by stage, and what will not fit; `looked`: at so many pictures."""
    numbers = ("GB", "weights", "learning", "kept", "PFLOP", "time", "disk")
    heads = Column(f"on one {device.title}", overflow="fold"), *(Column(name, justify="right") for name in numbers)
    grid = Grid(*heads, Column("laid out"), box=None, pad_edge=False)
    for need in needed if verbose else whole_rows(needed):
        memory, learning = need.memory, need.memory.gradients + need.memory.optimizer
        parts = (memory.peak, memory.weights, learning, memory.peak - memory.weights - learning)
        label, how = [labels.get(need.row, need.row)], [need.how] if need.how else []
        (label if verbose else how).insert(verbose, need.kind)  # of a whole row, the kind that takes the most memory
        told = [" ".join(label), *(f"{part / 1e9:.1f}" for part in parts), f"{need.flops / 1e15:,.0f}"]
        told += [duration(max(need.seconds, 1)), _size(need.disk), ", ".join(how)]
        grid.add_row(*map(Text, told))
    console().print(grid, highlight=False)
    for need in needed:
        if need.cure:
            typer.echo(f"{labels.get(need.row, need.row)} {need.kind} WILL NOT FIT; it does with {need.cure}")
    for need in needed:
        if need.joint:
            typer.echo(f"{labels.get(need.row, need.row)}: {need.joint}")
    shown = f"{SHOWN[0]} x {SHOWN[1]}" + (f", those of the data as {looked} of them are" if looked else "")
    formula = (
        f"by formula, of answers of {ANSWER} tokens and pictures of {shown}, at {device.training:.0%} and "
        f"{device.reading:.0%} of the {device.told}; learning: gradients and optimiser; kept: for the backward pass, "
        "or keys and values"
    )
    typer.echo(wrapped(formula))


def _row(share: Share) -> dict[str, object]:
    known = {"to_run": share.to_run, "reused": share.reused, "bytes": share.bytes}
    return {"row": share.row, "label": share.label, **known, "seconds": share.seconds, "unknown": list(share.unknown)}


def _lines(planned: Plan, todo: Sequence[Step], store: Store) -> list[Mapping[str, str]]:
    """Every step: done, or to run and why."""
    keys, lines = {step.key for step in todo}, list[Mapping[str, str]]()
    for step in planned.steps:
        state, why = "done" if store.done(step.stage) else "skip", ""
        if step.key in keys:
            changed = any(stage.key in keys for stage in step.reads.values())
            state, why = "run", "reads a stage that will run" if changed else store.why(step.stage)
        lines.append({"state": state, "title": step.title, "stage": step.stage.name, "why": why})
    return lines


def _grid(found: Sequence[Share]) -> Grid:
    numbers = ("to run", "reused", "expected time", "reused, on disk")
    heads = Column("stages", overflow="fold"), *(Column(name, justify="right") for name in numbers)
    grid = Grid(*heads, box=None, pad_edge=False)
    runs, reused, taken = (sum(getattr(one, name) for one in found) for name in ("to_run", "reused", "bytes"))
    unknown = tuple(kind for share in found for kind in share.unknown)
    total = Share("", "total", runs, reused, summed(one.seconds for one in found), unknown, taken)
    for share in (*found, total):
        texts = (share.label, str(share.to_run), str(share.reused), share.time, _size(share.bytes))
        grid.add_row(*map(Text, texts), style="bold" if share is total else "")
    return grid


def _in_all(found: Sequence[Share], wall: float | None, workers: int) -> str:
    """How long it takes side by side, where that comes from, and for what it is not known."""
    if wall is None:
        return "time: not known yet, for nothing like it has run in this store"
    unknown = [f"{share.label} ({', '.join(share.unknown)})" for share in found if share.unknown]
    side = f"{in_words(wall, not unknown)} with {workers} worker{'s' * (workers != 1)}"
    missing = f"; not known yet: {'; '.join(unknown)}" if unknown else ""
    return f"{side}, by what such stages took in this store{missing}"


def _size(count: int) -> str:
    """Bytes in words, the units of files: 1 MB is a million."""
    if not count:
        return "–"
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{math.ceil(count / 1e3)} kB"
