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
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _held.add(file.fileno())
        try:
            yield
        finally:  # closing lets go; an explicit unlock would do so for the children too
            _held.discard(file.fileno())


def held() -> tuple[int, ...]:
    """Descriptors of the locks this process holds; give them to a child that writes what they guard."""
    return tuple(sorted(_held))
