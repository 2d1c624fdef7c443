"""Forward passes, watched: rows and places of those in which models respond; batches that are learnt or measured."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

from torch import Tensor

from harness.backends import _decoding as decoding
from harness.backends import transformers
from harness.models.logps import Policy
from harness.models.tree import Batch

Pass = tuple[int, int]


class Passes(NamedTuple):
    """(rows, places) of those that read prompts, and of those that make a token of each row; and of each row how many
    tokens were asked for: to the first that ends it, whatever was made behind.
    """

    read: list[Pass]
    made: list[Pass]
    asked: list[int]

    @property
    def places(self) -> int:
        """That were computed to read prompts."""
        return sum(rows * places for rows, places in self.read)

    @property
    def useful(self) -> float:
        """Of the places that were computed token by token, the share whose token was asked for; a row's first token is
        made where its prompt is read.
        """
        return sum(tokens - 1 for tokens in self.asked) / sum(rows * places for rows, places in self.made)


@contextmanager
def passes() -> Iterator[Passes]:
    """Those of the transformers backend, in this process, as they come."""
    seen, under_way = Passes([], [], []), "made"
    whole, read, states = decoding.decoded, decoding._read, decoding._states

    def decodes(loaded: Any, rows: Any, eyes: Any, most: int, ends: Sequence[int], draw: Any) -> list[list[int]]:
        found = whole(loaded, rows, eyes, most, ends, draw)
        for new in found:
            seen.asked.append(next((at for at, token in enumerate(new, 1) if token in ends), len(new)))
        return found

    def reads(*given: Any) -> Any:
        nonlocal under_way
        under_way = "read"
        found = read(*given)
        under_way = "made"
        return found

    def computes(loaded: Any, inputs: Any, *given: Any) -> Tensor:
        (seen.read if under_way == "read" else seen.made).append(tuple(inputs["inputs_embeds"].shape[:2]))
        return states(loaded, inputs, *given)

    own = mock.patch.multiple(decoding, decoded=decodes, _read=reads, _states=computes)
    with own, mock.patch.object(transformers, "decoded", decodes):
        yield seen


@contextmanager
def readings() -> Iterator[list[Batch]]:
    """The batches that a decoder reads to learn from them or to measure them, each time that it does."""
    seen, hidden = list[Batch](), Policy.hidden

    def watched(self: Policy, batch: Batch) -> Tensor:
        seen.append(batch)
        return hidden(self, batch)

    with mock.patch.object(Policy, "hidden", watched):
        yield seen
