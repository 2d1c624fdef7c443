"""Responses from a model: batches of fixed composition, so that rows of a comparison are answered alike.

Which prompts share a batch depends on the prompts alone, never on the model or on how it answers. Sampling draws from a
stream of its own per prompt id, so a response does not depend on which other prompts were asked.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from harness.config import Fixed
from harness.model import Dtype, Loaded, kept
from harness.profile import Tick
from harness.template import encode, prompt_text
from harness.tree import refuse_reserved
from harness.types import HarnessError, Image, Prompt, Response

if TYPE_CHECKING:
    from torch import Tensor


class Sampling(Fixed):
    """How responses are drawn; greedy at temperature 0, where `top_p` means nothing.

    With `noise_step`, images are seen after so many steps of diffusion (`harness.pixels.diffuse`). `dtype` is the
    model's while it responds.
    """

    max_new_tokens: int = Field(gt=0)
    temperature: float = Field(0.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    noise_step: int = Field(0, ge=0, lt=1000)
    seed: int = 0
    dtype: Dtype = "float32"


class Search(Fixed):
    """Diverse beam search with one beam per group (Vijayakumar et al. 2018): `count` greedy continuations side by side,
    each of which pays `penalty` nats for a token that an earlier one takes at the same step. One ends with the token
    `stop` (a sentence's full stop) or the end token.
    """

    count: int = Field(gt=0)
    penalty: float = Field(ge=0)
    stop: str
    max_new_tokens: int = Field(gt=0)
    dtype: Dtype = "float32"


Row = tuple[tuple[int, ...], Prompt]  # a prompt's tokens and the prompt


def respond(
    folder: str | Path,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    batch_size: int,
    tick: Tick,
    blank: bool = False,
    keep_ids: bool = False,
    shelf: Path | None = None,
) -> list[Response]:
    """One response per prompt, in order; a prompt longer than the model has none, and says so.

    `blank` shows a picture of nothing instead of each image. Equal prompts (image and text) are answered once at
    temperature 0. `keep_ids` fills `Response.ids`. `shelf` is the folder where the images' features are kept.
    """
    import torch

    torch.set_num_threads(1)  # on the CPU a sum's order, and so a close call, depends on the number of threads
    loaded = kept(folder, sampling.dtype)
    loaded.features.folder = shelf
    greedy = sampling.temperature == 0
    asked: dict[object, Row] = {}
    same: list[object] = []
    over = {}
    for prompt in prompts:
        ids = _ids(prompt, loaded)
        if why := _too_long(ids, loaded):
            over[prompt.id] = why
            same.append(None)
            continue
        key = ("" if greedy else prompt.id, ids, prompt.image and prompt.image.sha256)
        asked.setdefault(key, (ids, prompt))
        same.append(key)
    answers: dict[object, list[int]] = {}
    eyes, end = _eyes(loaded, sampling, blank), loaded.tokenizer.eos_token_id
    for keys in _batches(asked, batch_size):
        rows = [asked[key] for key in keys]
        draw = [] if greedy else [_draw([prompt.id for _, prompt in rows], sampling)]
        answers |= zip(keys, _generate(loaded, rows, eyes, sampling.max_new_tokens, (end,), draw), strict=True)
        tick(len(answers), len(asked))
    said = {key: _text(loaded, new) for key, new in answers.items()}

    def response(prompt: Prompt, key: object) -> Response:
        if prompt.id in over:
            return Response(prompt.id, "", 0, ended=False, unanswered=over[prompt.id])
        new = answers[key]
        ended = new[-1:] == [end]
        ids = tuple(new) if keep_ids else ()
        return Response(prompt.id, said[key], len(new) - ended, len(asked[key][0]), ids, ended)

    return [response(prompt, key) for prompt, key in zip(prompts, same, strict=True)]


def candidates(
    folder: str | Path,
    prompts: Sequence[Prompt],
    search: Search,
    batch_size: int,
    tick: Tick,
    shelf: Path | None = None,
) -> list[list[Response]]:
    """`search.count` continuations of each prompt, the first one greedy; `Response.logp` is without the penalty."""
    import torch

    torch.set_num_threads(1)
    loaded = kept(folder, search.dtype)
    loaded.features.folder = shelf
    stop, end = loaded.tokenizer.convert_tokens_to_ids(search.stop), loaded.tokenizer.eos_token_id
    if stop is None or stop == loaded.tokenizer.unk_token_id:
        raise HarnessError(f"the stop {search.stop!r} is no token of {folder}; name one that is.")
    rows_of: dict[object, Row] = {prompt.id: (_ids(prompt, loaded), prompt) for prompt in prompts}
    if len(rows_of) != len(prompts):
        raise ValueError("two prompts have the same id")
    over = {id: why for id, (ids, _) in rows_of.items() if (why := _too_long(ids, loaded))}
    asked = {id: row for id, row in rows_of.items() if id not in over}
    eyes = _eyes(loaded, None, False)
    found = {id: [Response(str(id), "", 0, ended=False, unanswered=why)] * search.count for id, why in over.items()}
    for keys in _batches(asked, max(1, batch_size // search.count)):
        rows = [asked[key] for key in keys for _ in range(search.count)]
        draw = _Diverse(search, (stop, end))
        made = _generate(loaded, rows, eyes, search.max_new_tokens, (stop, end), [draw])
        for at, ((ids, prompt), new) in enumerate(zip(rows, made, strict=True)):
            ended = new[-1:] == [end]
            logp = math.fsum(step[at] for step in draw.logps[: len(new)])
            said = Response(prompt.id, _text(loaded, new), len(new) - ended, len(ids), (), ended, logp)
            found.setdefault(prompt.id, []).append(said)
        tick(len(found) - len(over), len(asked))
    return [found[prompt.id] for prompt in prompts]


def _too_long(ids: Sequence[int], loaded: Loaded) -> str:
    """Why a prompt of these tokens cannot be answered: there is no place for a single token more."""
    if len(ids) < loaded.positions:
        return ""
    return f"the prompt has {len(ids):,} tokens and the model {loaded.positions:,} places, image included"


def _text(loaded: Loaded, new: Sequence[int]) -> str:
    text: str = loaded.tokenizer.decode(new, skip_special_tokens=True)
    return text.strip()


def _eyes(loaded: Loaded, sampling: Sampling | None, blank: bool) -> Callable[[Image], "Tensor"]:
    """What the model sees of an image, (tokens, width): itself, nothing, or itself under noise of its own."""
    from harness.features import seen
    from harness.pixels import diffuse

    if blank:
        nothing = seen(loaded.model, loaded.pixels.blank())
        return lambda image: nothing
    if sampling is None or not sampling.noise_step:
        return loaded.features
    step, seed = sampling.noise_step, sampling.seed

    def noised(image: Image) -> "Tensor":
        return seen(loaded.model, diffuse(loaded.pixels(image), step, _seed(f"{seed}\0{image.sha256}")))

    return noised


def _seed(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def _ids(prompt: Prompt, loaded: Loaded) -> tuple[int, ...]:
    """A prompt's tokens, image tokens included."""
    said = [part for turn in prompt.history for part in (turn.question, turn.answer)]
    try:
        refuse_reserved([*said, prompt.question, prompt.begun], loaded.tokenizer)
    except ValueError as error:
        raise HarnessError(f"prompt {prompt.id}: {error}.") from None
    end = loaded.tokenizer.eos_token
    text = prompt_text(prompt.question, prompt.history, prompt.image is not None, end, prompt.begun)
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


def _generate(
    loaded: Loaded,
    rows: Sequence[Row],
    eyes: Callable[[Image], "Tensor"],
    max_new_tokens: int,
    ends: Sequence[int],
    draw: Sequence[Callable[["Tensor", "Tensor"], "Tensor"]],
) -> list[list[int]]:
    """New tokens of each row up to and with the first of `ends`; greedy unless `draw` leaves one token at each step.

    Rows start with what they share with others on their image, which is computed once; then come padding and the rest,
    so that all rows end together.
    """
    import torch
    from transformers import GenerationConfig

    pad, device = loaded.pad_id, loaded.model.device
    length = max(len(ids) for ids, _ in rows)
    with torch.inference_mode():
        cut, cache = _prefix(loaded, rows, eyes)
        gaps = [length - len(ids) for ids, _ in rows]
        padded = [[*ids[:cut], *[pad] * gap, *ids[cut:]] for (ids, _), gap in zip(rows, gaps, strict=True)]
        mask = [[1] * cut + [0] * gap + [1] * (length - cut - gap) for gap in gaps]
        made = loaded.model.generate(
            input_ids=torch.tensor(padded, device=device),
            attention_mask=torch.tensor(mask, device=device),
            past_key_values=cache,
            generation_config=GenerationConfig(
                max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=pad, eos_token_id=list(ends)
            ),
            logits_processor=[(lambda ids, scores, one=one: one(ids[:, length:], scores)) for one in draw],
        )
    new: list[list[int]] = made[:, length:].tolist()
    stops = (next((at + 1 for at, token in enumerate(row) if token in ends), len(row)) for row in new)
    left = (loaded.positions - len(ids) for ids, _ in rows)  # beyond them a row is not the model's to say
    return [row[: min(stop, most)] for row, stop, most in zip(new, stops, left, strict=True)]


def _prefix(loaded: Loaded, rows: Sequence[Row], eyes: Callable[[Image], "Tensor"]) -> tuple[int, Any]:
    """How many leading tokens rows on one image share (to the image's end), and their keys and values per row."""
    import torch

    from harness import kvcache
    from harness.features import embeds

    cache = kvcache.empty(loaded.model.config.text_config.num_hidden_layers)
    images = [prompt.image for _, prompt in rows if prompt.image is not None]
    if not images:
        return 0, cache
    ids = rows[0][0]
    cut = len(ids) - ids[::-1].index(loaded.model.config.image_token_id)
    seen = {image.sha256: image for image in images}
    features = torch.stack([eyes(image) for image in seen.values()])
    rows_ids = torch.tensor([ids[:cut]] * len(seen), device=loaded.model.device)
    loaded.model(
        inputs_embeds=embeds(loaded.model, rows_ids, features),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    places = {name: place for place, name in enumerate(seen)}
    owner = torch.tensor([places[image.sha256] for image in images], device=loaded.model.device)
    cache.batch_select_indices(owner)
    return cut, cache


def _draw(ids: Sequence[str], sampling: Sampling) -> Callable[["Tensor", "Tensor"], "Tensor"]:
    """A logits processor that leaves one token: drawn with a number of the prompt's own stream, per new token."""
    import torch

    uniform = torch.stack([_stream(sampling, name) for name in ids])  # (B, max_new_tokens) float64 in [0, 1)

    def draw(new: "Tensor", scores: "Tensor") -> "Tensor":
        odds, order = (scores.double() / sampling.temperature).softmax(-1).sort(dim=-1, descending=True, stable=True)
        below = odds.cumsum(-1) - odds
        kept = odds * (below < sampling.top_p)
        at = uniform[:, new.shape[1], None].to(scores.device) * kept.sum(-1, keepdim=True)
        place = ((kept.cumsum(-1) <= at) & (kept > 0)).sum(-1, keepdim=True).clamp(max=scores.shape[-1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(-1, order.gather(-1, place), 0.0)

    return draw


def _stream(sampling: Sampling, name: str) -> "Tensor":
    import torch

    generator = torch.Generator().manual_seed(_seed(f"{sampling.seed}\0{name}"))
    return torch.rand(sampling.max_new_tokens, generator=generator, dtype=torch.float64)


class _Diverse:
    """A logits processor that leaves one token: see `Search`. `logps`: per new token, the log-prob in each row."""

    def __init__(self, search: Search, ends: Sequence[int]) -> None:
        self.search, self.ends = search, ends
        self.logps: list[list[float]] = []

    def __call__(self, new: "Tensor", scores: "Tensor") -> "Tensor":
        import torch

        count = self.search.count
        logs = scores.float().log_softmax(-1).view(-1, count, scores.shape[-1])
        over = torch.isin(new, torch.tensor(self.ends, device=new.device)).any(-1).view(-1, count)
        taken, chosen = torch.zeros_like(logs[:, 0]), []
        for group in range(count):
            choice = (logs[:, group] - self.search.penalty * taken).argmax(-1, keepdim=True)
            taken.scatter_add_(1, choice, (~over[:, group, None]).to(taken.dtype))
            chosen.append(choice)
        choices = torch.stack(chosen, 1).view(-1, 1)
        self.logps.append(logs.view(-1, logs.shape[-1]).gather(-1, choices)[:, 0].tolist())
        return torch.full_like(scores, -torch.inf).scatter(-1, choices, 0.0)
