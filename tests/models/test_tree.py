"""Records to trees to tensors: what is supervised, what is shared, what is refused."""

import pytest
import torch

from harness.contracts.family import Layout
from harness.contracts.records import Beside, Conversation, Cropped, Image, Pair, Turn
from harness.families.llava import Llava
from harness.models.load import Loaded
from harness.models.noise import diffuse
from harness.models.tree import Branch, Tree, pack, tree

LLAVA = Llava()


def test_a_conversation_supervises_every_answer_and_its_end_token(loaded: Loaded, pictures: list[Image]) -> None:
    record = Conversation("c", pictures[0], ((Turn("what is a ball", "a red ball"), Turn("is there", "no")),))
    made = tree(record, loaded)
    (branch,) = made.branches
    said = [token for token, wanted in zip(branch.ids, branch.supervised, strict=True) if wanted]
    assert loaded.tokenizer.decode(said) == " a red ball</s> no</s>"
    assert made.prefix.count(loaded.tokenizer.convert_tokens_to_ids("<image>")) == 4
    assert made.supervised == len(said)
    assert made.tokens == len(made.prefix) + len(branch.ids)


def test_prefix_and_branch_are_the_whole_text_tokenized_once(loaded: Loaded, pictures: list[Image]) -> None:
    turns = (Turn("what is on the table", "two balls"), Turn("zebra?", "no, a dog"))
    made = tree(Conversation("c", pictures[0], (turns,)), loaded)
    whole = LLAVA.encode(loaded.tokenizer, LLAVA.segments(turns, True, "</s>"), Layout(4))
    assert made.prefix + made.branches[0].ids == whole.ids
    assert made.branches[0].supervised == whole.supervised[len(made.prefix) :]


def test_a_pair_shares_everything_up_to_the_last_assistant(loaded: Loaded, pictures: list[Image]) -> None:
    record = Pair("p", pictures[0], "what is there", "a dog", "a cat", (Turn("is there a dog", "yes"),))
    made = tree(record, loaded)
    assert loaded.tokenizer.decode(made.prefix).endswith("yes</s>USER: what is there ASSISTANT:")
    assert [loaded.tokenizer.decode(branch.ids) for branch in made.branches] == [" a dog</s>", " a cat</s>"]
    assert all(all(branch.supervised) for branch in made.branches)


def test_branches_of_a_conversation_part_at_the_question(loaded: Loaded) -> None:
    branches = ((Turn("what is a dog", "no"),), (Turn("is there a cat", "yes"),))
    made = tree(Conversation("c", None, branches), loaded)
    assert loaded.tokenizer.decode(made.prefix).endswith(" USER:")
    assert [sum(branch.supervised) for branch in made.branches] == [2, 2]


def test_an_identical_pair_keeps_its_answers_in_the_branches(loaded: Loaded) -> None:
    made = tree(Pair("p", None, "what", "a dog", "a dog"), loaded)
    assert made.branches[0] == made.branches[1]
    assert all(made.branches[0].supervised)


def test_a_text_that_speaks_for_the_assistant_is_refused(loaded: Loaded) -> None:
    """LLaVA's `preprocess_v1` finds three parts where it wants two, and masks all of them."""
    with pytest.raises(ValueError, match="a text contains ASSISTANT:"):
        tree(Conversation("c", None, ((Turn("what", "yes USER: so ASSISTANT: no"),),)), loaded)


@pytest.mark.parametrize("bad", ["<image>", "</s>", "<pad>", "<s>", "<unk>"])
def test_a_reserved_token_in_the_text_is_refused(loaded: Loaded, bad: str) -> None:
    for record in (
        Conversation("c", None, ((Turn(f"what {bad}", "yes"),),)),
        Conversation("c", None, ((Turn("what", f"yes{bad}"),),)),
        Pair("p", None, "what", "yes", f"no {bad} yes"),
        Pair("p", None, "what", "yes", "no", (Turn(bad, "yes"),)),
    ):
        with pytest.raises(ValueError, match="reserved token"):
            tree(record, loaded)


def test_a_record_with_nothing_to_learn_is_refused(loaded: Loaded) -> None:
    with pytest.raises(ValueError, match="no supervised token"):
        tree(Conversation("c", None, ((),)), loaded)


def test_pack_by_hand(loaded: Loaded) -> None:
    """Prefix 7 8, branches 1 2 and 3, then a padded row: every tensor written out."""
    one = Tree("one", None, (7, 8), (Branch((1, 2), (True, True)), Branch((3,), (True,))))
    two = Tree("two", None, (9,), (Branch((4, 5), (False, True)),))
    batch = pack([one, two], loaded)
    assert batch.input_ids.tolist() == [[7, 8, 1, 2, 3], [9, 4, 5, 0, 0]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 2], [0, 1, 2, 0, 0]]
    assert batch.source.tolist() == [1, 2, 1, 6]
    assert batch.labels.tolist() == [1, 2, 3, 5]
    assert batch.branch.tolist() == [0, 0, 1, 2]
    assert batch.branch_tree.tolist() == [0, 0, 1]
    assert batch.attention_mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]
    assert batch.attention_mask[1, 0, 2:].int().tolist() == [[1, 1, 1, 0, 0], [1, 0, 0, 1, 0], [1, 0, 0, 1, 1]]
    assert batch.features is None


BOX = (0.1, 0.2, 0.6, 0.8)
MORE = (Beside("a red ball"), Beside("a dog", BOX), Beside("no", (0.0, 0.0, 0.5, 0.5)), Beside("a ball", BOX))


def test_more_answers_are_branches_and_those_under_a_crop_another_tree(loaded: Loaded, pictures: list[Image]) -> None:
    made = tree(Pair("p", pictures[0], "what is there", "a dog", "a cat", beside=MORE), loaded)
    said = [[loaded.tokenizer.decode(branch.ids) for branch in row.branches] for row in made.rows]
    assert said == [[" a dog</s>", " a cat</s>", " a red ball</s>"], [" a dog</s>", " a ball</s>"], [" no</s>"]]
    assert [row.image for row in made.rows] == [
        pictures[0], *(Cropped(pictures[0].path, pictures[0].sha256, False, box) for box in (BOX, (0.0, 0.0, 0.5, 0.5)))
    ]  # fmt: skip
    assert [row.id for row in made.rows] == ["p", "p/1", "p/2"] and not any(row.more for row in made.more)
    assert all(row.prefix == made.prefix for row in made.rows)  # this family has the same places for every picture
    assert made.tokens == sum(len(row.prefix) + sum(len(b.ids) for b in row.branches) for row in made.rows)
    assert made.supervised == sum(sum(b.supervised) for row in made.rows for b in row.branches)


def test_a_record_s_trees_are_neighbours_in_a_batch_with_an_image_each(loaded: Loaded, pictures: list[Image]) -> None:
    plain = tree(Pair("q", pictures[1], "what is there", "a dog", "a cat"), loaded)
    made = tree(Pair("p", pictures[0], "what is there", "a dog", "a cat", beside=MORE), loaded)
    batch = pack([made, plain], loaded)
    assert batch.ids == ("p", "p/1", "p/2", "q")
    assert batch.branch_tree.tolist() == [0] * 6 + [1] * 2
    assert batch.input_ids.shape[0] == 4 and len(batch.labels) == made.supervised + plain.supervised
    assert batch.features is not None and batch.features.shape[0] == 4 * 4
    whole, crop = batch.features[:4], batch.features[4:8]
    assert not torch.allclose(whole, crop) and torch.equal(crop, loaded.features(made.more[0].image))  # type: ignore[arg-type]


def test_a_crop_of_no_picture_and_a_control_token_in_more_answers_are_refused(loaded: Loaded) -> None:
    with pytest.raises(ValueError, match="a crop and no picture"):
        tree(Pair("p", None, "what", "a dog", "a cat", beside=MORE), loaded)
    with pytest.raises(ValueError, match="reserved token"):
        tree(Pair("p", None, "what", "a dog", "a cat", beside=(Beside("no </s>"),)), loaded)


def test_a_cut_reaches_more_answers_too(loaded: Loaded, pictures: list[Image]) -> None:
    record = Pair("p", pictures[0], "what is there", "a dog", "a cat", beside=(Beside("a red red ball", BOX),))
    whole = tree(record, loaded)
    most = len(whole.prefix) + 3
    made = tree(record, loaded, most)
    assert [len(branch.ids) for row in made.rows for branch in row.branches] == [3, 3, 3]
    assert made.cut == whole.tokens - made.tokens > 0


def test_an_answer_under_noise_sees_the_diffused_pixels(loaded: Loaded, pictures: list[Image]) -> None:
    """Of the step and seed that the record says; another seed is another picture."""
    record = Pair("p", pictures[0], "what", "a dog", "a cat", beside=(Beside("a dog", noise=(500, 7)),))
    [noisy] = tree(record, loaded).more
    assert noisy.image is not None and noisy.layout == tree(record, loaded).layout
    pixels = diffuse(loaded.eyes.pixels(pictures[0]), 500, 7)
    wanted = loaded.family.features(loaded.model, pixels, loaded.eyes.layout(pictures[0]))
    assert torch.equal(loaded.features(noisy.image), wanted)
    assert not torch.allclose(loaded.features(pictures[0]), wanted)
    assert len({Beside("", noise=noise).seen(pictures[0]).key for noise in ((500, 7), (500, 8), (400, 7))}) == 3  # type: ignore[union-attr]


def test_a_crop_under_noise_is_refused(loaded: Loaded, pictures: list[Image]) -> None:
    record = Pair("p", pictures[0], "what", "a dog", "a cat", beside=(Beside("a dog", BOX, (500, 7)),))
    with pytest.raises(ValueError, match="a crop under noise"):
        tree(record, loaded)
