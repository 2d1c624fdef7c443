"""Locks that belong to whoever writes: a child process that inherits one holds it as well.

On one machine a lock is the kernel's (flock) on an open file. It ends when the last process that has the file open has
ended, however that came about; so a run that was killed leaves nothing to clear away, and its children that still write
keep it. Whoever holds it takes its lease too (`harness.system.leases`), which keeps other machines away.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.system import leases
from harness.system.leases import Lease

LEASES = "leases"  # the folder beside a lock in which its leases lie, by its name
_held: set[int] = set()


@contextmanager
def exclusive(path: Path) -> Iterator[Lease]:
    """Hold the lock `path`, a file made for it, and its lease; waits while any other process holds it."""
    with _locked(path, fcntl.LOCK_EX) as place, leases.alone(_leases(path), place) as lease:
        yield lease


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold the lock `path` with any number of others who share it; waits while one holds it alone."""
    with _locked(path, fcntl.LOCK_SH) as place, leases.together(_leases(path), place):
        yield


@contextmanager
def at_once(path: Path) -> Iterator[None]:
    """`exclusive`, except that it does not wait: BlockingIOError where any other process holds the lock.

    One on another machine is known to live when it has written its lease anew (`leases.BEAT_S`).
    """
    with (
        _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB) as place,
        leases.alone(_leases(path), place, wait=False),
    ):
        yield


@contextmanager
def _locked(path: Path, how: int) -> Iterator[str]:
    """Hold the kernel's lock; yields how far that reaches: the kernel, and the file system as it has mounted it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:  # on NFS, to share a lock takes reading, to have one writing
        fcntl.flock(file, how)
        _held.add(file.fileno())
        try:
            yield f"{leases.machine()[1]}/{os.fstat(file.fileno()).st_dev}"
        finally:  # closing lets go; an explicit unlock would do so for the children too
            _held.discard(file.fileno())


def _leases(path: Path) -> Path:
    return path.parent / LEASES / path.name


def held() -> tuple[int, ...]:
    """Descriptors of the locks this process holds; give them to a child that writes what they guard."""
    return tuple(sorted(_held))
