"""Records to trees to tensors: what is supervised, what is shared, what is refused."""

import pytest

from harness.contracts.family import Layout
from harness.contracts.records import Conversation, Image, Pair, Turn
from harness.families.llava import Llava
from harness.models.load import Loaded
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
