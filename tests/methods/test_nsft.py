"""nSFT: corrective turns from the model's own errors, in every layout, and the control beside it."""

import json
import random
from collections import Counter

import pytest
from scripted import EXAMPLES, TURNS, Scripted, written

from harness.contracts import plugins
from harness.contracts.judge import Ask
from harness.contracts.records import Conversation, Dropped, Example, Response, Turn, Unscored, VisionError
from harness.sources._chosen import source as chosen
from methods.nsft import Nsft, balanced, corrected_reading, parse, random_reading, read_codebook
from tests.seams.found import outside

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
    with pytest.raises(ValueError, match=r"it holds no|it has no turns|no list of objects|no text"):
        parse(reply, 5, {})


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ('{"turns": [{"question": "Is it?", "answer": null}]}', 'a "answer" is null, no text'),
        ('{"turns": [{"question": null, "answer": "No."}]}', 'a "question" is null, no text'),
        ('{"turns": [{"question": "Is it?"}]}', 'a "answer" is missing, no text'),
        ('{"turns": [{"question": "Is it?", "answer": true}]}', 'a "answer" is true or false, no text'),
        ('{"turns": [{"question": ["Is it?"], "answer": "No."}]}', 'a "question" is a list, no text'),
        ('{"turns": [{"question": "Is it?", "answer": {"text": "No."}}]}', 'a "answer" is an object, no text'),
        ('{"turns": [null]}', '"turns" are no list of objects'),
        ('{"turns": {"question": "Is it?", "answer": "No."}}', '"turns" are no list of objects'),
        ('{"turns": [], "turns": [{"question": "Is it?", "answer": "No."}]}', "twice in one object"),
        ('{"turns": [{"question": "How many?", "answer": NaN}]}', "NaN is no number"),
        ('{"turns": ' + "[" * 2000 + "]" * 2000 + "}", "nests its brackets too deeply"),
        ('{"errors": null, "turns": [{"question": "Is it?", "answer": "No."}]}', '"errors" are no list'),
        ('{"errors": [{"type": null}], "turns": [{"question": "Is it?", "answer": "No."}]}', 'a "type" is null'),
        ('} nothing {', "it holds no JSON object"),
    ],
)  # fmt: skip
def test_what_is_no_text_drops_the_example_with_its_reason(reply: str, reason: str) -> None:
    """In no record is a null the word None."""
    first, *_ = Nsft(codebook="none").build(EXAMPLES, Scripted(replies=lambda ask: reply))
    assert isinstance(first, Dropped) and first.reason.startswith("writer: the reply is not the JSON asked for: ")
    assert reason in first.reason and "\n" not in first.reason


def test_with_str_for_a_reading_a_null_would_be_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("methods.nsft.text_in", lambda row, name: str(row[name]))
    made = parse('{"turns": [{"question": "Is it?", "answer": null}]}', 5, {})
    assert made.turns[0].answer == "None"


def test_numbers_are_their_digits_and_none_is_a_word() -> None:
    turns = [{"question": "How many?", "answer": 3}, {"question": "Which share?", "answer": 0.5}]
    turns += [{"question": "Who?", "answer": " None "}]
    errors = [{"type": "count", "level": None, "evidence": None}]
    made = parse(json.dumps({"errors": errors, "turns": turns}), 5, {})
    assert [turn.answer for turn in made.turns] == ["3", "0.5", "None"]
    assert made.errors == (VisionError("", "count", ""),)


def test_reads_json_inside_prose_and_keeps_at_most_max_turns() -> None:
    reply = f"Here you are: {json.dumps({'turns': TURNS * 9})} Good luck!"
    assert len(parse(reply, 2, {}).turns) == 2


BOOK = {"instance": {"existence": "..."}, "image": {"event": "..."}}


@pytest.mark.parametrize(
    ("level", "type", "kept"),
    [
        ("instance", "existence", [("instance", "existence")]),
        ("image", "Existence", [("instance", "existence")]),  # the book says at which level a type is
        ("instance", "smell", []),  # and which types there are
    ],
)
def test_a_record_keeps_the_errors_that_the_codebook_has(level: str, type: str, kept: list[tuple[str, str]]) -> None:
    found = [{"level": level, "type": type, "evidence": "a cat"}]
    made = parse(json.dumps({"errors": found, "turns": TURNS}), 5, BOOK)
    assert [(error.level, error.type) for error in made.errors] == kept
    assert len(made.turns) == 1


def test_without_a_codebook_the_writer_names_errors_as_it_likes() -> None:
    found = [{"level": "scene", "type": "smell", "evidence": "a rose"}]
    made = parse(json.dumps({"errors": found, "turns": TURNS}), 5, {})
    assert made.errors == (VisionError("scene", "smell", "a rose"),)


def test_the_errors_go_into_the_record() -> None:
    reply = json.dumps({"errors": [{"level": "instance", "type": "colour", "evidence": "blue"}], "turns": TURNS})
    first, *_ = Nsft().build(EXAMPLES, Scripted(replies=lambda ask: reply))
    assert isinstance(first, Conversation) and first.errors == (VisionError("instance", "colour", "blue"),)


def test_a_writer_that_only_denies_is_evened_out() -> None:
    """Twenty examples with two turns each, all answered no; then one that says yes, which lets one more no in."""
    kind = ["No, there is none."] * 40 + ["Yes, there is."] + ["Red."] + ["No."] * 2
    turns = [Turn(f"{n}?", answer) for n, answer in enumerate(kind)]
    answered: Counter[str] = Counter()
    kept = [turn for at in range(0, len(turns), 2) for turn in balanced(turns[at : at + 2], answered)]
    assert [turn.answer for turn in kept] == ["No, there is none."] * 5 + ["Yes, there is.", "Red.", "No."]


def test_the_balance_holds_over_all_examples_of_a_build() -> None:
    many = [Example(f"{n}", "llava150k", EXAMPLES[0].image, EXAMPLES[0].turns) for n in range(30)]
    made = [record for record in Nsft().build(many, Scripted()) if isinstance(record, Conversation)]
    said = [turn for record in made for turn in record.branches[0][1:]]
    assert len(made) == 30 and len(said) == 5


def test_a_yes_no_question_about_a_cover_is_not_corrected() -> None:
    example = Example("b", "ocrvqa", None, (Turn("Is this a cookbook?", "Yes"), Turn("Who wrote it?", "Baker")))
    turns = corrected_reading(example, [Response("b#0", "No", 1), Response("b#1", "Miller", 1)])
    assert [turn.question.splitlines()[0] for turn in turns] == ["Is this a Baker?", "Is this a Miller?"]


def test_needs_no_writer_to_correct_a_misread_cover() -> None:
    example = EXAMPLES[2]
    turns = corrected_reading(example, [Response("three#0", "Miller", 1)])
    assert [(turn.question.splitlines()[0], turn.answer) for turn in turns] == [
        ("Is this a Baker?", "Yes"),
        ("Is this a Miller?", "No"),
    ]


@pytest.mark.parametrize(("source", "short"), [("squares", True), ("ocrvqa", True), ("textcaps", False)])
def test_a_source_says_that_its_answers_are_short(source: str, short: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of a user's own too; then no writer is asked."""
    monkeypatch.setattr(plugins, "_adopted", {})
    chosen(next(file for file in outside("source") if file.endswith("squares.py")))
    round = Scripted(says=lambda prompt, **how: "blue")
    [made] = Nsft().build([Example("s", source, None, (Turn("What colour is it?", "red"),))], round)
    assert isinstance(made, Conversation) and bool(round.asked) != short
    assert made.branches[0][1].question.startswith("Is this a red?") == short


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
