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
LARGEST = 256 * MIB  # of a manifest: it lists every file


def render(fields: dict[str, Any]) -> str:
    """A manifest's text; its last line seals the others."""
    return (
        json.dumps({**fields, "seal": hashlib.sha256(dumps(fields).encode()).hexdigest()}, indent=1, ensure_ascii=False)
        + "\n"
    )


def read_manifest(folder: Path) -> dict[str, Any]:
    """A manifest's fields; HarnessError where a byte is not as it was written, but for how far lines are indented."""
    data = content(folder / MANIFEST, limit=LARGEST)
    try:
        fields = json.loads(data)
        plain = json.dumps(fields, ensure_ascii=False, separators=(",", ": ")).encode()
        intact = isinstance(fields, dict) and data.endswith(b"\n}\n") and INDENT.sub(b"", data) == plain
        intact = intact and fields.pop("seal", None) == hashlib.sha256(dumps(fields).encode()).hexdigest()
        intact = intact and _sound(fields)
    except (ValueError, RecursionError):
        intact = False
    if not intact:
        raise HarnessError(f"{folder / MANIFEST} is damaged; delete {folder} and give the same command again.")
    return cast(dict[str, Any], fields)


def _sound(fields: Mapping[str, Any]) -> bool:
    """Whether the fields are what they should be: a seal proves that nothing changed, not who wrote it."""
    inputs, files = fields.get("inputs"), fields.get("files")
    plain = all(isinstance(fields.get(name), kind) for name, kind in FIELDS.items())
    named = isinstance(inputs, dict) and all(STAGE.fullmatch(str(read)) for read in inputs.values())
    summed = isinstance(files, dict) and all(isinstance(known, dict) and "sha256" in known for known in files.values())
    return plain and named and summed


def is_stored(path: Path, known: Mapping[str, Any], digest: Callable[[Path], str]) -> bool:
    """Whether a plain file has the size and the digest that a manifest knows; nothing of another size is read."""
    try:
        status = path.stat()
    except OSError:
        return False
    same = stat.S_ISREG(status.st_mode) and status.st_size == known.get("bytes")
    return same and digest(path) == known.get("sha256")


def damage_in(folder: Path, digest: Callable[[Path], str]) -> list[str]:
    """What is not as it was stored in a stage's folder: files missing, changed or added; hidden ones are nobody's."""
    if not (folder / MANIFEST).is_file():
        return [f"{MANIFEST} is missing"]
    try:
        fields = read_manifest(folder)
    except HarnessError:
        return [f"{MANIFEST} is damaged"]
    if (fields["kind"], fields["key"]) != (folder.parent.name, folder.name):
        return [f"{MANIFEST} belongs to {fields['kind']}/{fields['key']}"]
    files: dict[str, dict[str, Any]] = fields["files"]
    there = set(_names(str(folder)))
    found = [f"{name} is missing" for name in files if name not in there]
    added = {name for name in there if not name.rpartition("/")[2].startswith(".")} - {*files, MANIFEST}
    found += [f"{name} is not in the manifest" for name in sorted(added)]
    found += [
        f"{name} has changed"
        for name, known in files.items()
        if name in there and not is_stored(folder / name, known, digest)
    ]
    return found


def damaged(folders: Sequence[Path]) -> Iterator[tuple[Path, list[str]]]:
    """Each with its damage, every byte read; of many folders on all cores."""
    look = partial(damage_in, digest=file_digest)
    if len(folders) < MANY:
        yield from zip(folders, map(look, folders), strict=True)
        return
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        yield from zip(folders, pool.map(look, folders, chunksize=256), strict=True)


def _names(folder: str, prefix: str = "") -> Iterator[str]:
    """Of all that is in a folder and no folder, and in those below; pathlib takes four times as long."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _names(entry.path, f"{prefix}{entry.name}/")
            elif not entry.is_dir():
                yield prefix + entry.name
