"""Keys and values with room to grow: a generated token writes one column, where transformers' cache copies them all.

The numbers are those of `DynamicCache`, which this is but for where they lie in memory.
"""

from typing import Any

import torch
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
            self._buffers = (
                _grown(self.keys if past else key_states, past, total),
                _grown(self.values if past else value_states, past, total),
            )
        keys, values = self._buffers
        keys[..., past:total, :] = key_states
        values[..., past:total, :] = value_states
        self.keys, self.values = keys[..., :total, :], values[..., :total, :]
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Rows `beam_idx`, which may repeat."""
        past = self.get_seq_length()
        keys, values = self._buffers = _chosen(self.keys, beam_idx, past), _chosen(self.values, beam_idx, past)
        self.keys, self.values = keys[..., :past, :], values[..., :past, :]

    def close_up(self, gaps: Tensor, fillers: Tensor, count: int) -> None:
        """`count` rows, of which those at the places `gaps` come from the places `fillers` behind them all."""
        assert self._buffers is not None, "what was read is in buffers"
        past = self.get_seq_length()
        for buffer in self._buffers:
            buffer[gaps, :, :past] = buffer[fillers, :, :past]
        keys, values = self._buffers = self._buffers[0][:count], self._buffers[1][:count]
        self.keys, self.values = keys[..., :past, :], values[..., :past, :]


def _grown(old: Tensor, past: int, total: int) -> Tensor:
    """A buffer for `total` places and some more that starts with the `past` ones of `old`."""
    buffer = old.new_empty(*old.shape[:-2], total + ROOM, old.shape[-1])
    buffer[..., :past, :] = old[..., :past, :]
    return buffer


def _chosen(old: Tensor, rows: Tensor, past: int) -> Tensor:
    """A buffer of such rows, written once."""
    buffer = old.new_empty(len(rows), old.shape[1], past + ROOM, old.shape[-1])
    torch.index_select(old, 0, rows, out=buffer[..., :past, :])
    return buffer


def empty(config: Any) -> Any:
    """A cache for a config's language model: its layers of full attention have room, others are transformers' own."""
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def looks_over_padding(cache: Any) -> bool:
    """Whether rows may have padding between their tokens: attention masks it, a state or a sliding window does not."""
    return all(isinstance(layer, RoomyLayer) for layer in cache.layers)


def closed_up(going: Tensor) -> Tensor:
    """(n,) places of the rows that go on, of (B,) bool: each keeps its own if it is below n, others fill the gaps."""
    count = int(going.sum())
    order = torch.arange(count, device=going.device)
    order[~going[:count]] = going[count:].nonzero()[:, 0] + count
    return order


def close_up(cache: Any, order: Tensor) -> None:
    """Rows `order` of a cache, as `closed_up` has them: no more is moved than fills gaps."""
    gaps = (order >= len(order)).nonzero()[:, 0]
    fillers = order[gaps]
    for layer in cache.layers:
        if isinstance(layer, RoomyLayer):
            layer.close_up(gaps, fillers, len(order))
        else:
            layer.reorder_cache(order)
