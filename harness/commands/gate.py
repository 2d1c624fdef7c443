"""`harness gate`: has a run become worse than an accepted one."""

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import Own, StoreOf
from harness.system.errors import UsageError


def gate(
    run: Annotated[Path, typer.Argument(help="A finished comparison: its folder, or a bundle.")],
    baseline: Annotated[Path | None, typer.Option(help="The accepted run: a file of --accept, or a run.")] = None,
    policy: Annotated[
        Path | None, typer.Option(help="YAML: margins, budgets, coverage; default: gate.yaml, else 2 % of each scale.")
    ] = None,
    accept: Annotated[
        Path | None, typer.Option(help="Write this run to FILE as the accepted one, and its card; stop.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML to FILE.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the summary to FILE too.")] = None,
    comment: Annotated[Path | None, typer.Option(help="Write a pull request's comment to FILE.")] = None,
    page: Annotated[str, typer.Option(help="URL of the report, for the comment.")] = "",
    store: StoreOf = None,
    own: Own = "",
) -> None:
    """Compare a run with an accepted one by a policy. Exit status: 0 passed, 1 regressed, 3 could not be judged."""
    from harness.commands import gating
    from harness.contracts.plugins import adopt_files

    adopt_files("benchmarks", own)
    if (baseline is None) == (accept is None):
        raise UsageError("give either --baseline FILE to judge the run, or --accept FILE to make it the baseline.")
    if accept:
        typer.echo(gating.accept(run, accept, store))
    elif baseline:
        status, text = gating.judge(run, baseline, policy, store, junit, markdown, comment, page)
        typer.echo(text)
        raise typer.Exit(status)
