"""How what a body has written becomes a stage: sealed, on disk, and killed by tests wherever that could do harm."""

import os
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.store.digest import file_digest

_reached: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Die here as by SIGKILL if HARNESS_FAILPOINT is "name:n" and this is the n-th call of that name."""
    wanted = os.environ.get("HARNESS_FAILPOINT")
    if wanted:
        _reached[name] += 1
        if wanted == f"{name}:{_reached[name]}":
            os._exit(137)


def seal(folder: Path) -> dict[str, dict[str, Any]]:
    """Force every file to disk, readable for whoever may read the folder; name -> sha256 and bytes."""
    readable = folder.stat().st_mode & 0o666  # safetensors writes for its owner alone, and stores are shared

    def seal(path: Path) -> tuple[str, dict[str, Any]]:
        """A file's name, and its sha256 and bytes."""
        path.chmod(readable)
        sync(path)
        return path.relative_to(folder).as_posix(), {"sha256": file_digest(path), "bytes": path.stat().st_size}

    inside = sorted(folder.rglob("*"))
    for path in inside:
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ValueError(f"{path} is not a plain file; a stage holds nothing else.")
    with ThreadPoolExecutor(8) as pool:  # fsync waits for the disk, not for a core
        files = dict(pool.map(seal, [path for path in inside if path.is_file()]))
    for path in inside:
        if path.is_dir():
            sync(path)
    return files


def look_anew(folder: Path) -> None:
    """Have this machine see what others have put into a folder that is there.

    NFS remembers for up to a minute which names are not; whoever changes a folder is told that others have.
    """
    with suppress(OSError):  # none is there, or nothing may be written
        os.utime(folder)


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(folder: Path) -> None:
    """Take a folder away, if it is there."""
    if folder.exists():
        shutil.rmtree(folder)
