"""LLaVA-1.5's conversation template (`vicuna_v1`): the only place where turns become text and tokens.

Source: haotian-liu/LLaVA `conversation.py`, template v1, as all v1.5 scripts use it. The first question follows
`<image>` and a newline; answers follow `ASSISTANT:` and a blank and end with the end token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.types import Turn

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
IMAGE = "<image>"
SHORT_ANSWER = "\nAnswer the question using a single word or phrase."
OPTION_LETTER = "\nAnswer with the option's letter from the given choices directly."


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids and, for each, whether it is supervised (part of an answer or its end token)."""

    ids: tuple[int, ...]
    supervised: tuple[bool, ...]


def segments(turns: Sequence[Turn], has_image: bool, end: str) -> list[tuple[str, bool]]:
    """The text of a conversation as (text, supervised) pieces; joined they are the official string."""
    pieces: list[tuple[str, bool]] = [(SYSTEM, False)]
    for number, turn in enumerate(turns):
        lead = f" USER: {IMAGE}\n" if has_image and number == 0 else " USER: " if number == 0 else "USER: "
        pieces.append((f"{lead}{turn.question} ASSISTANT:", False))
        pieces.append((f" {turn.answer}{end}", True))
    return pieces


def prompt_text(question: str, history: Sequence[Turn], has_image: bool, end: str, begun: str = "") -> str:
    """The text a model continues: everything up to and with the last `ASSISTANT:`, and the answer as far as `begun`."""
    pieces = segments([*history, Turn(question, "")], has_image, end)
    return "".join(text for text, _ in pieces[:-1]) + (f" {begun}" if begun else "")


def encode(tokenizer: Any, pieces: Sequence[tuple[str, bool]], image_tokens: int) -> Tokens:
    """Tokens of `pieces`; each `<image>` becomes `image_tokens` copies of the image token.

    The joined text is tokenized once, so that no seam changes a token; a token is supervised where it *ends*
    inside a supervised piece (tokenizers differ in who owns a leading blank, not in where a token ends).
    """
    text = "".join(piece for piece, _ in pieces)
    encoded = tokenizer(text, return_offsets_mapping=True)
    image_id = tokenizer.convert_tokens_to_ids(IMAGE)
    bounds: list[tuple[int, bool]] = []
    length = 0
    for piece, supervised in pieces:
        length += len(piece)
        bounds.append((length, supervised))
    ids: list[int] = []
    marks: list[bool] = []
    at = 0
    for token, (start, stop) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
        while at < len(bounds) - 1 and stop > bounds[at][0]:
            at += 1
        copies = image_tokens if token == image_id else 1
        ids += [token] * copies
        marks += [bounds[at][1] and stop > start] * copies
    return Tokens(tuple(ids), tuple(marks))
