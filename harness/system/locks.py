"""Locks that belong to whoever writes: a child process that inherits one holds it as well.

A lock is the kernel's (flock) on an open file. It ends when the last process that has the file open has ended, however
that came about; so a run that was killed leaves nothing to clear away, and its children that still write keep it.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_held: set[int] = set()


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock `path`, a file made for it; waits while any other process holds it."""
    with _locked(path, fcntl.LOCK_EX):
        yield


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold the lock `path` with any number of others who share it; waits while one holds it alone."""
    with _locked(path, fcntl.LOCK_SH):
        yield


@contextmanager
def at_once(path: Path) -> Iterator[None]:
    """`exclusive`, except that it never waits: BlockingIOError while any other process holds the lock."""
    with _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB):
        yield


@contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        fcntl.flock(file, how)
        _held.add(file.fileno())
        try:
            yield
        finally:  # closing lets go; an explicit unlock would do so for the children too
            _held.discard(file.fileno())


def held() -> tuple[int, ...]:
    """Descriptors of the locks this process holds; give them to a child that writes what they guard."""
    return tuple(sorted(_held))
