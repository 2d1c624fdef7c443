"""Prompts as rows of a batch: padded in front, and what rows on one image share computed once."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.contracts.family import Layout
from harness.contracts.records import Image, Prompt
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


def prefix(loaded: Loaded, rows: Sequence[Row], eyes: Callable[[Image], "Tensor"]) -> "tuple[list[int], Tensor, Any]":
    """How many leading tokens each row shares with others on its image, which end with the image; and, of these padded
    in front to the longest, the (B, C) mask, and keys and values.
    """
    import torch

    from harness.models import kvcache

    model, family = loaded.model, loaded.family
    cache = kvcache.empty(model.config.get_text_config().num_hidden_layers)
    images = [row.prompt.image for row in rows if row.prompt.image is not None]
    if not images:
        return [0] * len(rows), torch.ones(len(rows), 0, dtype=torch.int64, device=model.device), cache
    cuts = [len(row.ids) - row.ids[::-1].index(image_id(loaded)) for row in rows]
    shown = {image.sha256: at for at, image in reversed([*enumerate(images)])}  # the first row on each image
    once = sorted(shown.values())
    ids, mask, positions = padded(loaded, [rows[at].line.before(cuts[at]) for at in once])
    layouts = [layout for at in once if (layout := rows[at].layout) is not None]
    family.decoder(model)(
        **family.inputs(model, ids, torch.cat([eyes(images[at]) for at in once]), layouts),
        attention_mask=None if bool(mask.all()) else mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
    )
    owner = torch.tensor([once.index(shown[image.sha256]) for image in images], device=model.device)
    cache.batch_select_indices(owner)
    return cuts, mask[owner], cache
