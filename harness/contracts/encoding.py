"""The only place where text becomes tokens, as a model's tokenizer and its makers' training code have it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

Pieces = list[tuple[str, bool]]  # texts that joined are a conversation, each with whether it is supervised
# Steps of a normalizer in `tokenizer.json`, by which SentencePiece's blanks are made.
PREPEND = {"type": "Prepend", "prepend": "\u2581"}
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}

_met: dict[int, int] = {}  # a number for each token, and not for each time that it stands in a text: 28 bytes a time


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
    ends = np.cumsum([len(piece) for piece, _ in pieces])
    taught = np.array([supervised for _, supervised in pieces])
    ids: list[int] = []
    marks: list[bool] = []
    begin = 0
    for number, chunk in enumerate("".join(piece for piece, _ in pieces).split(image_token)):
        if number:
            ids += image_ids
            marks += [False] * len(image_ids)
        found, starts, stops = _tokens(tokenizer, chunk, first=number == 0)
        piece = np.minimum(np.searchsorted(ends, begin + stops), len(pieces) - 1)
        ids += found
        marks += (taught[piece] & (stops > starts)).tolist()
        begin += len(chunk) + len(image_token)
    return Tokens(tuple(ids), tuple(marks))


def _tokens(tokenizer: Any, chunk: str, first: bool) -> "tuple[list[int], NDArray[np.int64], NDArray[np.int64]]":
    """Ids of a text between images, where in it each token starts and stops; the begin token goes before the first one
    only."""
    backend, blank = _backend(tokenizer)
    encoded = backend.encode(blank + chunk if chunk else chunk)
    ids = [_met.setdefault(token, token) for token in encoded.ids]
    spans = np.array(encoded.offsets, np.int64).reshape(-1, 2)
    begun = int(not first and ids[:1] == [tokenizer.bos_token_id])
    starts, stops = np.maximum(spans[begun:] - len(blank), 0).T
    return ids[begun:], starts, stops


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
