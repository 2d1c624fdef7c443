"""The only place where text becomes tokens, as a model's tokenizer and its makers' training code have it."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Pieces = list[tuple[str, bool]]  # texts that joined are a conversation, each with whether it is supervised
# Steps of a normalizer in `tokenizer.json`, by which SentencePiece's blanks are made.
PREPEND = {"type": "Prepend", "prepend": "\u2581"}
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids and, for each, whether it is supervised (part of an answer or its end token)."""

    ids: tuple[int, ...]
    supervised: tuple[bool, ...]


def encode(tokenizer: Any, pieces: Pieces, image_token: str, image_ids: Sequence[int]) -> Tokens:
    """Tokens of `pieces`; each `image_token` becomes `image_ids`.

    As LLaVA's `tokenizer_image_token` does, the text before an image and the text behind it are texts of their own (the
    one behind begins with a blank of its own where the tokenizer sets one), and each is tokenized whole, so that no
    seam changes a token. A token is supervised where it *ends* inside a supervised piece (tokenizers differ in who owns
    a leading blank, not in where a token ends); that is what the lengths in LLaVA's `preprocess_v1` come to.
    """
    text = "".join(piece for piece, _ in pieces)
    bounds: list[tuple[int, bool]] = []
    length = 0
    for piece, supervised in pieces:
        length += len(piece)
        bounds.append((length, supervised))
    ids: list[int] = []
    marks: list[bool] = []
    at = begin = 0
    for number, chunk in enumerate(text.split(image_token)):
        if number:
            ids += image_ids
            marks += [False] * len(image_ids)
        for token, start, stop in _tokens(tokenizer, chunk, first=number == 0):
            while at < len(bounds) - 1 and begin + stop > bounds[at][0]:
                at += 1
            ids.append(token)
            marks.append(bounds[at][1] and stop > start)
        begin += len(chunk) + len(image_token)
    return Tokens(tuple(ids), tuple(marks))


def _tokens(tokenizer: Any, chunk: str, first: bool) -> Iterator[tuple[int, int, int]]:
    """(id, start, stop) of each token of a text between images; the begin token goes before the first one only."""
    backend, blank = _backend(tokenizer)
    encoded = backend.encode(blank + chunk if chunk else chunk)
    for place, (token, (start, stop)) in enumerate(zip(encoded.ids, encoded.offsets, strict=True)):
        if first or place or token != tokenizer.bos_token_id:
            yield token, max(start - len(blank), 0), max(stop - len(blank), 0)


@lru_cache(maxsize=4)
def _backend(tokenizer: Any) -> "tuple[Tokenizer, str]":
    """The tokenizer as it treats blanks under its `legacy` setting, and the blank to set before a text.

    SentencePiece sets a blank before a text. Under `legacy: true` it does so behind every control token too, so that
    `</s>USER:` begins with the token of " US"; under `legacy: false` (Vicuna-1.5, LLaVA-1.5) at the begin alone. A
    `tokenizer.json` does the one or the other whatever the setting says, and what transformers makes of a
    `tokenizer.model` does neither, so that a conversation would have other tokens than LLaVA's training gave it.
    """
    from tokenizers import Tokenizer

    state = json.loads(tokenizer.backend_tokenizer.to_str()) | {"padding": None, "truncation": None}
    legacy = tokenizer.init_kwargs.get("legacy")
    if legacy is None or not _is_sentencepiece(state):
        return Tokenizer.from_str(json.dumps(state)), ""
    rest = [step for step in _steps(state, "normalizer", "normalizers") if step not in (PREPEND, REPLACE)]
    steps = [*rest, PREPEND, REPLACE] if legacy else [*rest, REPLACE]
    before = [step for step in _steps(state, "pre_tokenizer", "pretokenizers") if step["type"] != "Metaspace"]
    state["normalizer"] = {"type": "Sequence", "normalizers": steps}
    state["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": before} if before else None
    blank = "" if legacy or tokenizer.init_kwargs.get("add_prefix_space") is False else " "
    return Tokenizer.from_str(json.dumps(state)), blank


def _is_sentencepiece(state: dict[str, Any]) -> bool:
    """Whether a tokenizer's JSON spells blanks as SentencePiece does."""
    metaspace = any(step["type"] == "Metaspace" for step in _steps(state, "pre_tokenizer", "pretokenizers"))
    return metaspace or REPLACE in _steps(state, "normalizer", "normalizers")


def _steps(state: dict[str, Any], name: str, inner: str) -> list[dict[str, Any]]:
    """The steps of a tokenizer's normalizer or pre-tokenizer, as its JSON has them."""
    step = state.get(name)
    return [] if step is None else step[inner] if step["type"] == "Sequence" else [step]
