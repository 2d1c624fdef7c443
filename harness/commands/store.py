"""`harness store`: what is kept, what a stage is, whether all is as it was stored, and what no run needs any more."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands import RUNS
from harness.system.console import console, say_json, visible
from harness.system.errors import UsageError

if TYPE_CHECKING:
    from harness.store.store import Store

MOST = 20  # files of a stage that are named
OTHERS = {
    ".journal": "replies that were paid for",
    ".features": "images' features, by vision tower; made again where they are gone",
    ".work": "stages that were begun",
    ".jobs": "what jobs of a cluster were given, and their logs",
    ".staging": "stages under way, or left by killed processes",
}

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    help="What the store holds, whether it is as it was stored, and what of it no run needs any more.",
)

Root = Annotated[Path, typer.Option("--store", envvar="HARNESS_STORE", help="Where finished stages are kept.")]
Runs = Annotated[list[Path] | None, typer.Option("--runs", help="Folders of runs; may be repeated. [default: runs]")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")]
STORE = RUNS / "store"


@app.command("ls", short_help="How many stages of each kind there are, and their bytes")
def ls(root: Root = STORE, as_json: Json = False) -> None:
    """List how many finished stages of each kind there are and what they take; replies and features apart."""
    from harness.commands.folders import size

    store, kinds = opened(root), dict[str, tuple[int, int]]()
    for name in store.finished():
        kind = name.partition("/")[0]
        count, taken = kinds.get(kind, (0, 0))
        kinds[kind] = count + 1, taken + size(store.root / name)
    others = {name: taken for name in OTHERS if (taken := size(store.root / name))}
    if as_json:
        say_json({"store": str(store.root), "kinds": amounts(kinds), "beside": others})
        return
    show_kinds("kind", kinds)
    for name, taken in others.items():
        typer.echo(f"{name}: {decimal(taken)}, {OTHERS[name]}")


@app.command("show", short_help="What one stage is, from its manifest")
def show(
    stage: Annotated[str, typer.Argument(help="KIND/KEY, KEY, or how either begins.")],
    root: Root = STORE,
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Show what one stage is: what made it, what it reads, its files, and which runs use it."""
    store = opened(root)
    name = one_stage(store, stage)
    told = store.manifest_of(name)
    titles, users = usage(runs or [RUNS], [name, *told["inputs"].values()])
    if as_json:
        say_json({"stage": name, "title": titles.get(name, ""), "runs": users, **told})
        return
    show_stage(name, told, titles, users)


@app.command("verify", short_help="Whether every stage is as it was stored")
def verify(root: Root = STORE) -> None:
    """Read every byte of every finished stage. Exit status: 0 all is as it was stored, 3 a stage is damaged."""
    from harness.commands.terminal import examine_store

    if not examine_store(opened(root)):
        raise typer.Exit(3)


@app.command("gc", short_help="Remove what no run needs; shows first what that is")
def gc(
    root: Root = STORE,
    runs: Runs = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it; without, only what would go is shown.")] = False,
    as_json: Json = False,
) -> None:
    """Remove the stages that no run needs, neither to be shown nor to go on. Replies and features always stay.

    A run that lies elsewhere is not known here: name its folder with --runs.
    """
    from harness.commands.clearing import clear, plan_clearing

    store, folders = opened(root), runs or [RUNS]
    with store.alone():
        clearing = plan_clearing(store, folders)
        if yes:
            clear(store, clearing)
    kept = {"stages": len(clearing.kept), "bytes": sum(clearing.kept.values())}
    if as_json:
        rests = [str(path) for path in clearing.rests]
        going = {"kinds": amounts(clearing.kinds), "stages": list(clearing.stages), "rests": rests}
        say_json({"removed": yes, "runs": clearing.runs, "kept": kept, "strangers": clearing.strangers, **going})
        return
    runs_need = "1 run needs" if clearing.runs == 1 else f"{clearing.runs} runs need"
    typer.echo(f"{runs_need} {kept['stages']} stages, {decimal(kept['bytes'])}")
    if not clearing.kinds:
        typer.echo("nothing else is there, so nothing can go")
        return
    show_kinds("removed" if yes else "would go", clearing.kinds)
    if yes:
        return
    if clearing.strangers:
        typer.echo(
            f"{clearing.strangers} more folders of comparisons used this store: removed or renamed ones, or runs that "
            f"lie elsewhere than under {', '.join(map(str, folders))}. What those alone need would go too."
        )
    typer.echo("nothing was removed: --yes does it")


def opened(root: Path) -> "Store":
    """The store in a folder; UsageError where there is none."""
    from harness.store.store import Store

    if not root.is_dir():
        raise UsageError(f"{root} is no store; say with --store where it is. `harness compare` makes one.")
    return Store(root)


def decimal(count: int) -> str:
    """Bytes for people."""
    from rich.filesize import decimal

    return decimal(count)


def amounts(kinds: Mapping[str, tuple[int, int]]) -> dict[str, dict[str, int]]:
    """Numbers and bytes by kind, for machines."""
    return {kind: {"stages": count, "bytes": taken} for kind, (count, taken) in kinds.items()}


def show_kinds(head: str, kinds: Mapping[str, tuple[int, int]]) -> None:
    """Print numbers and bytes by kind, the largest first, and their sum."""
    from rich.table import Column, Table

    grid = Table(head, Column("number", justify="right"), Column("bytes", justify="right"), box=None)
    for kind, (count, taken) in sorted(kinds.items(), key=lambda pair: (-pair[1][1], pair[0])):
        grid.add_row(kind, f"{count:,}", decimal(taken))
    counts, bytes_ = (sum(pair[at] for pair in kinds.values()) for at in (0, 1))
    grid.add_row("in total", f"{counts:,}", decimal(bytes_))
    console().print(grid)


def one_stage(store: "Store", word: str) -> str:
    """The finished stage of a name or a beginning; UsageError where it is none, or several."""
    names = store.finished()
    fitting = [name for name in names if name == word] or [
        name for name in names if word and (name.startswith(word) or name.partition("/")[2].startswith(word))
    ]
    if len(fitting) != 1:
        more = ", ..." if fitting[3:] else ""
        many = f"{len(fitting)} begin so: {', '.join(fitting[:3])}{more}" if fitting else "none is called so"
        raise UsageError(f"{word} is no finished stage of {store.root} ({many}); give more of KIND/KEY.")
    return fitting[0]


def usage(folders: Sequence[Path], names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Titles of stages, as far as a run's profile has them, and the runs that use the first of them."""
    from harness.commands.clearing import named
    from harness.commands.folders import listed
    from harness.system.untrusted import json_object
    from reports.manifest import PROFILE, checked

    titles, users = dict[str, str](), list[str]()
    runs = [one for folder in folders if folder.is_dir() for one in listed(folder)]
    for one in runs:
        for folder, told in one.parts.items():
            try:
                profile = checked(PROFILE, json_object(folder / "profile.json"), folder / "profile.json")
            except UsageError:
                profile = {}  # of a run that is not finished
            known = {f"{row['stage']}/{row.get('key')}": row["title"] for row in profile.get("stages", ())}
            titles |= {name: known[name] for name in names if name in known}
            if names[0] in named(told):
                users.append(str(folder))
    return titles, users


def show_stage(name: str, told: Mapping[str, Any], titles: Mapping[str, str], users: Sequence[str]) -> None:
    """Print a stage's manifest in words."""
    from harness.store.store import leaves

    def section(head: str, lines: Mapping[str, str]) -> None:
        typer.echo(head if lines else f"{head}: nothing")
        wide = max(map(len, lines), default=0)
        for what, value in lines.items():
            typer.echo(f"  {visible(what):<{wide}}  {visible(value)}".rstrip())

    title = titles.get(name)
    typer.echo(f"{name}{f': {visible(title)}' if title else ''}")
    files = {file: known.get("bytes", 0) for file, known in told["files"].items()}
    made = f"made {told.get('created', 'at a time not known')} in {told['seconds']:.1f} s"
    typer.echo(f"{visible(made)} by version {visible(str(told.get('version', 'not known')))}")
    typer.echo(f"used by {', '.join(map(visible, users)) or 'no run that was looked at'}")
    section("reads", {what: f"{read}  {titles.get(read, '')}" for what, read in told["inputs"].items()})
    section("made of", leaves(told["identity"]))
    section(f"files: {len(files)}, {decimal(sum(files.values()))}", {f: decimal(n) for f, n in [*files.items()][:MOST]})
    if len(files) > MOST:
        typer.echo(f"  and {len(files) - MOST} more")
