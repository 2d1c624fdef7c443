"""`harness runs`: which comparisons there are, by what they compared and how far they came; rename and remove them."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from harness.commands import RUNS
from harness.system.console import say_json, visible
from harness.system.errors import UsageError

if TYPE_CHECKING:
    from harness.commands.folders import Listed

In = Annotated[Path, typer.Option("--in", help="The folder that holds the runs.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")]


class ListFirst(TyperGroup):
    """A group whose first command, `list`, needs not be named: `harness runs dpo` is `harness runs list dpo`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the name in where there is no other."""
        named = args and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named else ["list", *args])


app = typer.Typer(
    cls=ListFirst,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    subcommand_metavar="[list] [WORD] | rename OLD NEW | remove NAME...",
    help="List the comparisons, the newest last, that is nearest to the prompt; rename or remove them.",
)


@app.command("list", short_help="List them, or those that a word is in")
def list_runs(
    word: Annotated[str, typer.Argument(help="Part of a name, a row, the data or the testbed; default: all.")] = "",
    root: In = RUNS,
    as_json: Json = False,
) -> None:
    """List the comparisons, the newest last: what they compared, how far they came, how much they take."""
    from harness.commands.folders import facts, lines, listed, matches, written

    runs = [one for one in sorted(listed(root), key=written) if matches(one, word)]
    if as_json:
        say_json({"runs": [facts(one) for one in runs]})
        return
    for one in runs:
        typer.echo("\n".join(lines(one)))
    if not runs:
        typer.echo(f"no run in {root}" + (f' has "{visible(word)}" in its name, rows, data or testbed' if word else ""))


@app.command("rename", short_help="Give a run's folder another name")
def rename(
    old: Annotated[str, typer.Argument(help="A run, as `harness runs` names it.")],
    new: Annotated[str, typer.Argument(help="Its new name, in the same folder.")],
    root: In = RUNS,
) -> None:
    """Give a run's folder another name. Its stages stay where they are."""
    one = run_of(old, root)
    place = one.folder.with_name(new) if new == Path(new).name and new not in ("", "..") else None
    if place is None:
        raise UsageError(f"{new} is no plain name; a run stays in its folder, or loses the way to its store.")
    with theirs(one):
        if place.exists() or place.is_symlink():
            raise UsageError(f"{place} is there already; choose another name, or remove that one first.")
        one.folder.rename(place)
    typer.echo(f"{one.folder} is {place} now; its command, given again, makes a folder of the old name.")


@app.command("remove", short_help="Delete the folders of runs, and nothing of the store")
def remove(
    names: Annotated[list[str], typer.Argument(help="Runs, as `harness runs` names them.")],
    root: In = RUNS,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete the folders of runs: their tables and manifests. The store keeps what it has (see `harness store gc`)."""
    from harness.commands.folders import lines, shown

    doomed = [run_of(name, root) for name in dict.fromkeys(names)]
    for one in doomed:
        typer.echo("\n".join(lines(one)))
        others = foreign(one)
        if others:
            typer.echo(f"  with {len(others)} files that no comparison wrote: {', '.join(map(shown, others[:3]))}")
    if not yes and not typer.confirm(f"Delete {len(doomed)} of these folders with all that is in them?", default=False):
        typer.echo("nothing was removed")
        return
    for one in doomed:
        with theirs(one):
            shutil.rmtree(one.folder)
        typer.echo(f"{one.folder} is removed")


def run_of(name: str, root: Path) -> "Listed":
    """The run of a name; UsageError for what is none, or cannot be moved without harm."""
    from harness.commands.folders import found, read

    folder = found(name, root)
    one = read(folder, name) if folder.is_dir() else None
    if one is None or not one.known:
        why = f" ({one.why})" if one else ""
        raise UsageError(f"{folder} is no run that `harness compare` wrote{why}; look at it and deal with it by hand.")
    if folder.is_symlink():
        raise UsageError(f"{folder} is a link; rename or remove what it leads to.")
    inside = [store for store in one.stores if store.resolve().is_relative_to(folder.resolve())]
    if inside or any(folder.rglob(".locks")):
        raise UsageError(f"{folder} has a store in it, which other runs may need; move that out first.")
    return one


@contextmanager
def theirs(one: "Listed") -> Iterator[None]:
    """No comparison begins or ends in the folder meanwhile."""
    from harness.comparison.run_folder import held
    from harness.store.store import Store

    with ExitStack() as locks:
        for store in one.stores:
            if (store / ".locks").is_dir():  # one that is gone makes no run, and is not made again
                for folder in dict.fromkeys([one.folder, *one.parts]):
                    locks.enter_context(held(folder, Store(store)))
        yield


def foreign(one: "Listed") -> list[str]:
    """The files in its folders that are not a comparison's."""
    from harness.comparison.run_folder import OURS
    from harness.store.store import MANIFEST

    files = (path for path in one.folder.rglob("*") if not path.is_dir())
    ours = {one.folder, *one.parts}
    known = (
        path for path in files if not (path.parent in ours and (OURS.fullmatch(path.name) or path.name == MANIFEST))
    )
    return sorted(str(path.relative_to(one.folder)) for path in known)
