"""Keys and values with room to grow: a generated token writes one column, where transformers' cache copies them all.

The numbers are those of `DynamicCache`, which this is but for where they lie in memory.
"""

from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

ROOM = 64  # places added at a time


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """One layer. keys, values: (B, heads, length, width), views of buffers that are longer."""

    keys: Tensor
    values: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append (B, heads, n, width); returns all keys and values so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        past = self.get_seq_length()
        total = past + key_states.shape[-2]
        if self._buffers is None or self._buffers[0].shape[-2] < total:
            self._buffers = _grown(self.keys, key_states, past, total), _grown(self.values, value_states, past, total)
        keys, values = self._buffers
        keys[..., past:total, :] = key_states
        values[..., past:total, :] = value_states
        self.keys, self.values = keys[..., :total, :], values[..., :total, :]
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Rows `indices`, which may repeat."""
        super().batch_select_indices(indices)
        self._buffers = None


def _grown(old: Tensor, like: Tensor, past: int, total: int) -> Tensor:
    """A buffer for `total` places and some more that starts with the `past` ones of `old`."""
    buffer = like.new_empty(*like.shape[:-2], total + ROOM, like.shape[-1])
    if past:
        buffer[..., :past, :] = old
    return buffer


def empty(layers: int) -> Any:
    """A cache for a language model of so many layers of full attention."""
    cache = DynamicCache()
    cache.layers = [RoomyLayer() for _ in range(layers)]
    return cache
