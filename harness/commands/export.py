"""`harness export`: what a comparison made, for other tools: a row's training records, or its trained model."""

import re
from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import StoreOf
from harness.contracts.plugins import adopt, stem, unknown
from harness.system.errors import UsageError


def export(
    run: Annotated[Path, typer.Argument(help="The folder of a finished comparison.")],
    records: Annotated[str, typer.Option(help="The row whose training records are wanted.")] = "",
    checkpoint: Annotated[str, typer.Option(help="The row whose trained model is wanted.")] = "",
    responses: Annotated[str, typer.Option(help="The row whose responses to benchmarks are wanted.")] = "",
    benchmarks: Annotated[str, typer.Option(help="Of responses: benchmarks, or files of your own; default: all.")] = "",
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="Of records: llava, trl, sharegpt; of a model: merged, adapter; of responses: official, lmms-eval. "
            "Default: the first.",
        ),
    ] = "",
    seed: Annotated[int | None, typer.Option(help="Which repetition; default: the first.")] = None,
    out: Annotated[Path | None, typer.Option(help="A new folder to write to; default: exports/ROW-WHAT.")] = None,
    images: Annotated[Path | None, typer.Option(help="Where the pictures of your own --data are.")] = None,
    push: Annotated[str, typer.Option(help="OWNER/NAME: also upload it to the Hugging Face hub, private.")] = "",
    base: Annotated[Path | None, typer.Option(help="Where the base model is, if it was moved since.")] = None,
    store: StoreOf = None,
) -> None:
    """Take a row's training records, model or responses elsewhere, with a card that says what it is."""
    from harness.comparison.exporting import FORMATS_OF, Made, new_folder
    from harness.system.hub import check_name, pushed
    from reports.runs import opened

    given = {"records": records, "checkpoint": checkpoint, "responses": responses}
    asked = {what: row for what, row in given.items() if row}
    if len(asked) != 1:
        raise UsageError("say what to export: one of --records ROW, --checkpoint ROW and --responses ROW.")
    [(what, row)] = asked.items()
    usual, *others = FORMATS_OF[what]
    if form not in ("", usual, *others):
        raise UsageError(f'no format "{form}" of a {what.removesuffix("s")}; there are {", ".join((usual, *others))}.')
    row, form = stem(row), form or usual
    name = re.sub(r"[^A-Za-z0-9._=+-]", "_", f"{row}-{form if records or form != usual else what}").lstrip(".-")
    folder = out or Path("exports") / (name if seed is None else f"{name}-seed-{seed}")
    if not run.is_dir():
        raise UsageError(f"{run} is no folder; a bundle holds figures alone, so give the folder of the comparison.")
    if push:
        check_name(push)
    own = [adopt("benchmarks", word) for word in benchmarks.split(",") if word]
    with opened([run], store) as (found,), new_folder(folder, found) as part:
        if responses:
            there = list(found.manifest.benchmarks)
            wanted = own or there
            if strange := [name for name in wanted if name not in there]:
                raise unknown("benchmark of this run", strange[0], there)
            said = Made.scored(found, row, seed).responses(part, wanted, form)
        else:
            made = Made.of(found, row, seed, base)
            said = made.records(part, form, images) if records else made.checkpoint(part, form)
    typer.echo("\n".join([*said, f"written to {folder}"]))
    if push:
        typer.echo(f"uploaded to {pushed(folder, push, 'model' if checkpoint else 'dataset')}")
