"""`harness data where`: which sources and benchmarks are there, and for what is not where it comes from."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from harness.commands.options import Json, TestbedName
from harness.contracts import borrowed
from harness.contracts.offered import Offered
from harness.system.console import say_json
from harness.system.errors import UsageError


class Place(NamedTuple):
    """Where the files of a source or benchmark belong, and whether they are there."""

    name: str
    what: Offered
    home: Path
    there: bool

    @property
    def plain(self) -> dict[str, object]:
        """The same for JSON."""
        from harness.system.hub import revision_of

        offered = self.what.offered
        return {
            "name": self.name,
            "there": self.there,
            "home": str(self.home),
            "revision": revision_of(self.home),
            "layout": self.what.layout,
            "size": offered.size if offered else "",
            "command": self.what.command(self.home),
        }


def where(
    names: Annotated[list[str] | None, typer.Argument(help="Sources and benchmarks; default: all.")] = None,
    testbed: TestbedName = "llava-1.5-7b",
    download: Annotated[
        bool, typer.Option("--download", help="Fetch what the hub has of those named and missing, at a commit.")
    ] = False,
    revision: Annotated[str, typer.Option(help="With --download and one name: the commit, not today's.")] = "",
    as_json: Json = False,
) -> None:
    """Say for each source and benchmark whether its files are there, and where they come from."""
    borrows = [name for name in names or () if borrowed.maker("benchmarks", name)]
    found = {place.name: place for place in places(testbed, borrows)}
    if unknown := [name for name in names or () if name not in found]:
        raise UsageError(f"{unknown[0]} is no source or benchmark here; there are {', '.join(found)}.")
    if (download and not names) or (revision and not (download and len(names or ()) == 1)):
        raise UsageError("--download fetches what is named, e.g. harness data where pope --download; --revision, one.")
    wanted = [found[name] for name in names or found]
    if download:
        for place in wanted:
            fetch(place, revision)
        found = {place.name: place for place in places(testbed, borrows)}  # as it is now
        wanted = [found[place.name] for place in wanted]
    if as_json:
        say_json({"testbed": testbed, "places": [place.plain for place in wanted]})
        return
    wide = max(len(place.name) for place in wanted)
    for place in wanted:
        of = f", {place.plain['revision']}" if place.plain["revision"] else ""
        typer.echo(f"{place.name:<{wide}}  {'there  ' if place.there else 'missing'}  {place.home}{of}")
        if not place.there:
            typer.echo(f"{'':<{wide}}  {place.what.told(place.home)}")


def places(testbed: str, borrows: Sequence[str] = ()) -> Iterator[Place]:
    """The sources and the benchmarks of a testbed of official files, and those that another library has."""
    from harness.contracts import plugins
    from harness.contracts.behind import behind
    from harness.contracts.benchmark import Benchmark, folder_of
    from harness.contracts.testbed_file import read_testbed
    from harness.sources import _chosen

    bed = read_testbed(testbed)
    kind = behind(bed.data)
    if kind.home is None:
        raise UsageError(f"{bed.name} draws its files itself; name a testbed of official files with --testbed.")
    if unset := kind.unset():
        raise UsageError(unset)
    for name in _chosen.named():
        source = _chosen.source(name, home=kind.home)
        assert source.home is not None
        yield Place(name, source, source.home, not source.lacks())
    for name in (*plugins.names("benchmarks"), *borrows):
        made: Benchmark = plugins.make("benchmarks", name, Benchmark, bed.benchmarks.get(name, {}))
        home = folder_of(name, kind.home)
        if not made.heldout:
            yield Place(name, made, home, home.is_dir() or bool(getattr(made, "hub", "")))


def fetch(place: Place, revision: str) -> None:
    """Fetch what the hub has of it, and say what is left to do."""
    from harness.system.hub import download

    if not (offered := place.what.offered):
        raise UsageError(f"{place.name} is not on the hub. {place.what.told(place.home)}")
    typer.echo(f"{place.name}: fetching {', '.join(offered.files)} of {offered.repository} ({offered.size})", err=True)
    typer.echo(f"{place.name}: {download(offered.repository, offered.files, place.home, revision)}")
    if rest := place.what.fetch.replace("{home}", str(place.home)):
        typer.echo(f"{place.name}: then {rest}")
