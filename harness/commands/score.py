"""`harness score`: published answers by the official rules."""

from typing import Annotated

import typer

from harness.commands.options import STORE, Budget, Json, StoreRoot
from harness.system.errors import UsageError


def score(
    benchmark: Annotated[str, typer.Argument(help="Whose answers: pope, mme, ... (see harness benchmarks).")],
    answers: Annotated[list[str] | None, typer.Option(help="Answers, official format: PATH or NAME=PATH.")] = None,
    questions: Annotated[list[str] | None, typer.Option(help="The official questions: PATH or NAME=PATH.")] = None,
    options: Annotated[
        list[str] | None, typer.Option("--option", help="NAME=VALUE: an option of the benchmark, or a further file.")
    ] = None,
    allow_partial: Annotated[bool, typer.Option("--allow-partial", help="Score what pairs up, and say so.")] = False,
    judge: Annotated[
        str, typer.Option(help="Who judges what has no verdict yet: openai:MODEL, script:FILE or ./mine.py.")
    ] = "",
    runs: Annotated[int, typer.Option(min=1, help="How often an LLM judge is asked each question.")] = 1,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="judging.FIELD=VALUE or runtime.FIELD=VALUE, as in compare.")
    ] = None,
    budget: Budget = None,
    store: StoreRoot = STORE,
    as_json: Json = False,
) -> None:
    """Score published answers by the official rule: official answer files in, official figures out."""
    from harness.comparison.published import judge_of, rescore, show

    if sets and not judge:
        raise UsageError("--set says how a judge is asked; give --judge openai:MODEL too.")
    asked = judge_of(judge, runs, budget, store, sets or []) if judge else None
    done = rescore(benchmark, answers or [], questions or [], options or [], allow_partial, asked)
    for note in done.notes:
        typer.echo(f"harness: {note}", err=True)
    if as_json:
        typer.echo(done.json())
    else:
        show(done)
