"""A bundle's archive read back: hostile until it has been checked.

Plain files with our kind of names, and no more of them than a comparison can have.
"""

import re
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

from harness.system.archives import archive, is_archive
from harness.system.errors import UsageError

MOST_FILES, MOST_BYTES = 60_000, 2 << 30
NAME = re.compile(r"(runs/\d{3}|store/[a-z][a-z0-9_]{0,39}/[0-9a-f]{20})/[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def is_bundle(file: Path) -> bool:
    """Whether it is an archive at all."""
    return is_archive(file)


def unpack(file: Path, folder: Path) -> None:
    """Write a bundle's files under `folder`; UsageError, and nothing outside it, for any other archive."""
    with archive(file, MOST_FILES, MOST_BYTES) as packed:
        _check(file, packed.infolist())
        for entry in packed.infolist():
            target = folder / entry.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            with packed.open(entry) as source, target.open("wb") as sink:  # reads no more than was declared
                shutil.copyfileobj(source, sink)
    if not (folder / "runs").is_dir():
        raise UsageError(f"{file} is not a bundle of `harness report`: there is no run in it.")


def _check(file: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
    """UsageError for names that are not ours, and names that collide."""
    seen: set[str] = set()
    for entry in entries:
        known = entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        if not known or not NAME.fullmatch(entry.filename) or entry.filename.lower() in seen:
            raise UsageError(f"{file} is not a bundle of `harness report`: it holds {entry.filename[:100]!r}.")
        seen.add(entry.filename.lower())
