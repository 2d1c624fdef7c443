"""Dropout drawn per record and place: a mask depends on what is trained, not on how it was cut over batches and ranks.

A value is dropped by a hash of the training's seed, the step, the record, the place in its sequence, the module's name
and the value's number in its place. There is no generator whose state could differ between ranks, batch sizes, devices
or after a resume.
"""

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import linear

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
        words = self.words(values)
        return values if words is None else _left(values, words, self.p)

    def words(self, values: Tensor) -> tuple[Tensor, Tensor] | None:
        """Those of places (B, L) and columns (width,) that (B, L, width) values are dropped by; None: they stay."""
        places = self.draws.places
        if not self.training or places is None:
            return None
        if self.draws.read is not None and values.shape[:2] == self.draws.read.shape:
            places = self.draws.read
        if values.ndim != 3 or values.shape[:2] != places.shape:
            raise UsageError(
                f"{self.name} drops out values of shape {tuple(values.shape)}, which have no record and place; set its "
                "probability to 0 in the model's config.json."
            )
        if len(self._columns) != values.shape[-1] or self._columns.device != values.device:
            self._columns = torch.from_numpy(_words(self.name, values.shape[-1])).to(values.device)
        return places, self._columns

    def extra_repr(self) -> str:
        """As torch's own."""
        return f"p={self.p}"


class Before(Dropout):
    """The dropout of values that one linear layer reads and nobody else: it is drawn there, and in the backward pass
    once more, so that of the values nothing is kept beside what others keep.
    """

    def forward(self, values: Tensor) -> Tensor:
        """The values as they are."""
        return values

    def into(self, layer: nn.Linear, values: Tensor) -> Tensor:
        """What `layer` makes of what is left of (B, L, width) values."""
        words = self.words(values)
        if words is None:
            return linear(values, layer.weight)
        made: Tensor = _Linear.apply(values, layer.weight, *words, self.p)  # type: ignore[no-untyped-call]
        return made


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, places: Tensor, columns: Tensor, p: float) -> Tensor:
        """(B, L, inputs) values and (outputs, inputs) weight to (B, L, outputs), dropped by `Dropout.words`."""
        ctx.save_for_backward(values, weight, places, columns)
        ctx.p = p
        return linear(_left(values, (places, columns), p), weight)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        """Of the (B, L, outputs) slope the gradients of values and weight, each where it is asked for."""
        values, weight, *words = ctx.saved_tensors
        of_values = of_weight = None
        if ctx.needs_input_grad[1]:
            left = _left(values, words, ctx.p)
            of_weight = slope.flatten(0, -2).T @ left.flatten(0, -2)
        if ctx.needs_input_grad[0]:
            of_values = _left(slope @ weight, words, ctx.p)
        return of_values, of_weight, None, None, None


def _left(values: Tensor, words: Sequence[Tensor], p: float) -> Tensor:
    """What dropout leaves of values; of what it makes of a gradient, the same."""
    places, columns = words
    return torch.where(keep(places[..., None] + columns, p), values / (1 - p), 0.0)


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
    parts = dict(model.named_modules())
    for name, module in dropouts.items():
        parent, _, last = name.rpartition(".")
        made = Dropout(module.p, name, draws)
        if ".lora_dropout." in name:  # as peft calls the two
            reader: Any = parts[name.replace(".lora_dropout.", ".lora_A.")]
            made = before = Before(module.p, name, draws)
            reader.forward = partial(before.into, reader)
        setattr(model.get_submodule(parent), last, made)
    return draws
