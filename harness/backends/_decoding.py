"""Token by token: a batch of prompts is read, and each of its rows leaves it with its last token.

What rows share is read once: equal prompts as a whole, prompts on one image as far as they agree. Who shares a batch
changes no token but where two are as likely to the last digits of what is computed; the noise floor counts those.
The loop is our own, since a family says where its tokens stand (`Family.positions`), which transformers' `generate`
cannot be told.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.backends._rows import Row, image_id, padded
from harness.contracts.family import Layout
from harness.contracts.records import Image
from harness.models.load import Loaded

if TYPE_CHECKING:
    from torch import Tensor

Eyes = Callable[[Image], "Tensor"]
Draw = Callable[[int, "Tensor", "Tensor"], "Tensor"]
"""Tokens (n,) of the rows that go on: by how many they have, which of the batch's they are (n,), and float32 scores
(n, words)."""


def decoded(
    loaded: Loaded, rows: Sequence[Row], eyes: Eyes, max_new_tokens: int, ends: Sequence[int], draw: Draw | None
) -> list[list[int]]:
    """New tokens of each row up to and with the first of `ends`; greedy unless `draw` chooses one at each step.

    A row has no more tokens than the model has places for.
    """
    import torch

    from harness.models import kvcache

    device = loaded.model.device
    last = torch.tensor(ends, device=device)
    most = torch.tensor([min(max_new_tokens, loaded.positions - len(row.ids)) for row in rows], device=device)
    with torch.inference_mode():
        scores, mask, positions, cache = _read(loaded, rows, eyes)
        live = torch.arange(len(rows), device=device)
        said = live.new_full((len(rows), max_new_tokens), loaded.pad_id)
        counts = torch.zeros_like(live)
        for step in range(max_new_tokens):
            chosen = draw(step, live, scores) if draw else scores.argmax(-1)
            said[live, step] = chosen
            counts[live] = step + 1
            order = kvcache.closed_up(~torch.isin(chosen, last) & (most[live] > step + 1))
            if not len(order):
                break
            if len(order) < len(live):
                live, chosen, mask, positions = live[order], chosen[order], mask[order], positions[..., order, :]
                kvcache.close_up(cache, order)
            mask, positions = torch.cat([mask, mask.new_ones(len(live), 1)], -1), positions + 1
            scores = _scores(loaded, _words(loaded, chosen[:, None]), mask, positions, cache)
        lengths: list[int] = counts.tolist()
        return [row[:length] for row, length in zip(said.tolist(), lengths, strict=True)]


class _Read(NamedTuple):
    """A batch as it has been read: (B, words) scores of what comes next, the (B, L) mask, the last tokens' positions
    (B, 1) or (axes, B, 1), and the cache.
    """

    scores: "Tensor"
    mask: "Tensor"
    positions: "Tensor"
    cache: Any


def _read(loaded: Loaded, rows: Sequence[Row], eyes: Eyes) -> _Read:
    """Rows start with what they share with others on their image, padded in front to the longest such; then come
    padding and the rest, so that all rows end together. Where a layer of the model cannot look over padding (a state
    that runs from token to token, a sliding window), a row is read as a whole.
    """
    import torch

    from harness.models import kvcache

    once, owner = _distinct(rows, lambda row: (_shown(row), row.ids))
    device, cache = loaded.model.device, kvcache.empty(loaded.model.config)
    pictured = once[0].layout is not None
    shares = pictured and kvcache.looks_over_padding(cache)
    cuts, before = [0] * len(once), torch.ones(len(once), 0, dtype=torch.int64, device=device)
    if shares:
        cuts = _cuts(once, image_id(loaded))
        first, shows = _distinct(once, _shown)
        starts = [row.line.before(cuts[shows.index(at)]) for at, row in enumerate(first)]
        ids, before, positions = padded(loaded, starts)
        _states(loaded, _seen(loaded, first, ids, eyes), None if bool(before.all()) else before, positions, cache)
        before = before[shows]
        cache.reorder_cache(torch.tensor(shows, device=device))
    ids, after, positions = padded(loaded, [row.line.behind(cut) for row, cut in zip(once, cuts, strict=True)])
    mask = torch.cat([before, after], -1)
    inputs = _words(loaded, ids) if shares or not pictured else _seen(loaded, once, ids, eyes)
    scores, positions = _scores(loaded, inputs, mask, positions, cache), positions[..., -1:]
    if len(once) < len(rows):
        scores, mask, positions = scores[owner], mask[owner], positions[..., owner, :]
        cache.reorder_cache(torch.tensor(owner, device=device))
    return _Read(scores, mask, positions, cache)


def _shown(row: Row) -> str:
    return row.prompt.image.key if row.prompt.image else ""


def _distinct(rows: Sequence[Row], what: Callable[[Row], Hashable]) -> tuple[list[Row], list[int]]:
    """The first row of each kind, and the place among these of every row's."""
    first: dict[Hashable, Row] = {}
    for row in rows:
        first.setdefault(what(row), row)
    places = {kind: at for at, kind in enumerate(first)}
    return [*first.values()], [places[what(row)] for row in rows]


def _cuts(rows: Sequence[Row], image: int) -> list[int]:
    """How many leading tokens each row shares with the others on its image: at least the image's, never all."""
    alike: dict[str, list[tuple[int, ...]]] = {}
    for row in rows:
        alike.setdefault(_shown(row), []).append(row.ids)
    cuts = {}
    for shown, ids in alike.items():
        shortest, seen = min(map(len, ids)), len(ids[0]) - ids[0][::-1].index(image)
        agree = next((at for at, tokens in enumerate(zip(*ids, strict=False)) if len({*tokens}) > 1), shortest)
        cuts[shown] = seen if len(ids) == 1 else max(seen, min(agree, shortest - 1))
    return [cuts[_shown(row)] for row in rows]


def _words(loaded: Loaded, ids: "Tensor") -> dict[str, Any]:
    return {"inputs_embeds": loaded.model.get_input_embeddings()(ids)}


def _seen(loaded: Loaded, rows: Sequence[Row], ids: "Tensor", eyes: Eyes) -> Mapping[str, Any]:
    """What the decoder reads of ids at whose places the rows' images are."""
    import torch

    layouts: list[Layout] = [row.layout for row in rows if row.layout is not None]
    features = torch.cat([eyes(row.prompt.image) for row in rows if row.prompt.image is not None])
    return loaded.family.inputs(loaded.model, ids, features, layouts)


def _states(
    loaded: Loaded, inputs: Mapping[str, Any], mask: "Tensor | None", positions: "Tensor", cache: Any
) -> "Tensor":
    """(B, L, width) last states."""
    found: Tensor = loaded.family.decoder(loaded.model)(
        **inputs, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
    ).last_hidden_state
    return found


def _scores(loaded: Loaded, inputs: Mapping[str, Any], mask: "Tensor", positions: "Tensor", cache: Any) -> "Tensor":
    """(B, words) float32 scores of the token that follows the last."""
    states = _states(loaded, inputs, mask, positions, cache)
    scores: Tensor = loaded.family.head(loaded.model)(states[:, -1:])[:, -1].float()
    return scores
