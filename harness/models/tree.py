"""The only way records become tensors: one image, one prefix, n branches that share it.

A branch sees the prefix and itself, at the positions it would have alone; so a tree gives the log-probs that separate
sequences give, while the image (80 to 90 % of a LLaVA sequence) is computed once. Answers under another picture have a
prefix of their own: they are another tree of the same record, another row of the batch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain, compress
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.contracts.encoding import Pieces, Tokens
from harness.contracts.family import Family, Layout
from harness.contracts.records import Beside, Conversation, Image, Pair, Record, Rollout, Turn

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from harness.models.load import Loaded, Words


@dataclass(frozen=True, slots=True)
class Branch:
    """Token ids after the prefix, and for each whether its log-prob is wanted."""

    ids: tuple[int, ...]
    supervised: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Tree:
    """A record as tokens. The prefix holds the image tokens, is not empty and has nothing supervised.

    `columns` has one float per supervised token under each name, in the order of branches and tokens. `cut` is how many
    tokens `max_length` took. `layout` is the image's. `more` are the record's trees under other pictures.
    """

    id: str
    image: Image | None
    prefix: tuple[int, ...]
    branches: tuple[Branch, ...]
    columns: Mapping[str, tuple[float, ...]] = field(default_factory=dict, hash=False)
    cut: int = 0
    layout: Layout | None = None
    more: "tuple[Tree, ...]" = ()

    @property
    def rows(self) -> "tuple[Tree, ...]":
        """The record's trees, each a row of a batch."""
        return (self, *self.more)

    @property
    def tokens(self) -> int:
        """Positions of the forward pass, each prefix counted once."""
        return sum(len(row.prefix) + sum(len(branch.ids) for branch in row.branches) for row in self.rows)

    @property
    def read(self) -> int:
        """Positions whose last states are read: those that predict a supervised token, and each branch's last."""
        return sum(len({*chain(*row.reads())}) for row in self.rows)

    def reads(self) -> "tuple[list[int], list[int]]":
        """Places of this row: of the state that predicts each supervised token, and the last of each branch."""
        source: list[int] = []
        last: list[int] = []
        start = len(self.prefix)
        for branch in self.branches:  # whose first token is predicted by the prefix's last place, not by its neighbour
            before = (len(self.prefix) - 1, *range(start, start + len(branch.ids)))
            source += compress(before, branch.supervised)
            start += len(branch.ids)
            last.append(start - 1)
        return source, last

    @property
    def supervised(self) -> int:
        """Tokens whose log-prob is wanted, over all branches."""
        return sum(sum(branch.supervised) for row in self.rows for branch in row.branches)

    @property
    def pairs(self) -> int:
        """(query, key) pairs that the rows' masks keep."""
        kept = 0
        for row in self.rows:
            prefix, sizes = len(row.prefix), [len(branch.ids) for branch in row.branches]
            kept += prefix * (prefix + 1) // 2 + sum(size * prefix + size * (size + 1) // 2 for size in sizes)
        return kept

    @property
    def images(self) -> "tuple[Image, ...]":
        """The rows' pictures."""
        return tuple(row.image for row in self.rows if row.image)

    @property
    def layouts(self) -> "tuple[Layout, ...]":
        """Those of the pictures."""
        return tuple(row.layout for row in self.rows if row.layout)


class TooLong(ValueError):
    """A record that does not fit the model; unlike others that cannot be a tree it is no sign of malformed data."""


@lru_cache(maxsize=4)  # asked for every prompt and record
def reserved(tokenizer: Any, family: Family) -> frozenset[str]:
    """Strings that become control tokens wherever they stand (the image's, the end token, ...)."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return frozenset(added | set(tokenizer.all_special_tokens) | {family.image_token})


def refuse_reserved(texts: Sequence[str], tokenizer: Any, family: Family) -> None:
    """Raise ValueError where a text that people or models wrote would smuggle in a control token."""
    words = reserved(tokenizer, family)
    for text in texts:
        found = sorted(word for word in words if word in text)
        if found:
            raise ValueError(f"the text contains the reserved token {found[0]!r}: {text[:80]!r}")


def _seen(record: Conversation | Pair, family: Family, end: str) -> dict[Image | None, list[Pieces]]:
    """The pieces of each branch by the picture it is seen with, the record's own first; of a pair only the last answer
    is supervised."""
    has_image = record.image is not None
    if isinstance(record, Conversation):
        return {record.image: [family.segments(turns, has_image, end) for turns in record.branches]}
    seen: dict[Image | None, list[Pieces]] = {}
    for one in (Beside(record.chosen), Beside(record.rejected), *record.beside):
        pieces = family.segments([*record.history, Turn(record.question, one.answer)], has_image, end)
        seen.setdefault(one.seen(record.image), []).append([(text, False) for text, _ in pieces[:-1]] + pieces[-1:])
    return seen


def _turns(record: Record) -> list[Turn]:
    if isinstance(record, Rollout):
        return [*record.history, Turn(record.question, "")]
    if isinstance(record, Pair):
        others = (Turn("", answer) for answer in (record.rejected, *(one.answer for one in record.beside)))
        return [*record.history, Turn(record.question, record.chosen), *others]
    return [turn for branch in record.branches for turn in branch]


def _shared(branches: Sequence[Tokens]) -> int:
    """How many leading tokens all branches have in common and none supervises; each supervises some."""
    most = min(branch.supervised.index(True) for branch in branches)
    ids = np.array([branch.ids[:most] for branch in branches])
    return int(np.append((ids != ids[0]).any(0), True).argmax())


def tree(record: Record, loaded: "Loaded | Words", max_length: int | None = None) -> Tree:
    """The record as one tree; raises ValueError where it cannot be one, with the reason to drop it by.

    Each branch is tokenized whole and the prefix is what the token rows share, so no seam changes a token. Of a branch,
    prefix and image places included, the first `max_length` tokens count, as in LLaVA: `llava_arch.py`,
    `tokenizer_model_max_length`, cuts the sequence on the right once the image is in it, each answer of a pair by
    itself. A rollout is what it is and is never cut. TooLong where nothing is left to learn from, or where it still
    needs more than the model's `positions`.
    """
    family, tokenizer, positions = loaded.family, loaded.tokenizer, loaded.positions
    texts = [text for turn in _turns(record) for text in (turn.question, turn.answer)]
    refuse_reserved(texts, tokenizer, family)
    for spelling, why in family.forbidden.items():
        if any(spelling in text for text in texts):
            raise ValueError(f"a text contains{spelling}, {why}")
    if isinstance(record, Rollout):
        sampled = _sampled(record, loaded)
        longest = len(sampled.prefix) + max(len(branch.ids) for branch in sampled.branches)
        _fits(longest, positions if max_length is None else min(max_length, positions or max_length))
        return sampled
    seen = _seen(record, family, tokenizer.eos_token)
    first, *more = (_grown(record, image, pieces, loaded, max_length) for image, pieces in seen.items())
    named = (replace(other, id=f"{record.id}/{number}") for number, other in enumerate(more, 1))
    return replace(first, more=tuple(named), cut=sum(one.cut for one in (first, *more)))


def _grown(
    record: Conversation | Pair,
    image: Image | None,
    branches: list[Pieces],
    loaded: "Loaded | Words",
    max_length: int | None,
) -> Tree:
    """What a record has under one picture, as a tree."""
    layout, positions = loaded.eyes.layout(image) if image else None, loaded.positions
    whole = [loaded.family.encode(loaded.tokenizer, pieces, layout) for pieces in branches]
    if not whole or not all(any(row.supervised) for row in whole):
        raise ValueError("the record has a branch with no supervised token")
    rows = [Tokens(row.ids[:max_length], row.supervised[:max_length]) for row in whole]
    if not all(any(row.supervised) for row in rows):
        raise TooLong(f"too long: an answer lies wholly beyond max_length {max_length}")
    if isinstance(record, Pair) and image == record.image and rows != whole and rows[0] == rows[1]:
        raise TooLong(f"too long: chosen and rejected are the same up to max_length {max_length}")
    _fits(max(len(row.ids) for row in rows), positions)
    cut = _shared(rows)
    if cut == 0:
        raise ValueError("the record's branches share no leading token")
    ends = tuple(Branch(row.ids[cut:], row.supervised[cut:]) for row in rows)
    lost = sum(len(row.ids) for row in whole) - sum(len(row.ids) for row in rows)
    return Tree(record.id, image, rows[0].ids[:cut], ends, cut=lost, layout=layout)


def _fits(tokens: int, most: int | None) -> None:
    if most is not None and tokens > most:
        raise TooLong(f"too long: {tokens:,} tokens for {most:,} places; training.max_length would cut it")


def _sampled(record: Rollout, loaded: "Loaded | Words") -> Tree:
    """A rollout's tree: its prompt, and the very tokens that were sampled, whatever their text would encode to."""
    family, tokenizer = loaded.family, loaded.tokenizer
    image_token = tokenizer.convert_tokens_to_ids(family.image_token)
    if any(not tokens or image_token in tokens for tokens in record.responses):
        raise ValueError("the response is empty or holds an image token")
    if any(len(column) != sum(map(len, record.responses)) for column in record.columns.values()):
        raise ValueError("a column has not one figure per token")
    layout = loaded.eyes.layout(record.image) if record.image else None
    pieces = family.prompt(record.question, record.history, record.image is not None, tokenizer.eos_token)
    sampled = tuple(Branch(tokens, (True,) * len(tokens)) for tokens in record.responses)
    prefix = family.encode(tokenizer, pieces, layout).ids
    return Tree(record.id, record.image, prefix, sampled, record.columns, layout=layout)


@dataclass(frozen=True)
class Batch:
    """Trees as tensors: B rows padded on the right to L, N supervised tokens in row, branch and token order.

    input_ids: (B, L) int64. position_ids: (B, L) int64, or (axes, B, L) where the family has several. segments: (B, L)
    int64, 0 in a prefix, b + 1 in branch b, -1 where padded. causal: whether attention that is plainly causal sees what
    the mask shows: each row has one branch. features: (rows, width) of the vision tower, of all images in row order one
    behind the other, or None; layouts: those of the images. source: (N,) int64, index into the B*L hidden states of the
    one that predicts a token. labels: (N,) int64, that token. branch: (N,) int64, its branch. branch_tree: (branches,)
    int64, the tree of each branch, with all its rows. last: (branches,) int64, index into the B*L hidden states of a
    branch's last place. read: sorted int64, each index in `source` or `last` once. ids: the rows' ids. columns: the
    trees' own, each (N,) float32.
    """

    ids: tuple[str, ...]
    input_ids: "Tensor"
    position_ids: "Tensor"
    segments: "Tensor"
    causal: bool
    features: "Tensor | None"
    layouts: tuple[Layout, ...]
    source: "Tensor"
    labels: "Tensor"
    branch: "Tensor"
    branch_tree: "Tensor"
    last: "Tensor"
    read: "Tensor"
    columns: "dict[str, Tensor]"

    @property
    def attention_mask(self) -> "Tensor":
        """(B, 1, L, L) bool, True where a query (dim 2) sees a key."""
        return _mask(self.segments)

    def to(self, device: "torch.device | str") -> "Batch":
        """The batch with its tensors on `device`."""
        import torch

        moved: dict[str, Any] = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, torch.Tensor)}
        return replace(self, **moved, columns={name: column.to(device) for name, column in self.columns.items()})


def _row(tree: Tree, loaded: "Loaded") -> tuple[list[int], list[list[int]], list[int]]:
    """Token ids, positions on each axis, and segment (0 = prefix, b + 1 = branch b) of each place in a row."""
    ids, segment = list(tree.prefix), [0] * len(tree.prefix)
    axes = loaded.family.positions(tree.prefix, tree.layout, loaded.model.config.image_token_id)
    follows = 1 + max(map(max, axes))
    for number, branch in enumerate(tree.branches, 1):
        ids += branch.ids
        for axis in axes:
            axis += range(follows, follows + len(branch.ids))
        segment += [number] * len(branch.ids)
    return ids, axes, segment


def _plain(row: tuple[list[int], list[list[int]], list[int]]) -> bool:
    """Whether a row is a sequence as any other: one branch, and places that count on, where they have one axis."""
    ids, axes, segment = row
    return segment[-1] <= 1 and (len(axes) > 1 or axes[0] == list(range(len(ids))))


def _mask(segment: "Tensor") -> "Tensor":
    """(B, L) segments, -1 where padded, to the (B, 1, L, L) mask: prefix plus own segment, causal.

    A padding row sees the prefix and padding, so that no row of the softmax is empty; nothing sees padding but padding.
    """
    import torch

    query, key = segment[:, :, None], segment[:, None, :]
    causal = torch.ones(segment.shape[1], segment.shape[1], dtype=torch.bool, device=segment.device).tril()
    return (((key == 0) | (key == query)) & causal)[:, None]


def pack(trees: Sequence[Tree], loaded: "Loaded") -> Batch:
    """One row per tree under a picture, a record's behind each other, with the features of their images."""
    import torch

    family = loaded.family
    owners = [(row, number) for number, tree in enumerate(trees) for row in tree.rows]
    rows = [_row(tree, loaded) for tree, _ in owners]
    length, causal = max(len(ids) for ids, _, _ in rows), all(map(_plain, rows))
    source: list[int] = []
    labels: list[int] = []
    owner: list[int] = []
    branch_tree: list[int] = []
    last: list[int] = []
    for number, (tree, record) in enumerate(owners):
        sources, ends = tree.reads()
        source += (number * length + at for at in sources)
        last += (number * length + at for at in ends)
        for branch in tree.branches:
            labels += compress(branch.ids, branch.supervised)
            owner += [len(branch_tree)] * sum(branch.supervised)
            branch_tree.append(record)

    def padded(lines: Iterable[list[int]], fill: int) -> "Tensor":
        """(B, L) int64."""
        return torch.tensor([line + [fill] * (length - len(line)) for line in lines])

    if causal:  # without a mask a place that does not count on would begin another sequence, padding too
        for _, axes, _ in rows:
            for axis in axes:
                axis += range(axis[-1] + 1, axis[-1] + 1 + length - len(axis))
    positions = [padded((axes[axis] for _, axes, _ in rows), 0) for axis in range(family.axes)]
    images = [loaded.features(tree.image) for tree, _ in owners if tree.image is not None]
    return Batch(
        ids=tuple(tree.id for tree, _ in owners),
        input_ids=padded((ids for ids, _, _ in rows), loaded.pad_id),
        position_ids=torch.stack(positions) if family.axes > 1 else positions[0],
        segments=padded((segment for _, _, segment in rows), -1),
        causal=causal,
        features=torch.cat(images) if images else None,
        layouts=tuple(tree.layout for tree, _ in owners if tree.layout is not None),
        source=torch.tensor(source),
        labels=torch.tensor(labels),
        branch=torch.tensor(owner),
        branch_tree=torch.tensor(branch_tree),
        last=torch.tensor(last),
        read=torch.tensor(sorted({*source, *last})),
        columns={
            name: torch.tensor([figure for tree in trees for figure in tree.columns[name]], dtype=torch.float32)
            for name in trees[0].columns
        },
    )
