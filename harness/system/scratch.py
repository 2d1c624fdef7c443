"""A process's folder for files of the moment. A killed one leaves its own to whoever makes the next of that name."""

import fcntl
import os
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path


class Scratch:
    """A folder `path` in the system's temporary one, until `clear` or the end of this process.

    While it is one's, the kernel's lock on it is held, which ends with the process however that ends. Folders of this
    name whose locks nobody holds are removed first.
    """

    def __init__(self, name: str) -> None:
        for left in Path(tempfile.gettempdir()).glob(f"{name}-*"):
            with suppress(OSError):  # in use, another user's, or no folder
                lock = _locked(left, fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
                os.close(lock)
        self.path, lock = _made(name)
        self.clear = weakref.finalize(self, _end, self.path, lock)


def _made(name: str) -> tuple[Path, int]:
    """A new folder and its lock's descriptor; another one, where somebody has removed it before it was locked."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        with suppress(FileNotFoundError):
            lock = _locked(path)
            if path.is_dir():
                return path, lock
            os.close(lock)


def _locked(folder: Path, how: int = 0) -> int:
    """The descriptor of a folder, no link, with the kernel's lock; BlockingIOError where LOCK_NB finds it held."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | how)
    except OSError:
        os.close(opened)
        raise
    return opened


def _end(path: Path, lock: int) -> None:
    shutil.rmtree(path, ignore_errors=True)
    os.close(lock)
