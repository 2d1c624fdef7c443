"""`harness plan --simulate`: how long a comparison takes with so much room, and what it waits for."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil, inf

import typer
from rich.table import Column, Table
from rich.text import Text

from harness.comparison.costs import REPLY_S, Cost
from harness.comparison.simulation import Simulated, bound, simulated
from harness.comparison.sizes import counts
from harness.contracts.steps import Step
from harness.system.console import console, duration, wrapped
from harness.system.errors import UsageError

LONG = 0.05  # of a chain's time: stages that take so much of it are named


@dataclass(frozen=True)
class Outcome:
    """A simulation: `gpus` 0 for this machine's workers, `busy` the share of them that works, rates while it lasts."""

    gpus: int
    seconds: float
    busy: float
    waits_for: str
    replies_a_minute: float
    bytes_a_second: float


def numbers(text: str) -> list[int]:
    """`--gpus`: one positive number or several with commas; none where nothing is said."""
    found = counts(text)
    if text and not 0 < max(found, default=0) <= 100_000:
        raise UsageError(f"--gpus {text}: give a number of GPUs, or several, e.g. --gpus 1,8,64.")
    return found


def outcomes(
    steps: Sequence[Step], cost: Mapping[str, Cost], gpus: Sequence[int], workers: int
) -> tuple[list[Outcome], Simulated]:
    """A simulation for each number of GPUs, on machines with room for all else; without one, of so many workers here.

    Beside them the one whose room is endless, whose end is that of the longest chain.
    """

    def run(room: Mapping[str, float]) -> Simulated:
        return simulated(steps, lambda step: cost[step.key].seconds, room)

    free, found = run({}), list[Outcome]()
    replies, written = sum(one.replies for one in cost.values()), sum(one.written for one in cost.values())
    for number in gpus or (0,):
        what, most = ("gpus", number) if number else ("processes", workers)
        done = run({what: most})
        seconds = done.seconds or inf
        busy = done.used(what) / (most * seconds)
        waits = bound(done, free.seconds, what, most)
        found.append(Outcome(number, done.seconds, busy, waits, 60 * replies / seconds, written / seconds))
    return found, free


def as_data(found: Sequence[Outcome], free: Simulated) -> dict[str, object]:
    """For machines."""
    chain = {"seconds": free.seconds, "stages": [step.title for step in free.chain]}
    return {"simulated": [asdict(one) for one in found], "longest_chain": chain}


def show(found: Sequence[Outcome], free: Simulated, cost: Mapping[str, Cost], workers: int, title: str) -> None:
    """Print the simulations, the longest chain, and where the figures come from."""
    if not any(one.known for one in cost.values()):
        typer.echo(wrapped("simulated: no stage's time is known; run a comparison on this store, or name a --device"))
        return
    heads = ("time", "busy", "waits for", "replies/min", "MB/s written")
    grid = Table(f"on {title}" if title else "here", *(Column(head, justify="right") for head in heads), box=None)
    for one in found:
        what = f"{one.gpus} GPU{'s' * (one.gpus != 1)}" if one.gpus else f"{workers} worker{'s' * (workers != 1)}"
        told = [what, duration(max(one.seconds, 1)), f"{one.busy:.0%}", one.waits_for]
        told += [f"{one.replies_a_minute:,.0f}", f"{one.bytes_a_second / 1e6:,.1f}"]
        grid.add_row(*map(Text, told))
    console().print(grid, highlight=False)
    name, chain = "gpus" if found[0].gpus else "processes", free.seconds
    side = ceil(free.used(name) / chain) if chain else 0
    beside = f"; beside it there is work for {side} {'GPUs' if name == 'gpus' else 'workers'}" if side > 1 else ""
    typer.echo(wrapped(f"longest chain: {duration(max(chain, 1))}{beside}"))
    for step in free.chain:
        if cost[step.key].seconds >= LONG * chain:
            typer.echo(wrapped(f"  {step.title}: {duration(max(cost[step.key].seconds, 1))}"))
    kinds = Counter(one.known for one in cost.values())
    sources = (
        f"{kinds['measured']} stages' times are of such stages in this store, {kinds['estimated']} by formula (a reply "
        f"in {REPLY_S:g} s), {kinds['']} are taken to need none; machines' faults and queues are not in it"
    )
    typer.echo(wrapped(sources))
