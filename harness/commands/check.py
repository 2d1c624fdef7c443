"""`harness check`: a plugin of one's own on made-up data."""

from pathlib import Path
from typing import Annotated

import typer


def check(
    plugin: Annotated[str, typer.Argument(help="A method or benchmark: a name, or the path of a file.")],
    options: Annotated[list[str] | None, typer.Option("--option", help="NAME=VALUE: an option of it.")] = None,
    data: Annotated[Path | None, typer.Option(help="A folder with a benchmark's files.")] = None,
) -> None:
    """Try a method or benchmark on made-up data: every contract, two records, one step on a tiny model."""
    from harness.checking.plugin import check_plugin
    from harness.comparison.request import settings

    chosen = settings([f"option.{option}" for option in options or []], ["option"]).get("option", {})
    for tried in check_plugin(plugin, chosen, data):
        typer.echo(tried)
