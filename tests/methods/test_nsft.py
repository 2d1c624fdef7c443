"""nSFT: corrective turns from the model's own errors, in every layout, and the control beside it."""

import json
import random

import pytest
from scripted import EXAMPLES, TURNS, Scripted, written

from harness.judge import Ask
from harness.types import Conversation, Dropped, Example, Response, Turn, Unscored
from methods.nsft import Nsft, corrected_reading, parse, random_reading, read_codebook

CORRECTIVE = (Turn("Is there a cat?", "No, there is no cat."),)


def test_appends_the_writers_turns_to_the_ground_truth() -> None:
    first, *_ = Nsft().build(EXAMPLES, Scripted())
    assert isinstance(first, Conversation)
    assert first.branches == ((*EXAMPLES[0].turns, Turn("Is there a cat?", "No, there is no cat.")),)


def test_shows_the_writer_truth_response_and_codebook() -> None:
    round = Scripted()
    list(Nsft().build(EXAMPLES, round))
    prompt = round.asked[0].prompt
    assert all(piece in prompt for piece in ("A red cup.", "A blue cat.", "existence"))


def test_drops_an_example_its_writer_fails_on() -> None:
    first, *_ = Nsft().build(EXAMPLES, Scripted(replies=lambda ask: Unscored("one", "no such image")))
    assert first == Dropped("one", "writer: no such image")


@pytest.mark.parametrize(
    "reply", ["", "no JSON", "{}", '{"turns": 3}', '{"turns": [{"question": "Is it?"}]}', '{"turns": []}']
)
def test_makes_no_turn_up_from_a_malformed_reply(reply: str) -> None:
    assert isinstance(parse("x", reply, 5), Unscored)


def test_reads_json_inside_prose_and_keeps_at_most_max_turns() -> None:
    reply = f"Here you are: {json.dumps({'turns': TURNS * 9})} Good luck!"
    assert len(parse("x", reply, 2)) == 2  # type: ignore[arg-type]


def test_needs_no_writer_to_correct_a_misread_cover() -> None:
    example = EXAMPLES[2]
    turns = corrected_reading(example, [Response("three#0", "Miller", 1)])
    assert [(turn.question.splitlines()[0], turn.answer) for turn in turns] == [
        ("Is this a Baker?", "Yes"),
        ("Is this a Miller?", "No"),
    ]


@pytest.mark.parametrize("said", ["baker", "Baker.", "by Baker", ""])
def test_a_right_or_partly_right_reading_is_not_denied(said: str) -> None:
    assert corrected_reading(EXAMPLES[2], [Response("three#0", said, 1)]) == []


def test_the_codebook_holds_the_papers_eight_labels() -> None:
    labels = {label for level in read_codebook(Nsft().codebook).values() for label in level}
    assert {"colour", "shape", "existence", "count", "location", "event", "action", "reasoning"} <= labels


def branches(method: Nsft, round: Scripted | None = None) -> tuple[tuple[Turn, ...], ...]:
    first, *_ = method.build(EXAMPLES, round or Scripted())
    assert isinstance(first, Conversation)
    return first.branches


def test_separate_turns_are_a_branch_of_their_own() -> None:
    assert branches(Nsft(layout="separate")) == (EXAMPLES[0].turns, CORRECTIVE)


def test_without_chosen_only_the_corrections_are_learnt() -> None:
    assert branches(Nsft(keep_chosen=False)) == (CORRECTIVE,)


def test_without_chosen_an_example_without_corrections_is_dropped() -> None:
    said = Scripted(says=lambda prompt, **how: "Baker")
    assert list(Nsft(keep_chosen=False).build(EXAMPLES, said))[2] == Dropped(
        "three", "nothing to correct, and the ground truth is left out"
    )


def test_without_a_codebook_the_writer_sees_none() -> None:
    round = Scripted()
    branches(Nsft(codebook="none"), round)
    assert "codebook" not in round.asked[0].prompt.lower()
    assert Nsft(codebook="none").sources == ()


def test_the_control_has_as_many_turns_and_never_shows_the_response() -> None:
    def replies(ask: Ask) -> str:
        if ask.purpose == "nsft":
            return written(TURNS * 3)
        assert (ask.facts["turns"], "blue cat" in ask.prompt) == ("3", False)
        return written([{"question": f"Is it {n}?", "answer": "Yes"} for n in range(9)])

    assert branches(Nsft(turns="random"), Scripted(replies=replies))[0][1:] == tuple(
        Turn(f"Is it {n}?", "Yes") for n in range(3)
    )


def test_the_control_for_covers_asks_about_truths_of_this_and_another_book() -> None:
    books = [Example(f"{n}", "ocrvqa", None, (Turn("Who wrote this book?", name),)) for n, name in enumerate("ABC")]
    turns = random_reading(books[0], 1, books, random.Random(0))
    assert (turns[0].question[:9], turns[0].answer) == ("Is this a", "Yes")
    assert turns[1].answer == "No"
    assert turns[1].question.splitlines()[0] in ("Is this a B?", "Is this a C?")


def test_a_divergence_is_asked_for_and_added_to_the_loss() -> None:
    assert Nsft(kl="reverse").lesson(0).columns == ("policy", "kl_reverse")
    assert Nsft().lesson(0).columns == ("policy",)
