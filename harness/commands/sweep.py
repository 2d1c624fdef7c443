"""`harness sweep`: a learning rate for every method by one rule."""

from typing import Annotated

import typer

from harness.commands.options import (
    STORE,
    Data,
    Examples,
    Executor,
    Limit,
    Methods,
    Seeds,
    StoreRoot,
    TestbedName,
    Workers,
)


def sweep(
    methods: Methods = "sft,nsft,dpo",
    data: Data = "llava150k",
    testbed: TestbedName = "mini",
    seeds: Seeds = 2,
    rates: Annotated[str, typer.Option(help="Learning rates tried for every method alike.")] = "3e-5,1e-4,3e-4",
    examples: Examples = None,
    limit: Limit = 300,
    store: StoreRoot = STORE,
    workers: Workers = None,
    executor: Executor = "local",
) -> None:
    """Choose each method's learning rate on the tuning split: the same rates, the same rule for every method."""
    from harness.comparison.progress import watching
    from harness.comparison.request import numbers, request
    from harness.comparison.sweep import choose
    from harness.store.store import Store

    tried = numbers("--rates", rates, float)
    words = (methods, data, "", testbed, seeds, "", examples, limit, None, workers)
    bed, asked, runtime = request(*words, executor=executor)
    with watching(Store(store), runtime.workers) as watcher:
        chosen = choose(asked, bed, runtime, Store(store), tried, watcher)
    typer.echo(chosen.text)
