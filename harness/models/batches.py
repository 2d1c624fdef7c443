"""Which records make an optimiser step, and how a step is cut over micro-batches and ranks.

The order depends on the seed and the records' ids alone, so every method of a comparison walks its data alike, and a
record that one method dropped does not disturb the others.
"""

import hashlib
from collections.abc import Iterable, Sequence
from math import ceil

from harness.models.tree import Tree


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


def micro_batches(trees: Sequence[Tree], size: int, ranks: int) -> list[list[list[Tree]]]:
    """A step's trees as rounds of one micro-batch per rank, at most `size` trees each and of similar length.

    Every rank has the same number of rounds, because gradients are exchanged in each; where trees run short a rank's
    micro-batch is empty. Longest first, so that memory runs out at once or never.
    """
    longest_first = sorted(trees, key=lambda tree: (-tree.tokens, tree.id))
    rounds = ceil(len(trees) / (size * ranks))
    chunks = [longest_first[_cut(n, trees, rounds * ranks) : _cut(n + 1, trees, rounds * ranks)]
              for n in range(rounds * ranks)]  # fmt: skip
    return [chunks[at : at + ranks] for at in range(0, len(chunks), ranks)]


def _cut(number: int, trees: Sequence[Tree], chunks: int) -> int:
    return number * len(trees) // chunks
