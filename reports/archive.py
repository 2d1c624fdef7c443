"""A bundle's archive read back: hostile until it has been checked.

Plain files with our kind of names, and no more of them than a comparison can have.
"""

import re
import shutil
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from harness.types import UsageError

MOST_FILES, MOST_BYTES = 100_000, 4 << 30
NAME = re.compile(r"(runs/\d{3}|store/[a-z][a-z0-9_]{0,39}/[0-9a-f]{20})/[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def is_bundle(file: Path) -> bool:
    """Whether it is an archive at all."""
    return file.is_file() and zipfile.is_zipfile(file)


def unpack(file: Path, folder: Path) -> None:
    """Write a bundle's files under `folder`; UsageError, and nothing outside it, for any other archive."""
    try:
        with zipfile.ZipFile(file) as archive:
            _check(file, archive.infolist())
            for entry in archive.infolist():
                target = folder / entry.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, target.open("wb") as sink:  # reads no more than was declared
                    shutil.copyfileobj(source, sink)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise UsageError(f"{file} is damaged: {error}.") from None
    if not (folder / "runs").is_dir():
        raise UsageError(f"{file} is not a bundle of `harness report`: there is no run in it.")


def _check(file: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
    """UsageError for names that are not ours, names that collide, and too much of anything."""
    if len(entries) > MOST_FILES or sum(entry.file_size for entry in entries) > MOST_BYTES:
        raise UsageError(
            f"{file} holds more than {MOST_FILES:,} files or {MOST_BYTES >> 30} GiB: no report is so large."
        )
    seen: set[str] = set()
    for entry in entries:
        known = entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        if not known or not NAME.fullmatch(entry.filename) or entry.filename.lower() in seen:
            raise UsageError(f"{file} is not a bundle of `harness report`: it holds {entry.filename[:100]!r}.")
        seen.add(entry.filename.lower())
