"""The comparisons in a folder: what `harness runs` lists, `harness diff` finds and `harness store gc` keeps."""

import os
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from harness.commands import RUNS
from harness.comparison.run_folder import PART, SIZES
from harness.store.store import MANIFEST
from harness.system.console import columns, visible
from harness.system.errors import UsageError
from harness.system.untrusted import json_object
from reports.manifest import Manifest

MARKS = {"cells", "testbed"}  # fields that tell a run's manifest, of any version, from what else is called so
LONGEST = 60  # characters of a name from a manifest that are shown
MOST = 12  # rows that are named in a line


@dataclass(frozen=True)
class Listed:
    """One comparison. `parts` are its manifests by their folders: one, or one for each of its sizes.

    `why` says what cannot be read of it; then `parts` lacks that, and `known` tells whether it is surely a run.
    """

    name: str
    folder: Path
    parts: Mapping[Path, Manifest] = field(default_factory=dict)
    sizes: tuple[int, ...] = ()
    why: str = ""
    known: bool = True

    @property
    def stores(self) -> list[Path]:
        """Where its stages are, as its manifests say."""
        return list(dict.fromkeys(folder / told.store for folder, told in self.parts.items()))

    @property
    def first(self) -> Manifest | None:
        """Its manifest; of several sizes the first one's; None where none can be read."""
        return next(iter(self.parts.values()), None)


def listed(root: Path) -> Iterator[Listed]:
    """Every comparison under a folder, by name; stores and what is no run are passed over.

    UsageError where there is no such folder. What cannot be read is one that says why.
    """
    if not root.is_dir():
        raise UsageError(f"{root} is no folder; `harness compare` makes {RUNS} with its first comparison.")
    sized = set[Path]()
    for folder, error in _folders(root):
        if folder in sized:
            continue
        name = str(folder.relative_to(root)) if folder != root else folder.resolve().name
        if error:
            yield Listed(name, folder, why=error, known=False)
        elif one := read(folder, name):
            sized |= one.parts.keys()
            yield one


def read(folder: Path, name: str) -> Listed | None:
    """The comparison in a folder; None where it holds none."""
    if os.path.lexists(folder / SIZES):
        return _several(folder, name)
    if not os.path.lexists(folder / MANIFEST):
        return None
    known = False
    try:
        if not (known := is_run(folder)):
            return None
        return Listed(name, folder, {folder: Manifest.read(folder / MANIFEST)})
    except UsageError as error:
        return Listed(name, folder, why=str(error), known=known)


def is_run(folder: Path) -> bool:
    """Whether the folder's manifest is a run's, of whatever version; UsageError where it cannot be read."""
    return bool(json_object(folder / MANIFEST).keys() & MARKS)


def _several(folder: Path, name: str) -> Listed:
    """A comparison at several sizes; one that was stopped early lacks some."""
    parts, known = dict[Path, Manifest](), False
    try:
        sizes = json_object(folder / SIZES).get("sizes")
        if not isinstance(sizes, list) or not all(type(size) is int for size in sizes):
            raise UsageError(f"{folder / SIZES} does not say its sizes.")
        known = True
        for size in sizes:
            if os.path.lexists(folder / str(size) / MANIFEST):
                parts[folder / str(size)] = Manifest.read(folder / str(size) / MANIFEST)
        return Listed(name, folder, parts, tuple(sizes))
    except UsageError as error:
        return Listed(name, folder, parts, why=str(error), known=known)


def _folders(root: Path) -> Iterator[tuple[Path, str]]:
    """Folders under `root`, itself first, through links too, by name; and why one cannot be looked into."""
    todo, seen = [root], set[tuple[int, int]]()
    while todo:
        folder = todo.pop()
        try:
            status = folder.stat()
            inner = sorted(path.name for path in folder.iterdir() if path.name != PART and path.is_dir())
        except OSError as error:
            yield folder, f"it cannot be read: {error.strerror}."
            continue
        if (status.st_dev, status.st_ino) in seen or ".locks" in inner:  # the second is a store
            continue
        seen.add((status.st_dev, status.st_ino))
        yield folder, ""
        todo += [folder / name for name in reversed(inner)]


def found(name: str, root: Path) -> Path:
    """The folder or bundle of a name as `harness runs` lists it, or of a path; UsageError where there is neither."""
    for path in (root / name, Path(name)):
        if os.path.lexists(path):
            return path
    raise UsageError(f"{name} is neither a run in {root} nor a path; `harness runs` lists those that there are.")


def shown(text: object, longest: int = LONGEST) -> str:
    """A manifest's word on one line, cut."""
    line = visible(str(text))
    return line if len(line) <= longest else f"{line[: longest - 3]}..."


def size(folder: Path) -> int:
    """Bytes of the files in a folder; what goes meanwhile, and what cannot be looked at, has none."""
    total, todo = 0, [folder]
    while todo:
        try:
            entries = list(os.scandir(todo.pop()))
        except OSError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                todo.append(Path(entry.path))
            elif not entry.is_symlink():
                total += entry.stat().st_size
    return total


def written(one: Listed) -> float:
    """When its (last) manifest was written; of what has none, the folder."""
    times = [path.stat().st_mtime for folder in one.parts if (path := folder / MANIFEST).exists()]
    try:
        return max(times, default=0.0) or one.folder.stat().st_mtime
    except OSError:
        return 0.0


def matches(one: Listed, word: str) -> bool:
    """Whether its name, a row of it, its data or its testbed has the word in it, whatever the case."""
    told = [one.name, *rows(one), *([one.first.data, one.first.testbed] if one.first else [])]
    return any(word.casefold() in text.casefold() for text in told)


def rows(one: Listed) -> list[str]:
    """What it compared with the baseline."""
    return list(dict.fromkeys(row for told in one.parts.values() for row in told.rows))


def seeds(one: Listed) -> list[int]:
    """The seeds of its cells."""
    return sorted({cell.seed for told in one.parts.values() for cell in told.cells})


def state(one: Listed) -> str:
    """How far it came, in a few words."""
    if one.why:
        return "manifest not readable" if one.known or one.folder.is_dir() else "not readable"
    failed = sum(len(told.failed) for told in one.parts.values())
    whole = len(one.parts) >= len(one.sizes) and all(told.finished for told in one.parts.values())
    reached = f"{failed} failed" if failed else "finished" if whole and one.parts else "unfinished"
    gone = any(not store.is_dir() for store in one.stores)
    return f"{reached}, its store is gone" if gone else reached


def facts(one: Listed) -> dict[str, Any]:
    """Everything that is listed, for machines."""
    return {
        "name": one.name,
        "folder": str(one.folder),
        "state": state(one),
        "why": one.why,
        "written": datetime.fromtimestamp(written(one)).astimezone().isoformat(timespec="seconds"),
        "rows": rows(one),
        "data": one.first.data if one.first else None,
        "testbed": one.first.testbed if one.first else None,
        "synthetic": one.first.synthetic if one.first else None,
        "seeds": seeds(one),
        "sizes": list(one.sizes),
        "failed": [failed.model_dump() for told in one.parts.values() for failed in told.failed],
        "stores": [str(store) for store in one.stores],
        "bytes": size(one.folder),
    }


def lines(one: Listed) -> Iterator[str]:
    """Its name, which every command takes, and what it is; of one that cannot be read a single line."""
    if one.why:
        yield f"{visible(one.name)}: {state(one)}: {shown(one.why, 300)}"
        return
    yield visible(one.name)
    when = datetime.fromtimestamp(written(one)).astimezone().strftime("%Y-%m-%d %H:%M")
    named, many = [shown(row) for row in rows(one)], seeds(one)  # seed 0 alone goes without saying
    what = ", ".join(named[:MOST]) + (f" and {len(named) - MOST} more" if named[MOST:] else "") or "baseline"
    sized = f", sizes {', '.join(map(str, one.sizes))}" if one.sizes else ""
    on = "nothing yet"
    if told := one.first:
        on = f"{what} on {shown(told.data)}, {shown(told.testbed)}{' (synthetic)' if told.synthetic else ''}"
    drawn = f", seed{'s' * (len(many) != 1)} {', '.join(map(str, many[:MOST]))}" if many not in ([], [0]) else ""
    said = f"{state(one)}  {when}  {on}{drawn}{sized}  {decimal(size(one.folder))}"
    yield from textwrap.wrap(said, columns(), initial_indent="  ", subsequent_indent="    ")
