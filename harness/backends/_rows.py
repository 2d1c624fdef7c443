"""Prompts as rows of a batch, padded in front."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from harness.contracts.family import Layout
from harness.contracts.records import Prompt
from harness.models.load import Loaded

if TYPE_CHECKING:
    from torch import Tensor


class Line(NamedTuple):
    """Token ids of a row or of a part of it, and their positions on each axis."""

    ids: tuple[int, ...]
    axes: list[list[int]]

    def before(self, cut: int) -> "Line":
        """The first `cut` tokens."""
        return Line(self.ids[:cut], [axis[:cut] for axis in self.axes])

    def behind(self, cut: int) -> "Line":
        """What follows them."""
        return Line(self.ids[cut:], [axis[cut:] for axis in self.axes])


class Row(NamedTuple):
    """A prompt, how its image lies among its tokens, and these."""

    prompt: Prompt
    layout: Layout | None
    line: Line

    @property
    def ids(self) -> tuple[int, ...]:
        """Its tokens, image tokens included."""
        return self.line.ids


def image_id(loaded: Loaded) -> int:
    """The token at a picture's places."""
    return int(loaded.model.config.image_token_id)


def padded(loaded: Loaded, lines: Sequence[Line]) -> "tuple[Tensor, Tensor, Tensor]":
    """Lines padded in front to the longest: (B, L) ids, the (B, L) mask, and positions (B, L) or (axes, B, L)."""
    import torch

    length, device = max(len(line.ids) for line in lines), loaded.model.device
    gaps = [length - len(line.ids) for line in lines]
    ids = [[*[loaded.pad_id] * gap, *line.ids] for line, gap in zip(lines, gaps, strict=True)]
    mask = [[0] * gap + [1] * (length - gap) for gap in gaps]
    axes = [
        [[0] * gap + line.axes[axis] for line, gap in zip(lines, gaps, strict=True)]
        for axis in range(loaded.family.axes)
    ]
    positions = axes if len(axes) > 1 else axes[0]
    return tuple(torch.tensor(part, device=device) for part in (ids, mask, positions))  # type: ignore[return-value]
