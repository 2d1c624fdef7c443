"""`harness compare`: every method on one split, one loop, one scorer; who won."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.options import (
    STORE,
    Benchmarks,
    Budget,
    Data,
    Examples,
    Executor,
    Images,
    Json,
    Judge,
    Limit,
    Methods,
    Model,
    Out,
    Rows,
    Seeds,
    Sets,
    StoreRoot,
    TestbedName,
    Verbose,
    Workers,
    Writer,
)
from harness.system.console import say, say_json, say_styled
from harness.system.errors import UsageError

if TYPE_CHECKING:
    from harness.comparison.face import Wanted


def compare(
    methods: Methods = "nsft,dpo",
    data: Data = "llava150k",
    images: Images = "",
    testbed: TestbedName = "mini",
    seeds: Seeds = 1,
    benchmarks: Benchmarks = "",
    examples: Examples = None,
    limit: Limit = None,
    model: Model = "",
    rows: Rows = "",
    judge: Judge = "",
    writer: Writer = "",
    sets: Sets = None,
    out: Out = None,
    store: StoreRoot = STORE,
    workers: Workers = None,
    executor: Executor = "local",
    as_json: Json = False,
    budget: Budget = None,
    noise_floor: Annotated[bool, typer.Option(help="Also the baseline again, in batches of half the size.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Print the plan and stop.")] = False,
    device: Annotated[
        str, typer.Option(help="For plan: memory and hours there; h100, h200, a100-80, rtx4090, cpu, here (measured).")
    ] = "",
    simulate: Annotated[
        bool, typer.Option("--simulate", help="For plan: how long it takes side by side, and what it waits for.")
    ] = False,
    gpus: Annotated[str, typer.Option(help="For --simulate: on so many GPUs; several with commas, 1,8,64.")] = "",
    sizes: Annotated[str, typer.Option(help="Numbers of examples, e.g. 250,500,1000: one comparison each.")] = "",
    page: Annotated[bool, typer.Option(help="Write report.html and the figures too.")] = True,
    verbose: Verbose = False,
) -> None:
    """Build every method's data from one split, train, score on the benchmarks, print the table."""
    from harness.comparison.face import Wanted
    from harness.comparison.sizes import parsed

    numbers = parsed(sizes) if sizes else []
    room = _simulated_on(gpus, simulate)
    wanted = Wanted.of(
        methods,
        data,
        testbed,
        images=images,
        seeds=seeds,
        benchmarks=benchmarks,
        examples=examples,
        limit=limit,
        model=model,
        rows=rows,
        judge=judge,
        writer=writer,
        set=sets or [],
        out=out,
        store=store,
        workers=workers,
        executor=executor,
        budget=budget,
        noise_floor=noise_floor,
        sizes=numbers,
    )
    if dry_run:
        from harness.commands.plan_text import show_plan

        how = wanted.runtime
        show_plan(wanted.plan(), wanted.store, how.workers, as_json, verbose, device, how, room)
    elif numbers:
        _compare_sizes(wanted, numbers, page, as_json, verbose)
    else:
        _compare(wanted, page, as_json, verbose)


def _simulated_on(gpus: str, simulate: bool) -> list[int] | None:
    """Numbers of GPUs on which a plan is simulated, none of them for this machine's workers; None: it is not."""
    if gpus and not simulate:
        raise UsageError("--gpus is for a simulation: harness plan ... --simulate --gpus 64.")
    if not simulate:
        return None
    from harness.commands.simulating import numbers

    return numbers(gpus)


def _compare_sizes(wanted: "Wanted", sizes: Sequence[int], page: bool, as_json: bool, verbose: bool) -> None:
    """A comparison per number of examples, and what they give together."""
    from harness.comparison.progress import watching
    from harness.comparison.sizes import compare_sizes

    with watching(wanted.store, wanted.runtime.workers, as_json, verbose) as watcher:
        given = wanted.request, wanted.testbed, wanted.runtime, wanted.store, wanted.folder
        said, status = compare_sizes(*given, watcher, sizes, page)
    say_styled(said)
    raise typer.Exit(status)


def _compare(wanted: "Wanted", page: bool, as_json: bool, verbose: bool) -> None:
    """Run, print the table and what it cost, and say what is missing."""
    from harness.commands.terminal import show_cost, show_table
    from harness.comparison.progress import told, watching

    folder = wanted.folder
    with watching(wanted.store, wanted.runtime.workers, as_json, verbose) as watcher:
        done = wanted.run(watcher, page)
    if as_json:
        rows = [json.loads(line) for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()]
        failed = [one.model_dump() for one in done.failed]
        say_json({"out": str(folder), "stages_run": done.ran, "failed": failed, "results": rows})
    else:
        for sentence in done.told:
            typer.echo(sentence, err=True)
        took = told(done.ran, done.seconds) if done.ran or not done.failed else "no stage could be made"
        typer.echo(f"\n{took}\n", err=True)
        show_table(folder, wanted.store, verbose, done.table)
        show_cost(folder, wanted.store)
    if done.failed:
        named = ", ".join(dict.fromkeys(one.stage for one in done.failed))
        say(f"not complete: {named} failed (see above); the same command tries only what failed again.", done.status)
    if done.status:
        raise typer.Exit(done.status)
