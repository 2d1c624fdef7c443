"""The last layer at those places alone whose states are read: what stands at others reaches nobody.

Exact: parts that act on each place by itself give a place what they give it among others, and the gradient of a state
that nobody reads is zero. Of a picture's hundreds of places none is read, so that a layer's queries and its MLP, four
fifths of it, are nearly free.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Narrow:
    """Runs `parts` at `places`, (n,) int64 indices into B*L; zeros stand at the others."""

    def __init__(self, parts: Sequence[nn.Module], places: Tensor) -> None:
        self.parts, self.places = parts, places
        self._rows = torch.Size()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """While inside; a backward pass that computes a layer again has to be inside too."""
        hooks: list[Any] = []
        try:
            for part in self.parts:
                hooks += [part.register_forward_pre_hook(self._few), part.register_forward_hook(self._whole)]
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _few(self, part: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor]:
        """(B, L, width) to (1, n, width)."""
        (states,) = given
        self._rows = states.shape[:2]
        return (states.flatten(0, 1).index_select(0, self.places)[None],)

    def _whole(self, part: nn.Module, given: Any, made: Tensor) -> Tensor:
        """(1, n, width) to (B, L, width)."""
        empty = made.new_zeros(self._rows.numel(), made.shape[-1])
        return empty.index_copy_(0, self.places, made[0]).view(*self._rows, -1)
