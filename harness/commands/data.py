"""`harness data`: a testbed's own parts."""

from pathlib import Path
from typing import Annotated

import typer

from harness.system.errors import UsageError


def data(
    name: Annotated[str, typer.Argument(help="The testbed: mini.")],
    train_base: Annotated[bool, typer.Option(help="Train the base models from random initialisation.")] = False,
    train_clip: Annotated[bool, typer.Option(help="Train the small CLIP, CSR's image-text similarity.")] = False,
    seeds: Annotated[str, typer.Option(help="Comma-separated seeds of the bases.")] = "0,1,2",
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("runs/bases"),
) -> None:
    """Make a testbed's own parts."""
    if not (train_base or train_clip):
        raise UsageError("harness data makes two things: `harness data mini --train-base --train-clip --out DIR`.")
    from harness.contracts.behind import behind
    from harness.contracts.testbed_file import read_testbed

    kind = behind(read_testbed(name).data)

    def progress(text: str) -> None:
        typer.echo(text, err=True)

    if train_base:
        from harness.comparison.request import numbers

        wanted = numbers("--seeds", seeds, int)
        for seed in wanted:
            kind.train_base(seed, out / str(seed), progress)
            typer.echo(f"base {seed} (synthetic testbed) written to {out / str(seed)}")
    if train_clip:
        kind.train_clip(out / "clip", progress)
        typer.echo(f"CLIP (synthetic testbed) written to {out / 'clip'}")
