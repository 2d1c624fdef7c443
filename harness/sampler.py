"""Responses from a model: batches of fixed composition, so that rows of a comparison are answered alike.

Which prompts share a batch depends on the prompts alone, never on the model or on how it answers. Sampling draws from a
stream of its own per prompt id, so a response does not depend on which other prompts were asked.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from harness.config import Fixed
from harness.model import Loaded, kept
from harness.profile import Tick
from harness.template import encode, prompt_text
from harness.tree import refuse_reserved
from harness.types import HarnessError, Prompt, Response

if TYPE_CHECKING:
    from torch import Tensor


class Sampling(Fixed):
    """How responses are drawn; greedy at temperature 0, where `top_p` and `seed` mean nothing."""

    max_new_tokens: int = Field(gt=0)
    temperature: float = Field(0.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int = 0


Row = tuple[tuple[int, ...], Prompt]  # a prompt's tokens and the prompt


def respond(
    folder: str | Path,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    batch_size: int,
    tick: Tick,
    blank: bool = False,
) -> list[Response]:
    """One response per prompt, in order. `blank` shows a picture of nothing instead of each image.

    Equal prompts (image and text) are answered once at temperature 0.
    """
    import torch

    torch.set_num_threads(1)  # on the CPU a sum's order, and so a close call, depends on the number of threads
    loaded = kept(folder)
    greedy = sampling.temperature == 0
    asked: dict[object, Row] = {}
    same: list[object] = []
    for prompt in prompts:
        ids = _ids(prompt, loaded)
        key = ("" if greedy else prompt.id, ids, prompt.image and prompt.image.sha256)
        asked.setdefault(key, (ids, prompt))
        same.append(key)
    answers: dict[object, list[int]] = {}
    for keys in _batches(asked, batch_size):
        answers |= zip(keys, _generate(loaded, [asked[key] for key in keys], sampling, blank), strict=True)
        tick(len(answers), len(asked))
    said = {key: loaded.tokenizer.decode(new, skip_special_tokens=True).strip() for key, new in answers.items()}
    return [
        Response(prompt.id, said[key], len(answers[key]), len(asked[key][0]))
        for prompt, key in zip(prompts, same, strict=True)
    ]


def _ids(prompt: Prompt, loaded: Loaded) -> tuple[int, ...]:
    """A prompt's tokens, image tokens included."""
    said = [part for turn in prompt.history for part in (turn.question, turn.answer)]
    try:
        refuse_reserved([*said, prompt.question], loaded.tokenizer)
    except ValueError as error:
        raise HarnessError(f"prompt {prompt.id}: {error}.") from None
    text = prompt_text(prompt.question, prompt.history, prompt.image is not None, loaded.tokenizer.eos_token)
    return encode(loaded.tokenizer, [(text, False)], loaded.image_tokens).ids


def _batches(asked: Mapping[object, Row], size: int) -> Iterator[list[object]]:
    """Keys in batches: prompts on one image together, images by their longest prompt, text alone by itself."""
    images = {key: prompt.image.sha256 if prompt.image else "" for key, (_, prompt) in asked.items()}
    longest: dict[str, int] = {}
    for key, (ids, _) in asked.items():
        longest[images[key]] = max(longest.get(images[key], 0), len(ids))
    ordered = sorted(asked, key=lambda k: (longest[images[k]], images[k], len(asked[k][0]), asked[k][1].id))
    for group in ([k for k in ordered if not images[k]], [k for k in ordered if images[k]]):
        yield from (group[at : at + size] for at in range(0, len(group), size))


def _generate(loaded: Loaded, rows: Sequence[Row], sampling: Sampling, blank: bool) -> list[list[int]]:
    """New tokens of each row, the end token excluded.

    Rows start with what they share with others on their image, which is computed once; then come padding and the rest,
    so that all rows end together.
    """
    import torch
    from transformers import GenerationConfig

    pad, end, device = loaded.tokenizer.pad_token_id, loaded.tokenizer.eos_token_id, loaded.model.device
    length = max(len(ids) for ids, _ in rows)
    own = [_draw([prompt.id for _, prompt in rows], sampling, length)] if sampling.temperature else []
    with torch.inference_mode():
        cut, cache = _prefix(loaded, rows, blank)
        gaps = [length - len(ids) for ids, _ in rows]
        padded = [[*ids[:cut], *[pad] * gap, *ids[cut:]] for (ids, _), gap in zip(rows, gaps, strict=True)]
        mask = [[1] * cut + [0] * gap + [1] * (length - cut - gap) for gap in gaps]
        made = loaded.model.generate(
            input_ids=torch.tensor(padded, device=device),
            attention_mask=torch.tensor(mask, device=device),
            past_key_values=cache,
            generation_config=GenerationConfig(
                max_new_tokens=sampling.max_new_tokens, do_sample=False, pad_token_id=pad, eos_token_id=end
            ),
            logits_processor=own,
        )
    new = made[:, length:].tolist()
    return [row[: row.index(end)] if end in row else row for row in new]


def _prefix(loaded: Loaded, rows: Sequence[Row], blank: bool) -> tuple[int, Any]:
    """How many leading tokens rows on one image share (to the image's end), and their keys and values per row."""
    import torch

    from harness import kvcache

    cache = kvcache.empty(loaded.model.config.text_config.num_hidden_layers)
    images = [prompt.image for _, prompt in rows if prompt.image is not None]
    if not images:
        return 0, cache
    ids = rows[0][0]
    cut = len(ids) - ids[::-1].index(loaded.model.config.image_token_id)
    seen = {("" if blank else image.sha256): image for image in images}
    pixels = torch.stack([loaded.pixels.blank() if blank else loaded.pixels(image) for image in seen.values()])
    loaded.model(
        input_ids=torch.tensor([ids[:cut]] * len(seen), device=loaded.model.device),
        pixel_values=pixels.to(loaded.model.device, loaded.model.dtype),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    places = {name: place for place, name in enumerate(seen)}
    owner = torch.tensor([places["" if blank else image.sha256] for image in images], device=loaded.model.device)
    cache.batch_select_indices(owner)
    return cut, cache


def _draw(ids: Sequence[str], sampling: Sampling, start: int) -> Callable[["Tensor", "Tensor"], "Tensor"]:
    """A logits processor that leaves one token: drawn with a number of the prompt's own stream, per step."""
    import torch

    uniform = torch.stack([_stream(sampling, name) for name in ids])  # (B, max_new_tokens) float64 in [0, 1)

    def draw(input_ids: "Tensor", scores: "Tensor") -> "Tensor":
        odds, order = (scores.double() / sampling.temperature).softmax(-1).sort(dim=-1, descending=True, stable=True)
        below = odds.cumsum(-1) - odds
        kept = odds * (below < sampling.top_p)
        at = uniform[:, input_ids.shape[1] - start, None].to(scores.device) * kept.sum(-1, keepdim=True)
        place = ((kept.cumsum(-1) <= at) & (kept > 0)).sum(-1, keepdim=True).clamp(max=scores.shape[-1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(-1, order.gather(-1, place), 0.0)

    return draw


def _stream(sampling: Sampling, name: str) -> "Tensor":
    import torch

    seed = hashlib.sha256(f"{sampling.seed}\0{name}".encode()).digest()[:8]
    generator = torch.Generator().manual_seed(int.from_bytes(seed, "big") >> 1)
    return torch.rand(sampling.max_new_tokens, generator=generator, dtype=torch.float64)
