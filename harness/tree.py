"""The only way records become tensors: one image, one prefix, n branches that share it.

A branch sees the prefix and itself, at the positions it would have alone; so a tree gives the log-probs that separate
sequences give, while the image (80 to 90 % of a LLaVA sequence) is computed once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from harness.template import ANSWER, IMAGE, Tokens, encode, prompt_text, segments
from harness.types import Conversation, Image, Pair, Record, Rollout, Turn

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Branch:
    """Token ids after the prefix, and for each whether its log-prob is wanted."""

    ids: tuple[int, ...]
    supervised: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Tree:
    """A record as tokens. The prefix holds the image tokens, is not empty and has nothing supervised.

    `columns` has one float per supervised token under each name, in the order of branches and tokens. `cut` is how many
    tokens `max_length` took.
    """

    id: str
    image: Image | None
    prefix: tuple[int, ...]
    branches: tuple[Branch, ...]
    columns: Mapping[str, tuple[float, ...]] = field(default_factory=dict, hash=False)
    cut: int = 0

    @property
    def tokens(self) -> int:
        """Positions of the forward pass, each prefix counted once."""
        return len(self.prefix) + sum(len(branch.ids) for branch in self.branches)

    @property
    def supervised(self) -> int:
        """Tokens whose log-prob is wanted, over all branches."""
        return sum(sum(branch.supervised) for branch in self.branches)


class TooLong(ValueError):
    """A record that does not fit the model; unlike others that cannot be a tree it is no sign of malformed data."""


def reserved(tokenizer: Any) -> frozenset[str]:
    """Strings that a tokenizer turns into control tokens wherever they stand (`<image>`, the end token, ...)."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return frozenset(added | set(tokenizer.all_special_tokens) | {IMAGE})


def refuse_reserved(texts: Sequence[str], tokenizer: Any) -> None:
    """Raise ValueError where a text that people or models wrote would smuggle in a control token."""
    words = reserved(tokenizer)
    for text in texts:
        found = sorted(word for word in words if word in text)
        if found:
            raise ValueError(f"the text contains the reserved token {found[0]!r}: {text[:80]!r}")


def _branches(record: Conversation | Pair, end: str) -> list[list[tuple[str, bool]]]:
    """The pieces of each branch; in a pair only the last answer is supervised."""
    has_image = record.image is not None
    if isinstance(record, Conversation):
        return [segments(turns, has_image, end) for turns in record.branches]
    both: list[list[tuple[str, bool]]] = []
    for answer in (record.chosen, record.rejected):
        pieces = segments([*record.history, Turn(record.question, answer)], has_image, end)
        both.append([(text, False) for text, _ in pieces[:-1]] + pieces[-1:])
    return both


def _turns(record: Record) -> list[Turn]:
    if isinstance(record, Rollout):
        return [*record.history, Turn(record.question, "")]
    if isinstance(record, Pair):
        return [*record.history, Turn(record.question, record.chosen), Turn("", record.rejected)]
    return [turn for branch in record.branches for turn in branch]


def _shared(branches: Sequence[Tokens]) -> int:
    """How many leading tokens all branches have in common and none supervises."""
    columns = zip(*(zip(b.ids, b.supervised, strict=True) for b in branches), strict=False)
    return sum(1 for _ in takewhile(lambda c: not c[0][1] and all(cell == c[0] for cell in c), columns))


def tree(
    record: Record, tokenizer: Any, image_tokens: int, max_length: int | None = None, positions: int | None = None
) -> Tree:
    """The record as one tree; raises ValueError where it cannot be one, with the reason to drop it by.

    Each branch is tokenized whole and the prefix is what the token rows share, so no seam changes a token. Of a branch,
    prefix and image places included, the first `max_length` tokens count, as in LLaVA: `llava_arch.py`,
    `tokenizer_model_max_length`, cuts the sequence on the right once the image is in it, each answer of a pair by
    itself. A rollout is what it is and is never cut. TooLong where nothing is left to learn from, or where it still
    needs more than the model's `positions`.
    """
    texts = [text for turn in _turns(record) for text in (turn.question, turn.answer)]
    refuse_reserved(texts, tokenizer)
    if any(ANSWER in text for text in texts):  # `preprocess_v1` masks the whole of such a record
        raise ValueError(f"a text contains{ANSWER}, by which LLaVA's template tells questions from answers")
    if isinstance(record, Rollout):
        sampled = _sampled(record, tokenizer, image_tokens)
        _fits(sampled.tokens, positions if max_length is None else min(max_length, positions or max_length))
        return sampled
    whole = [encode(tokenizer, pieces, image_tokens) for pieces in _branches(record, tokenizer.eos_token)]
    if not whole or not all(any(row.supervised) for row in whole):
        raise ValueError("the record has a branch with no supervised token")
    rows = [Tokens(row.ids[:max_length], row.supervised[:max_length]) for row in whole]
    if not all(any(row.supervised) for row in rows):
        raise TooLong(f"too long: an answer lies wholly beyond max_length {max_length}")
    if isinstance(record, Pair) and rows != whole and rows[0] == rows[1]:
        raise TooLong(f"too long: chosen and rejected are the same up to max_length {max_length}")
    _fits(max(len(row.ids) for row in rows), positions)
    cut = _shared(rows)
    if cut == 0:
        raise ValueError("the record's branches share no leading token")
    branches = tuple(Branch(row.ids[cut:], row.supervised[cut:]) for row in rows)
    lost = sum(len(row.ids) for row in whole) - sum(len(row.ids) for row in rows)
    return Tree(record.id, record.image, rows[0].ids[:cut], branches, cut=lost)


def _fits(tokens: int, most: int | None) -> None:
    if most is not None and tokens > most:
        raise TooLong(f"too long: {tokens:,} tokens for {most:,} places; training.max_length would cut it")


def _sampled(record: Rollout, tokenizer: Any, image_tokens: int) -> Tree:
    """A rollout's tree: its prompt, and the very tokens that were sampled, whatever their text would encode to."""
    if not record.tokens or tokenizer.convert_tokens_to_ids(IMAGE) in record.tokens:
        raise ValueError("the response is empty or holds an image token")
    if any(len(column) != len(record.tokens) for column in record.columns.values()):
        raise ValueError("a column has not one figure per token")
    text = prompt_text(record.question, record.history, record.image is not None, tokenizer.eos_token)
    prefix = encode(tokenizer, [(text, False)], image_tokens).ids
    return Tree(record.id, record.image, prefix, (Branch(record.tokens, (True,) * len(record.tokens)),), record.columns)


@dataclass(frozen=True)
class Batch:
    """Trees as tensors: B rows padded on the right to L, N supervised tokens in row, branch and token order.

    input_ids, position_ids: (B, L) int64. attention_mask: (B, 1, L, L) bool, True where a query (dim 2) sees a key.
    features: (images, tokens, width) of the vision tower, in row order, or None. source: (N,) int64, index into the B*L
    hidden states of the one that predicts a token. labels: (N,) int64, that token. branch: (N,) int64, its branch.
    branch_tree: (branches,) int64, the row of each branch. last: (branches,) int64, index into the B*L hidden states of
    a branch's last place. ids: the records' ids, one per row. columns: the trees' own, each (N,) float32.
    """

    ids: tuple[str, ...]
    input_ids: "Tensor"
    position_ids: "Tensor"
    attention_mask: "Tensor"
    features: "Tensor | None"
    source: "Tensor"
    labels: "Tensor"
    branch: "Tensor"
    branch_tree: "Tensor"
    last: "Tensor"
    columns: "dict[str, Tensor]"

    def to(self, device: "torch.device | str") -> "Batch":
        """The batch with its tensors on `device`."""
        import torch

        moved: dict[str, Any] = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, torch.Tensor)}
        return replace(self, **moved, columns={name: column.to(device) for name, column in self.columns.items()})


def _row(tree: Tree) -> tuple[list[int], list[int], list[int]]:
    """Token ids, positions and segment (0 = prefix, b + 1 = branch b) of each place in a row."""
    ids, places, segment = list(tree.prefix), list(range(len(tree.prefix))), [0] * len(tree.prefix)
    for number, branch in enumerate(tree.branches, 1):
        ids += branch.ids
        places += range(len(tree.prefix), len(tree.prefix) + len(branch.ids))
        segment += [number] * len(branch.ids)
    return ids, places, segment


def _mask(segment: "Tensor") -> "Tensor":
    """(B, L) segments, -1 where padded, to the (B, 1, L, L) mask: prefix plus own segment, causal.

    A padding row sees the prefix and padding, so that no row of the softmax is empty; nothing sees padding but padding.
    """
    import torch

    query, key = segment[:, :, None], segment[:, None, :]
    causal = torch.ones(segment.shape[1], segment.shape[1], dtype=torch.bool).tril()
    return (((key == 0) | (key == query)) & causal)[:, None]


def pack(trees: Sequence[Tree], features: Callable[[Image], "Tensor"], pad_id: int) -> Batch:
    """One row per tree; `features` gives an image's (tokens, width) tensor (`harness.features`)."""
    import torch

    rows = [_row(tree) for tree in trees]
    length = max(len(ids) for ids, _, _ in rows)
    source: list[int] = []
    labels: list[int] = []
    owner: list[int] = []
    branch_tree: list[int] = []
    last: list[int] = []
    for number, tree in enumerate(trees):
        start = len(tree.prefix)
        for branch in tree.branches:
            for at, (token, wanted) in enumerate(zip(branch.ids, branch.supervised, strict=True)):
                if wanted:  # a branch's first token is predicted by the prefix's last place, not by its neighbour
                    source.append(number * length + (start + at - 1 if at else len(tree.prefix) - 1))
                    labels.append(token)
                    owner.append(len(branch_tree))
            start += len(branch.ids)
            branch_tree.append(number)
            last.append(number * length + start - 1)

    def padded(column: int, fill: int) -> "Tensor":
        return torch.tensor([row[column] + [fill] * (length - len(row[column])) for row in rows])

    images = [features(tree.image) for tree in trees if tree.image is not None]
    return Batch(
        ids=tuple(tree.id for tree in trees),
        input_ids=padded(0, pad_id),
        position_ids=padded(1, 0),
        attention_mask=_mask(padded(2, -1)),
        features=torch.stack(images) if images else None,
        source=torch.tensor(source),
        labels=torch.tensor(labels),
        branch=torch.tensor(owner),
        branch_tree=torch.tensor(branch_tree),
        last=torch.tensor(last),
        columns={
            name: torch.tensor([figure for tree in trees for figure in tree.columns[name]], dtype=torch.float32)
            for name in trees[0].columns
        },
    )
