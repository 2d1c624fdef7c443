"""Any text survives the tokenizer, and the template's marks fall on the answers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.contracts.family import Layout
from harness.contracts.records import Turn
from harness.contracts.wordings import SHORT_ANSWER
from harness.families.llava import Llava
from harness.mini.language import DETAIL, detail
from harness.mini.tokenizer import make_tokenizer
from harness.mini.world import scene

LLAVA = Llava()

TOKENIZER = make_tokenizer()
END = TOKENIZER.eos_token


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives(text):
    ids = TOKENIZER(text, add_special_tokens=False).input_ids
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == text


def test_words_of_the_world_are_single_tokens():
    caption = " " + detail(scene("test/0/0"))
    tokens = TOKENIZER.tokenize(caption)
    assert len(tokens) == len(caption.replace(".", " .").replace(",", " ,").split())
    assert len(TOKENIZER) < 700


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.text("ab éC.\n", max_size=9), st.text("xyé D.", min_size=1, max_size=9)), min_size=1))
def test_only_answers_and_their_ends_are_supervised(pairs):
    turns = [Turn(question, answer) for question, answer in pairs]
    tokens = LLAVA.encode(TOKENIZER, LLAVA.segments(turns, True, END), Layout(16))
    marked = [token for token, mark in zip(tokens.ids, tokens.supervised, strict=True) if mark]
    assert TOKENIZER.decode(marked) == "".join(f" {turn.answer}{END}" for turn in turns)
    assert tokens.ids[0] == TOKENIZER.bos_token_id and not tokens.supervised[0]


def test_the_prompt_is_short_and_the_image_takes_sixteen_positions():
    tokens = LLAVA.encode(
        TOKENIZER, LLAVA.segments([Turn("Is there a dog in the image?" + SHORT_ANSWER, "Yes")], True, END), Layout(16)
    )
    assert tokens.ids[3:19] == (TOKENIZER.convert_tokens_to_ids("<image>"),) * 16
    assert len(tokens.ids) == 32
    assert sum(tokens.supervised) == 2


@pytest.mark.parametrize("text", [DETAIL, SHORT_ANSWER])
def test_constants_are_one_token(text):
    assert len(TOKENIZER(text, add_special_tokens=False).input_ids) == 1
