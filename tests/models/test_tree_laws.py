"""Laws of records as trees: any record, any cut, any tokenizer, and what a batch's tensors say of them."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import harness.models.tree as trees_of
from harness.contracts.encoding import Tokens, encode
from harness.contracts.family import Layout
from harness.contracts.records import Conversation, Image, Pair, Record, Rollout, Turn
from harness.families.llava import IMAGE, Llava
from harness.models import batches
from harness.models.batches import ROUND, micro_batches, order, steps
from harness.models.load import Loaded
from harness.models.tree import Batch, Branch, TooLong, Tree, pack, tree
from tests.laws import caught, law

LLAVA = Llava()
WORDS = ["a", "red", "cat", "no", "yes", "zebra", "é", "  ", "\n", "USER", "cat.", ":", "ball", "\u2581", "日本"]
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)
TURNS = st.builds(Turn, TEXTS, TEXTS)
CONVERSATIONS = st.builds(
    Conversation,
    st.just("c"),
    st.none(),
    st.lists(st.lists(TURNS, min_size=1, max_size=3).map(tuple), min_size=1, max_size=3).map(tuple),
)
PAIRS = st.builds(Pair, st.just("p"), st.none(), TEXTS, TEXTS, TEXTS, st.lists(TURNS, max_size=2).map(tuple))
RECORDS = st.one_of(CONVERSATIONS, PAIRS)


def seen(record: Record, picture: Image | None) -> Record:
    """The record about a picture, or about none."""
    return replace(record, image=picture)


def whole(record: Conversation | Pair, loaded: Loaded) -> list[Tokens]:
    """Each branch as one text, tokenized by itself; of a pair the last answer alone is supervised."""
    layout = loaded.eyes.layout(record.image) if record.image else None
    if isinstance(record, Conversation):
        talks = list(record.branches)
    else:
        talks = [(*record.history, Turn(record.question, answer)) for answer in (record.chosen, record.rejected)]
    rows = []
    for turns in talks:
        row = LLAVA.encode(loaded.tokenizer, LLAVA.segments(turns, record.image is not None, "</s>"), layout)
        if isinstance(record, Pair):
            last = LLAVA.encode(loaded.tokenizer, LLAVA.segments(turns[-1:], False, "</s>"), None)
            answer = sum(last.supervised)
            row = Tokens(row.ids, (False,) * (len(row.ids) - answer) + (True,) * answer)
        rows.append(row)
    return rows


def unfolded(made: Tree) -> list[Tokens]:
    """A tree's branches, each with the prefix before it."""
    dark = (False,) * len(made.prefix)
    return [Tokens(made.prefix + branch.ids, dark + branch.supervised) for branch in made.branches]


@law(80)
@given(RECORDS, st.booleans())
def test_a_tree_unfolds_into_its_branches_and_its_prefix_is_all_that_they_share(
    loaded: Loaded, pictures: list[Image], record: Conversation | Pair, shown: bool
) -> None:
    record = seen(record, pictures[0] if shown else None)  # type: ignore[assignment]
    made, rows = tree(record, loaded), whole(record, loaded)
    assert unfolded(made) == rows
    assert made.prefix and made.cut == 0
    firsts = {(branch.ids[:1], branch.supervised[:1]) for branch in made.branches}
    assert len(firsts) > 1 or next(iter(firsts))[1] == (True,)  # one place more is no common, unsupervised one
    assert made.tokens == len(made.prefix) + sum(len(row.ids) - len(made.prefix) for row in rows)
    image = loaded.tokenizer.convert_tokens_to_ids(IMAGE)
    assert made.prefix.count(image) == (4 if shown else 0)
    assert not any(image in branch.ids for branch in made.branches)


@law(60)
@given(RECORDS, st.integers(-40, 2))
def test_any_cut_leaves_the_first_tokens_of_each_branch(loaded: Loaded, record: Conversation | Pair, end: int) -> None:
    """What `max_length` leaves is what is left of the whole; a cut that leaves nothing to learn drops the record."""
    rows = whole(record, loaded)
    most = max(len(row.ids) for row in rows) + end
    left = [Tokens(row.ids[:most], row.supervised[:most]) for row in rows]
    lost = sum(len(row.ids) for row in rows) - sum(len(row.ids) for row in left)
    blind = not all(any(row.supervised) for row in left)
    equal = isinstance(record, Pair) and lost > 0 and left[0] == left[1]
    if blind or equal:
        with pytest.raises(TooLong):
            tree(record, loaded, most)
        return
    made = tree(record, loaded, most)
    assert unfolded(made) == left
    assert made.cut == lost
    assert made.supervised == sum(sum(row.supervised) for row in left)


def test_a_cut_on_the_left_would_be_caught(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant that lets the begin go, as truncation on the left does."""
    real = trees_of.Tokens

    def wrong(ids: Sequence[int], supervised: Sequence[bool]) -> Tokens:
        return real(tuple(ids[1:]), tuple(supervised[1:]))

    monkeypatch.setattr(trees_of, "Tokens", wrong)
    caught(test_any_cut_leaves_the_first_tokens_of_each_branch, loaded)


def test_a_prefix_that_takes_what_is_supervised_would_be_caught(
    loaded: Loaded, pictures: list[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(rows: Sequence[Tokens]) -> int:
        return next((at for at, ids in enumerate(zip(*(row.ids for row in rows), strict=False)) if len({*ids}) > 1), 1)

    monkeypatch.setattr(trees_of, "_shared", greedy)
    caught(test_a_tree_unfolds_into_its_branches_and_its_prefix_is_all_that_they_share, loaded, pictures)


@law(40)
@given(RECORDS, st.sampled_from(["<image>", "</s>", "<pad>", "<s>", "<unk>"]), st.data())
def test_a_control_token_anywhere_in_a_record_drops_it(
    loaded: Loaded, record: Conversation | Pair, word: str, data: st.DataObject
) -> None:
    """Wherever a stranger's text may put it: no id of the record would be what it seems."""

    def spoilt(text: str) -> str:
        at = data.draw(st.integers(0, len(text)))
        return text[:at] + word + text[at:]

    if isinstance(record, Pair):
        names = ["question", "chosen", "rejected"]
        name = data.draw(st.sampled_from(names))
        record = replace(record, **{name: spoilt(getattr(record, name))})
    else:
        turns = [list(branch) for branch in record.branches]
        one = data.draw(st.integers(0, len(turns) - 1))
        at = data.draw(st.integers(0, len(turns[one]) - 1))
        side = data.draw(st.sampled_from(["question", "answer"]))
        turns[one][at] = replace(turns[one][at], **{side: spoilt(getattr(turns[one][at], side))})
        record = replace(record, branches=tuple(map(tuple, turns)))
    with pytest.raises(ValueError, match="reserved token"):
        tree(record, loaded)


@law(40)
@given(st.lists(st.integers(5, 200), min_size=1, max_size=9), st.booleans(), st.integers(1, 200))
def test_a_rollout_keeps_the_very_tokens_and_is_never_cut(
    loaded: Loaded, pictures: list[Image], tokens: list[int], shown: bool, most: int
) -> None:
    """Ids that no text would encode to stay as they were sampled; one that does not fit is dropped whole."""
    image = pictures[1] if shown else None
    figures = {"advantage": tuple(float(at) for at in range(len(tokens)))}
    record = Rollout("r", image, "what is there", tuple(tokens), figures)
    made = tree(record, loaded)
    [branch] = made.branches
    assert branch == Branch(tuple(tokens), (True,) * len(tokens))
    assert made.columns == figures and made.cut == 0
    asked = LLAVA.encode(
        loaded.tokenizer,
        LLAVA.segments([Turn("what is there", "x")], shown, "</s>"),
        Layout(4) if shown else None,
    )
    assert asked.ids[: len(made.prefix)] == made.prefix  # what a conversation has before its answer
    if made.tokens > most:
        with pytest.raises(TooLong):
            tree(record, loaded, most)
    else:
        assert tree(record, loaded, most) == made
    for lost in (replace(record, tokens=()), replace(record, columns={"advantage": figures["advantage"][1:]})):
        with pytest.raises(ValueError, match=r"empty|figure per token"):
            tree(lost, loaded)


def test_a_group_of_responses_is_a_branch_each(loaded: Loaded, pictures: list[Image]) -> None:
    """With figures in the order of responses and tokens; the longest must fit, not all of them together."""
    figures = {"advantage": (0.0, 1.0, 2.0, 3.0, 4.0)}
    record = Rollout("r", pictures[1], "what is there", (7, 8), figures, more=((9,), (10, 11)))
    made = tree(record, loaded)
    assert [branch.ids for branch in made.branches] == [(7, 8), (9,), (10, 11)] and made.supervised == 5
    assert made.columns == figures
    assert tree(record, loaded, len(made.prefix) + 2) == made
    with pytest.raises(TooLong):
        tree(record, loaded, len(made.prefix) + 1)
    for lost in (replace(record, more=((9,), ())), replace(record, more=((9,),))):
        with pytest.raises(ValueError, match=r"empty|figure per token"):
            tree(lost, loaded)


# Batches


@st.composite
def forests(draw: st.DrawFn, columns: bool = False) -> list[Tree]:
    """Up to four trees of random tokens, without pictures."""
    made = []
    for number in range(draw(st.integers(1, 4))):
        prefix = tuple(draw(st.lists(st.integers(5, 60), min_size=1, max_size=6)))
        branches = []
        for _ in range(draw(st.integers(1, 3))):
            ids = draw(st.lists(st.integers(5, 60), min_size=1, max_size=5))
            wanted = draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))
            branches.append(Branch(tuple(ids), tuple(wanted)))
        one = Tree(f"t{number}", None, prefix, tuple(branches))
        made.append(replace(one, columns={"x": tuple(number + at / 8 for at in range(one.supervised))}))
    return made


def paths(one: Tree) -> list[list[int]]:
    """For each place of a tree's row the places that it may see, itself the last: the way from the root."""
    found = [list(range(at + 1)) for at in range(len(one.prefix))]
    start = len(one.prefix)
    for branch in one.branches:
        for at in range(len(branch.ids)):
            found.append([*range(len(one.prefix)), *range(start, start + at + 1)])
        start += len(branch.ids)
    return found


@law(80)
@given(forests())
def test_a_place_sees_its_way_from_the_root_and_stands_where_it_would_alone(loaded: Loaded, made: list[Tree]) -> None:
    """Mask, ids and positions of a batch, place by place, against the ways of a tree."""
    batch = pack(made, loaded)
    length = batch.input_ids.shape[1]
    assert length == max(one.tokens for one in made)
    for row, one in enumerate(made):
        ids = [*one.prefix, *(token for branch in one.branches for token in branch.ids)]
        assert batch.input_ids[row].tolist() == ids + [loaded.pad_id] * (length - len(ids))
        for place, way in enumerate(paths(one)):
            visible = batch.attention_mask[row, 0, place].nonzero().flatten().tolist()
            assert visible == way
            assert batch.position_ids[row, place] == len(way) - 1
        for place in range(one.tokens, length):
            visible = batch.attention_mask[row, 0, place].nonzero().flatten().tolist()
            assert visible and set(visible) <= {*range(len(one.prefix)), *range(one.tokens, length)}
        assert not batch.attention_mask[row, 0, : one.tokens, one.tokens :].any()


@law(80)
@given(forests())
def test_what_predicts_a_token_is_the_place_before_it_on_its_way(loaded: Loaded, made: list[Tree]) -> None:
    batch = pack(made, loaded)
    length = batch.input_ids.shape[1]
    expected: list[tuple[int, int, int]] = []
    last, owner = list[int](), list[int]()
    for row, one in enumerate(made):
        ways, place = paths(one), len(one.prefix)
        for branch in one.branches:
            for token, wanted in zip(branch.ids, branch.supervised, strict=True):
                if wanted:
                    expected.append((row * length + ways[place][-2], token, len(owner)))
                place += 1
            owner.append(row)
            last.append(row * length + place - 1)
    found = list(zip(batch.source.tolist(), batch.labels.tolist(), batch.branch.tolist(), strict=True))
    assert found == expected
    assert batch.branch_tree.tolist() == owner
    assert batch.last.tolist() == last
    assert batch.columns["x"].tolist() == [figure for one in made for figure in one.columns["x"]]


@law(60)
@given(forests(), st.randoms(use_true_random=False))
def test_a_tree_is_the_same_rows_in_any_company(loaded: Loaded, made: list[Tree], rng: Any) -> None:
    """Alone, or among others in another order: its ids, positions, mask and figures do not change."""
    turned = rng.sample(made, len(made))
    batch = pack(turned, loaded)
    for row, one in enumerate(turned):
        alone = pack([one], loaded)
        size = one.tokens
        assert torch.equal(batch.input_ids[row, :size], alone.input_ids[0])
        assert torch.equal(batch.position_ids[row, :size], alone.position_ids[0])
        assert torch.equal(batch.attention_mask[row, :, :size, :size], alone.attention_mask[0])
        mine = batch.branch_tree[batch.branch] == row if len(batch.branch) else torch.zeros(0, dtype=torch.bool)
        assert torch.equal(batch.labels[mine], alone.labels)
        assert torch.equal(batch.columns["x"][mine], alone.columns["x"])
        assert torch.equal(batch.source[mine] - row * batch.input_ids.shape[1], alone.source)


def plainly_causal(segment: torch.Tensor) -> torch.Tensor:
    """A mutant: a branch sees those before it."""
    length = segment.shape[1]
    return torch.ones(length, length, dtype=torch.bool).tril().expand(len(segment), 1, length, length)


def with_neighbours(segment: torch.Tensor) -> torch.Tensor:
    """A mutant: everything real is seen by what comes later; padding by nobody, itself included."""
    query, key = segment[:, :, None], segment[:, None, :]
    return ((key >= 0) & (query >= 0))[:, None] & plainly_causal(segment)


@pytest.mark.parametrize("wrong", [plainly_causal, with_neighbours])
def test_a_wrong_mask_would_be_caught(
    loaded: Loaded, wrong: Callable[[torch.Tensor], torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees_of, "_mask", wrong)
    caught(test_a_place_sees_its_way_from_the_root_and_stands_where_it_would_alone, loaded)


def test_positions_that_count_the_row_would_be_caught(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    real = trees_of._row

    def wrong(one: Tree, family: Any) -> Any:
        ids, _, segment = real(one, family)
        return ids, [list(range(len(ids)))], segment

    monkeypatch.setattr(trees_of, "_row", wrong)
    caught(test_a_place_sees_its_way_from_the_root_and_stands_where_it_would_alone, loaded)


def test_a_neighbour_s_last_token_as_source_would_be_caught(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: a branch's first token is predicted by the place before it in the row."""
    real = pack

    def wrong(made: Sequence[Tree], known: Loaded) -> Batch:
        batch = real(made, known)
        flat = batch.input_ids.shape[1]
        first = [number for number, source in enumerate(batch.source) if _first(made, int(source), flat)]
        moved = batch.source.clone()
        for number in first:
            branch = int(batch.branch[number])
            row = int(batch.branch_tree[branch])
            before = (
                int(batch.last[branch - 1]) if branch and int(batch.branch_tree[branch - 1]) == row else moved[number]
            )
            moved[number] = before
        return replace(batch, source=moved)

    monkeypatch.setitem(globals(), "pack", wrong)
    caught(test_what_predicts_a_token_is_the_place_before_it_on_its_way, loaded)


def _first(made: Sequence[Tree], source: int, length: int) -> bool:
    return source % length == len(made[source // length].prefix) - 1


# Steps and micro-batches

IDS = st.lists(st.text("abc01é\0", min_size=1, max_size=4), min_size=1, max_size=30, unique=True)


@law(60)
@given(IDS, st.integers(0, 99), st.integers(1, 3), st.integers(1, 9), st.randoms(use_true_random=False))
def test_what_a_step_holds_is_of_ids_seed_and_size_alone(
    ids: list[str], seed: int, epochs: int, size: int, rng: Any
) -> None:
    made = steps(ids, seed, epochs, size)
    assert steps(rng.sample(ids, len(ids)), seed, epochs, size) == made
    assert all(len(step) == size for step in made[: len(ids) // size])
    for epoch in range(epochs):
        per = -(-len(ids) // size)
        flat = [name for step in made[epoch * per : (epoch + 1) * per] for name in step]
        assert flat == order(ids, seed, epoch) and sorted(flat) == sorted(ids)
    gone = rng.choice(ids)
    left = [name for name in ids if name != gone]
    assert order(left, seed, 0) == [name for name in order(ids, seed, 0) if name != gone]
    assert steps(ids, seed, epochs, size) != steps(ids, seed + 1, epochs, size) or len(ids) < 6


@law(100)
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=40),
    st.integers(1, 9),
    st.integers(1, 4),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_micro_batches_are_the_cheapest_cut_sorted_by_length_and_know_no_order(
    lengths: list[int], size: int, ranks: int, shared: bool, rng: Any
) -> None:
    made = [Tree(f"t{at:02}", None, (1,), (Branch((2,) * n, (True,) * n),)) for at, n in enumerate(lengths)]
    longest = rng.randrange(1, 40) if shared else 0

    def fits(lengths: list[int]) -> bool:
        most = -(-len(lengths) // ranks)
        return most == 1 or (most * max(lengths) <= size * longest if shared else most <= size)

    rounds = micro_batches(made, size, ranks, longest)
    assert micro_batches(rng.sample(made, len(made)), size, ranks, longest) == rounds
    chunks = [chunk for each in rounds for chunk in each]
    assert all(max(map(len, each)) - min(map(len, each)) <= 1 for each in rounds)
    flat = [one for chunk in chunks for one in chunk]
    assert {one.id for one in flat} == {one.id for one in made} and len(flat) == len(made)
    whole = [[one.tokens for chunk in each for one in chunk] for each in rounds]
    assert all(min(before) >= max(after) for before, after in pairwise(whole))
    assert all(map(fits, whole))
    cuts = [sorted(rng.sample(range(1, len(made)), rng.randrange(len(made)))) for _ in range(20)]
    ordered = sorted((one.tokens for one in made), reverse=True)
    other = [[ordered[at:to] for at, to in pairwise([0, *cut, len(made)])] for cut in cuts]
    assert all(costs(whole, ranks) <= costs(one, ranks) for one in other if all(map(fits, one)))


def costs(rounds: list[list[int]], ranks: int) -> int:
    """Places of each round's largest micro-batch, and what a round takes beside them."""
    return sum(-(-len(lengths) // ranks) * max(lengths) + ROUND for lengths in rounds)


def test_a_step_cut_by_the_order_of_its_records_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(made: Sequence[Tree], size: int, ranks: int, longest: int) -> list[list[list[Tree]]]:
        return [[list(made[at : at + size])] for at in range(0, len(made), size)]

    monkeypatch.setitem(globals(), "micro_batches", wrong)
    caught(test_micro_batches_are_the_cheapest_cut_sorted_by_length_and_know_no_order)


def test_an_order_by_a_shared_generator_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant as any trainer has it: shuffle the list by the seed. A dropped record moves all the others."""

    def wrong(ids: Sequence[str], seed: int, epoch: int) -> list[str]:
        return random.Random(f"{seed} {epoch}").sample(sorted(ids), len(ids))

    monkeypatch.setattr(batches, "order", wrong)
    monkeypatch.setitem(globals(), "order", wrong)
    caught(test_what_a_step_holds_is_of_ids_seed_and_size_alone)


# Tokenizers

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


def learnt(corpus: Sequence[str], size: int) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of random merges: tokens end anywhere, within words and across the seams of pieces."""
    made = Tokenizer(models.BPE())
    made.decoder = decoders.ByteLevel()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    special = ["<unk>", "<s>", "</s>", IMAGE]
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=ALPHABET, show_progress=False
    )
    made.train_from_iterator(corpus, trainer)
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, **named)


PLAIN = st.text("ab .:é日", min_size=0, max_size=8)
PIECES = st.lists(st.tuples(PLAIN, st.booleans()), min_size=1, max_size=6)


@law(60)
@given(PIECES, st.lists(st.text("ab .:é日", min_size=4, max_size=12), min_size=3, max_size=6), st.integers(262, 320))
def test_seams_between_pieces_change_no_token(pieces: list[tuple[str, bool]], corpus: list[str], size: int) -> None:
    """Ids are those of the joined text; a token is supervised where it ends in a supervised piece, by its bytes."""
    tokenizer = learnt(corpus, size)
    text = "".join(piece for piece, _ in pieces)
    made = encode(tokenizer, pieces, IMAGE, [])
    assert made.ids == tuple(tokenizer(text).input_ids)
    marks = [wanted for piece, wanted in pieces for _ in piece]
    at = 0
    for token, wanted in zip(made.ids, made.supervised, strict=True):
        at += len(tokenizer.backend_tokenizer.id_to_token(token))
        ended = len(text.encode()[:at].decode(errors="ignore"))
        whole = text.encode()[:at].decode(errors="replace").endswith("\ufffd")
        assert wanted == marks[min(ended + whole, len(marks)) - 1]


@law(60)
@given(PIECES, PIECES, st.integers(1, 5))
def test_an_image_parts_a_text_in_two_and_has_its_places_between(
    before: list[tuple[str, bool]], after: list[tuple[str, bool]], places: int
) -> None:
    tokenizer = learnt(["ab a: b.", "é日 ab"], 280)
    whole = encode(tokenizer, [*before, (IMAGE, False), *after], IMAGE, [99] * places)
    first, second = (encode(tokenizer, some, IMAGE, []) for some in (before, after))
    assert whole.ids == first.ids + (99,) * places + second.ids
    assert whole.supervised == first.supervised + (False,) * places + second.supervised


def test_pieces_tokenized_one_by_one_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(tokenizer: Any, pieces: list[tuple[str, bool]], image: str, ids: Sequence[int]) -> Tokens:
        parts = [(token, wanted) for text, wanted in pieces for token in tokenizer(text).input_ids]
        return Tokens(tuple(token for token, _ in parts), tuple(wanted for _, wanted in parts))

    monkeypatch.setitem(globals(), "encode", wrong)
    caught(test_seams_between_pieces_change_no_token)


def test_a_token_that_belongs_to_where_it_begins_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: the blank's owner decides, which is another in every tokenizer."""
    real = encode

    def wrong(tokenizer: Any, pieces: list[tuple[str, bool]], image: str, ids: Sequence[int]) -> Tokens:
        text = "".join(piece for piece, _ in pieces)
        marks = [wanted for piece, wanted in pieces for _ in piece.encode()] or [False]
        made, at, found = real(tokenizer, pieces, image, ids), 0, list[bool]()
        for token in made.ids:
            found.append(marks[min(at, len(marks) - 1)])
            at += len(tokenizer.backend_tokenizer.id_to_token(token))
        assume(text)
        return Tokens(made.ids, tuple(found))

    monkeypatch.setitem(globals(), "encode", wrong)
    caught(test_seams_between_pieces_change_no_token)
