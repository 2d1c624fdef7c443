"""What a finished stage says of itself: sealed, so that a changed byte is seen, here and in the files it names."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from harness.system.errors import HarnessError
from harness.system.jsonl import dumps
from harness.system.untrusted import MIB, content

MANIFEST = "manifest.json"
STAGE = re.compile(r"[a-z][a-z0-9_]{0,39}/[0-9a-f]{20}")  # the name of a stage: kind and key
FIELDS = {"kind": str, "key": str, "identity": dict, "seconds": int | float}
LARGEST = 256 * MIB  # of a manifest: it lists every file


def render(fields: dict[str, Any]) -> str:
    """A manifest's text; its last line seals the others."""
    return (
        json.dumps({**fields, "seal": hashlib.sha256(dumps(fields).encode()).hexdigest()}, indent=1, ensure_ascii=False)
        + "\n"
    )


def read_manifest(folder: Path) -> dict[str, Any]:
    """A manifest's fields; HarnessError where a byte is not as it was written."""
    data = content(folder / MANIFEST, limit=LARGEST)
    try:
        fields = json.loads(data)
        intact = isinstance(fields, dict) and fields.pop("seal", None) and render(fields).encode() == data
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
    return path.is_file() and path.stat().st_size == known.get("bytes") and digest(path) == known.get("sha256")


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
    there = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not path.is_dir()}
    found = [f"{name} is missing" for name in files if name not in there]
    added = {name for name, path in there.items() if not path.name.startswith(".")} - {*files, MANIFEST}
    found += [f"{name} is not in the manifest" for name in sorted(added)]
    found += [
        f"{name} has changed"
        for name, known in files.items()
        if name in there and not is_stored(there[name], known, digest)
    ]
    return found
