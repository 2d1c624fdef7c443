"""Dropout drawn per record and place: a mask depends on what is trained, not on how it was cut over batches and ranks.

A value is dropped by a hash of the training's seed, the step, the record, the place in its sequence, the module's name
and the value's number in its place. There is no generator whose state could differ between ranks, batch sizes, devices
or after a resume.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.system.errors import UsageError

# lowbias32 (C. Wellons, hash-prospector), its last shift left out: only the high bits decide
FIRST, SECOND = 0x7FEB352D, 0x846CA68B - (1 << 32)
GOLDEN = 0x9E3779B97F4A7C15  # splitmix64's step and constants (Steele et al. 2014)


class Draws:
    """What the dropout of one model is drawn by at this moment."""

    def __init__(self) -> None:
        self.places: Tensor | None = None
        self.read: Tensor | None = None  # the words of those places that the last layer alone is run at

    def at(
        self, *moment: int, ids: Sequence[str], length: int, device: torch.device | str, read: Tensor | None = None
    ) -> None:
        """From now on draw for a batch of these records, padded to `length`; `moment` is seed, round and step.

        `read`: indices of the places that values may be of where they are not of all (`harness.models.narrow`).
        """
        rows = [_words(f"{moment}\0{name}", length) for name in ids]
        self.places = torch.from_numpy(np.stack(rows)).to(device)
        self.read = None if read is None else self.places.flatten()[read][None]

    def off(self) -> None:
        """From now on drop nothing."""
        self.places = self.read = None


class Dropout(nn.Module):
    """Zeroes a share `p` of (B, L, width) values and scales the others by 1 / (1 - p), while it trains."""

    def __init__(self, p: float, name: str, draws: Draws) -> None:
        super().__init__()
        self.p, self.name, self.draws = p, name, draws
        self._columns = torch.zeros(0, dtype=torch.int32)

    def forward(self, values: Tensor) -> Tensor:
        """(B, L, width) to the same; UsageError where the values have no record and place."""
        places = self.draws.places
        if not self.training or places is None:
            return values
        if self.draws.read is not None and values.shape[:2] == self.draws.read.shape:
            places = self.draws.read
        if values.ndim != 3 or values.shape[:2] != places.shape:
            raise UsageError(
                f"{self.name} drops out values of shape {tuple(values.shape)}, which have no record and place; set its "
                "probability to 0 in the model's config.json."
            )
        if len(self._columns) != values.shape[-1] or self._columns.device != values.device:
            self._columns = torch.from_numpy(_words(self.name, values.shape[-1])).to(values.device)
        kept = keep(places[..., None] + self._columns, self.p)
        return torch.where(kept, values / (1 - self.p), 0.0)

    def extra_repr(self) -> str:
        """As torch's own."""
        return f"p={self.p}"


def keep(words: Tensor, p: float) -> Tensor:
    """Which of int32 `words` (used up) are kept: bool, false for a share `p` of them."""
    words.mul_(FIRST)
    words.bitwise_xor_((words >> 15).bitwise_and_(0x1FFFF))  # torch shifts signed numbers arithmetically
    words.mul_(SECOND)
    return words >= round(p * (1 << 32)) - (1 << 31)


def _words(name: str, count: int) -> NDArray[np.int32]:
    """`count` int32 that stand for `name` and a number: splitmix64's high halves, from a state made of the name."""
    state = np.frombuffer(hashlib.sha256(name.encode()).digest()[:8], dtype="<u8")
    word = state + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GOLDEN)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    high: NDArray[np.int32] = ((word ^ (word >> np.uint64(31))) >> np.uint64(32)).astype(np.uint32).view(np.int32)
    return high


def placed(model: nn.Module) -> Draws:
    """Replace every dropout of `model` by one that is drawn per record and place; returns what they are drawn by.

    Attention weights belong to pairs of places; `harness.models.folder` refuses a model that drops them.
    """
    draws = Draws()
    dropouts = {name: module for name, module in model.named_modules() if isinstance(module, nn.Dropout) and module.p}
    for name, module in dropouts.items():
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, Dropout(module.p, name, draws))
    return draws
