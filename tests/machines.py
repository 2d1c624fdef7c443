"""Other machines, in one process: their kernels know nothing of each other's locks, as on NFS with `nolock`."""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TextIO

import pytest

from harness.system import leases, locks


@contextmanager
def on(name: str) -> Iterator[None]:
    """What runs inside runs on the machine of this name."""
    with pytest.MonkeyPatch.context() as patch:
        deaf = SimpleNamespace(**{**vars(fcntl), "flock": lambda file, how: None})
        patch.setattr(locks, "fcntl", deaf)
        patch.setattr(leases, "machine", lambda: (name, name))
        yield


@contextmanager
def nfs() -> Iterator[None]:
    """Locks and names as Linux has them on NFS: a lock is of bytes, which are read or written, and a file that is
    unlinked while it is open gets another name.
    """
    flock, unlink = fcntl.flock, Path.unlink

    def of_bytes(file: TextIO, how: int) -> None:
        opened_for, unfit = fcntl.fcntl(file, fcntl.F_GETFL), os.O_WRONLY if how & fcntl.LOCK_SH else os.O_RDONLY
        if opened_for & os.O_ACCMODE == unfit:
            raise OSError(errno.EBADF, "Bad file descriptor")
        flock(file, how)

    def kept(path: Path, missing_ok: bool = False) -> None:
        opened = {os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()}
        if str(path.resolve()) in opened:
            path.rename(path.with_name(f".nfs-{path.name}"))
        else:
            unlink(path, missing_ok)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", of_bytes)
        patch.setattr(Path, "unlink", kept)
        yield


class Clock:
    """Time that passes where somebody waits. `meanwhile` is called each time, once between two beats of a lease."""

    def __init__(self, patch: pytest.MonkeyPatch, meanwhile: Callable[[], object] = lambda: None) -> None:
        self.now, self.meanwhile, self.told = 0.0, meanwhile, 0.0
        patch.setattr(leases, "now", lambda: self.now)
        patch.setattr(leases, "pause", self.pause)

    def pause(self, seconds: float) -> None:
        self.now += seconds
        if self.now - self.told >= leases.BEAT_S:
            self.told = self.now
            self.meanwhile()
