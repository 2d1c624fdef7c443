"""What a finished stage says of itself: sealed, so that a changed byte is seen, here and in the files it names."""

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

from harness.store.digest import file_digest
from harness.system.errors import HarnessError
from harness.system.jsonl import dumps
from harness.system.untrusted import MIB, content

MANIFEST = "manifest.json"
STAGE = re.compile(r"[a-z][a-z0-9_]{0,39}/[0-9a-f]{20}")  # the name of a stage: kind and key
FIELDS = {"kind": str, "key": str, "identity": dict, "seconds": int | float}
INDENT = re.compile(rb"\n *")  # no text in JSON has a line's end
MANY = 8192  # stages whose reading takes longer than starting processes
TOLD = 100  # stages that are read between two tellings of how many
LARGEST = 256 * MIB  # of a manifest: it lists every file

_unindented = json.JSONEncoder(ensure_ascii=False, separators=(",", ": ")).encode


def render(fields: dict[str, Any]) -> str:
    """A manifest's text; its last line seals the others."""
    return (
        json.dumps({**fields, "seal": hashlib.sha256(dumps(fields).encode()).hexdigest()}, indent=1, ensure_ascii=False)
        + "\n"
    )


def read_manifest(folder: Path | str) -> dict[str, Any]:
    """A manifest's fields; HarnessError where a byte is not as it was written, but for how far lines are indented."""
    data = content(f"{folder}/{MANIFEST}", limit=LARGEST)
    try:
        fields = json.loads(data)
        plain = _unindented(fields).encode()
        intact = isinstance(fields, dict) and data.endswith(b"\n}\n") and INDENT.sub(b"", data) == plain
        intact = intact and fields.pop("seal", None) == hashlib.sha256(dumps(fields).encode()).hexdigest()
        intact = intact and _sound(fields)
    except (ValueError, RecursionError):
        intact = False
    if not intact:
        raise HarnessError(f"{folder}/{MANIFEST} is damaged; delete {folder} and give the same command again.")
    return cast(dict[str, Any], fields)


def _sound(fields: Mapping[str, Any]) -> bool:
    """Whether the fields are what they should be: a seal proves that nothing changed, not who wrote it."""
    inputs, files = fields.get("inputs"), fields.get("files")
    plain = all(isinstance(fields.get(name), kind) for name, kind in FIELDS.items())
    named = isinstance(inputs, dict) and all(STAGE.fullmatch(str(read)) for read in inputs.values())
    summed = isinstance(files, dict) and all(isinstance(known, dict) and "sha256" in known for known in files.values())
    return plain and named and summed


def is_stored(path: Path | str, known: Mapping[str, Any], digest: Callable[[Path | str], str]) -> bool:
    """Whether a plain file has the size and the digest that a manifest knows; nothing of another size is read."""
    try:
        status = os.stat(path)  # noqa: PTH116 -- a string, where there are 100,000 stages
    except OSError:
        return False
    same = stat.S_ISREG(status.st_mode) and status.st_size == known.get("bytes")
    return same and digest(path) == known.get("sha256")


def damage_in(folder: Path | str, digest: Callable[[Path | str], str]) -> list[str]:
    """What is not as it was stored in a stage's folder: files missing, changed or added; hidden ones are nobody's.

    One look at the folder, and one opening and two looks per file: a store has 100,000 of them.
    """
    place = str(folder)
    try:
        there = set(_names(place))
    except (FileNotFoundError, NotADirectoryError):
        there = set[str]()  # another process is moving it away
    if MANIFEST not in there:
        return [f"{MANIFEST} is missing"]
    try:
        fields = read_manifest(place)
    except HarnessError:
        return [f"{MANIFEST} is damaged"]
    if [fields["kind"], fields["key"]] != place.split("/")[-2:]:
        return [f"{MANIFEST} belongs to {fields['kind']}/{fields['key']}"]
    files: dict[str, dict[str, Any]] = fields["files"]
    found = [f"{name} is missing" for name in files if name not in there]
    added = {name for name in there if not name.rpartition("/")[2].startswith(".")} - {*files, MANIFEST}
    found += [f"{name} is not in the manifest" for name in sorted(added)]
    found += [
        f"{name} has changed"
        for name, known in files.items()
        if name in there and not is_stored(f"{place}/{name}", known, digest)
    ]
    return found


def folders(root: Path, kind: str = "*") -> list[str]:
    """Names (`kind/key`) of the folders of stages in a store, whatever they hold, sorted."""
    found = list[str]()
    for above in root.glob(kind):
        if above.name[0] != "." and above.is_dir():
            with os.scandir(above) as entries:
                found += [f"{above.name}/{entry.name}" for entry in entries if entry.is_dir()]
    return sorted(found)


def damaged(root: Path, names: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each stage with its damage, every byte read; of many stages on all cores."""
    look, places = partial(damage_in, digest=file_digest), [f"{root}/{name}" for name in names]
    if len(names) < MANY:
        yield from zip(names, map(look, places), strict=True)
        return
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        yield from zip(names, pool.map(look, places, chunksize=256), strict=True)


def _names(folder: str, prefix: str = "") -> Iterator[str]:
    """Of all that is in a folder and no folder, and in those below; pathlib takes four times as long."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _names(entry.path, f"{prefix}{entry.name}/")
            elif not entry.is_dir():
                yield prefix + entry.name
