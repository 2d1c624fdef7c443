"""Which records make an optimiser step, and how a step is cut over micro-batches and ranks.

The order depends on the seed and the records' ids alone, so every method of a comparison walks its data alike, and a
record that one method dropped does not disturb the others.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from harness.contracts.family import Layout
from harness.contracts.records import Image
from harness.models.tree import Tree

ROUND = 64  # places: what a micro-batch costs beside its own; on a CPU 32 to 128 take the same time


class Outline(NamedTuple):
    """What steps are cut, divided and counted by, of a tree that another process has: its properties."""

    id: str
    tokens: int
    read: int
    supervised: int
    pairs: int
    cut: int
    images: tuple[Image, ...]
    layouts: tuple[Layout, ...]

    @classmethod
    def of(cls, tree: Tree) -> "Outline":
        """A tree's."""
        return cls(*(getattr(tree, name) for name in cls._fields))


Sized = Tree | Outline
Some = TypeVar("Some", bound=Sized)


def order(ids: Iterable[str], seed: int, epoch: int) -> list[str]:
    """The ids of one epoch, shuffled; an id's place does not depend on how the ids were listed."""
    return sorted(ids, key=lambda name: hashlib.sha256(f"{seed}\0{epoch}\0{name}".encode()).digest())


def steps(ids: Sequence[str], seed: int, epochs: int, size: int) -> list[list[str]]:
    """The ids of each optimiser step of a training; an epoch's last step may be smaller than `size`."""
    found: list[list[str]] = []
    for epoch in range(epochs):
        shuffled = order(ids, seed, epoch)
        found += [shuffled[at : at + size] for at in range(0, len(shuffled), size)]
    return found


def micro_batches(trees: Sequence[Some], size: int, ranks: int, longest: int = 0) -> list[list[list[Some]]]:
    """A step's trees as rounds of one micro-batch per rank, at most `size` trees each and of similar length; with
    `longest`, as many as take no more places than `size` trees of so many tokens.

    Of all ways to cut the trees, longest first, the one that costs least: of each round the places of its largest
    micro-batch, padded ones too, and `ROUND` more. Longest first, so that memory runs out at once or never. Every rank
    has the same number of rounds, because gradients are exchanged in each; where trees run short a rank's is empty.
    """
    longest_first = sorted(trees, key=lambda tree: (-tree.tokens, tree.id))
    lengths = np.array([tree.tokens for tree in longest_first])
    least, begins = np.zeros(len(trees) + 1), [0] * (len(trees) + 1)
    for end in range(1, len(trees) + 1):  # the cheapest cut of those before `end`, by where its last round begins
        most = max(1, size * longest // int(lengths[end - 1])) if longest else size
        first = max(0, end - most * ranks)
        many = -(-(end - np.arange(first, end)) // ranks)  # in the largest micro-batch
        costs = least[first:end] + many * lengths[first:end] + ROUND
        if longest:
            costs[(many > 1) & (many * lengths[first:end] > size * longest)] = np.inf
        begins[end], least[end] = first + int(costs.argmin()), costs.min()
    rounds: list[list[list[Some]]] = []
    end = len(trees)
    while end:
        rounds.append([longest_first[begins[end] + rank : end : ranks] for rank in range(ranks)])
        end = begins[end]
    return rounds[::-1]


def places(trees: Sequence[Sized]) -> int:
    """Places of a micro-batch, padded ones too."""
    return len(trees) * max(tree.tokens for tree in trees)
