"""Other machines, in one process: their kernels know nothing of each other's locks, as on NFS with `nolock`."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

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
