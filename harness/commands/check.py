"""`harness check`: a plugin of one's own, of any seam, on made-up data."""

from pathlib import Path
from typing import Annotated

import typer


def check(
    plugin: Annotated[str, typer.Argument(help="A plugin of any kind: a name, or the path of a file.")],
    options: Annotated[list[str] | None, typer.Option("--option", help="NAME=VALUE: an option of it.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="A folder with a benchmark's or source's files, or a family's model.")
    ] = None,
) -> None:
    """Try what a plugin's contract promises on made-up data and a tiny model, and say what was not tried.

    A method, benchmark, source, judge, testbed, backend, family or executor.
    """
    from harness.checking.plugin import check_plugin
    from harness.comparison.request import settings

    chosen = settings([f"option.{option}" for option in options or []], ["option"]).get("option", {})
    for tried in check_plugin(plugin, chosen, data):
        typer.echo(tried)
