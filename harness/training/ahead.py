"""The next micro-batch, prepared on another thread while this one is computed.

One thread prepares all of them in turn and nothing in it draws, so that no bit depends on when it did. What goes wrong
there is raised where the micro-batch is asked for.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch

from harness.models.batches import Sized

Made = TypeVar("Made")


class Ahead(Generic[Made]):
    """`make` of one micro-batch after the other."""

    def __init__(self, make: Callable[[Sequence[Sized]], Made]) -> None:
        self._make = make
        self._pool = ThreadPoolExecutor(1, "ahead", torch.set_num_threads, (1,))
        self._next: tuple[list[str], Future[Made]] | None = None

    def __call__(self, trees: Sequence[Sized], after: Sequence[Sized] = ()) -> Made:
        """What is made of `trees`; `after`, which is asked for next, is begun with."""
        known, self._next = self._next, None
        mine = known[1] if known and known[0] == _ids(trees) else self._pool.submit(self._make, trees)
        if after:
            self._next = _ids(after), self._pool.submit(self._make, after)
        return mine.result()

    def close(self) -> None:
        """Wait for what is under way, and begin nothing more."""
        self._pool.shutdown(cancel_futures=True)


def _ids(trees: Sequence[Sized]) -> list[str]:
    return [tree.id for tree in trees]
