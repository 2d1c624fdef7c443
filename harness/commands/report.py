"""`harness report`: tables, figures and cards from finished comparisons."""

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import Own, StoreOf
from harness.system.console import say_styled


def report(
    runs: Annotated[list[Path] | None, typer.Argument(help="Folders of `harness compare`, or bundles.")] = None,
    table: Annotated[int | None, typer.Option(help="A table of the paper, 1 to 7.")] = None,
    figure: Annotated[str, typer.Option(help="2, 4, 5, 6, lens, intervals or curves.")] = "",
    paper: Annotated[bool, typer.Option(help="The paper's numbers beside ours; without RUNS, its own table.")] = False,
    form: Annotated[str, typer.Option("--format", help="terminal, md, tex, csv or html.")] = "terminal",
    out: Annotated[Path | None, typer.Option(help="Folder for every format of the table, or for the figure.")] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Write RUNS to FILE: one archive that this command reads.")
    ] = None,
    store: StoreOf = None,
    crosscheck: Annotated[bool, typer.Option("--crosscheck", help="lmms-eval's figures beside ours.")] = False,
    own: Own = "",
) -> None:
    """The paper's tables and figures from finished comparisons; without either option their cards."""
    from harness.contracts.plugins import adopt_files
    from reports import report as reporting

    adopt_files("benchmarks", own)
    if bundle:
        typer.echo(reporting.bundle(runs or [], bundle, store))
        return
    if crosscheck:
        typer.echo(reporting.second_figures(runs or [], store))
        return
    say_styled(reporting.report(runs or [], table, figure, paper, form, out, store))
