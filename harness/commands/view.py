"""`harness view`: every item of a finished comparison in a browser, from a local server or as a folder to share."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from harness.commands import RUNS
from harness.commands.options import Own, StoreOf
from harness.system.errors import UsageError


def view(
    run: Annotated[str, typer.Argument(help="A finished comparison: its name in `harness runs`, or its folder.")],
    static: Annotated[
        Path | None, typer.Option(help="Write a folder that any browser opens without a server, and stop.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the local server; 0: any that is free.")] = 0,
    root: Annotated[Path, typer.Option("--in", help="The folder that holds the runs.")] = RUNS,
    images: Annotated[Path | None, typer.Option(help="Where the pictures of your own --data are.")] = None,
    store: StoreOf = None,
    own: Own = "",
) -> None:
    """Look at every item: picture, question, reference, what each row said, its score, what changed; docs/view.md.

    The local server answers this machine alone and only reads; Ctrl-C ends it.
    """
    from harness.commands.folders import found
    from harness.comparison.exporting import new_folder
    from harness.comparison.run_folder import SIZES
    from harness.contracts import borrowed, plugins
    from harness.viewing.folder import write_folder
    from harness.viewing.items import Viewed
    from harness.viewing.server import needs, serve
    from reports.report import without
    from reports.runs import opened

    plugins.adopt_files("benchmarks", own)
    folder = found(run, root)
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; a bundle holds figures alone, so give the folder of the comparison.")
    if (folder / SIZES).is_file():
        raise UsageError(f"{folder} has a comparison for each of its sizes; name one of them, e.g. {run}/250.")
    if static is None:
        needs()
    with opened([folder], store) as (one,):
        foreign = plugins.foreign("benchmarks", one.manifest.benchmarks)
        notes = [borrowed.absent([name]) for name in sorted(foreign)]
        viewed = Viewed(without(one, foreign), images, notes)
        viewed.check()
        if static is None:
            with suppress(KeyboardInterrupt):
                serve(viewed, port, lambda address: typer.echo(f"{address}\nOpen it in a browser here; Ctrl-C ends."))
            return
        with new_folder(static, one) as part:
            items = write_folder(viewed, part)
    typer.echo(f"{items:,} items: open {static / 'index.html'}, or share the folder whole")
