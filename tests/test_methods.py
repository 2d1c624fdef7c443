"""Every file in methods/ keeps the method's promises; a new file is tested by being there."""

import dataclasses
import json

import pytest
import torch

from harness import plugins
from harness.judge import Ask
from harness.logps import LogProbs
from harness.method import Method, Role
from harness.types import Conversation, Dropped, Example, Image, Pair, Prompt, Response, Turn, Unscored
from methods.nsft import Nsft, corrected_reading, parse, read_codebook

METHODS = plugins.names("methods")
PICTURE = Image("a.png", "0" * 64)
EXAMPLES = [
    Example("one", "llava150k", PICTURE, (Turn("Please describe this image in detail.", "A red cup."),)),
    Example("two", "llava150k", PICTURE, (Turn("What is there?", "Two dogs."), Turn("Where?", "In a park."))),
    Example("three", "ocrvqa", PICTURE, (Turn("Who wrote this book?", "Baker"),)),
]
TURNS = [{"question": "Is there a cat?", "answer": "No, there is no cat."}]


class Scripted:
    """A round whose model always says the same, and whose writer answers with `reply`."""

    number, seed, name = 0, 0, "scripted"

    def __init__(self, says: str = "A blue cat.", reply: str | Unscored = "") -> None:
        self.says = says
        self.answer = reply or json.dumps({"errors": [], "turns": TURNS})
        self.asked: list[Ask] = []

    @property
    def writer(self) -> "Scripted":
        return self

    def reply(self, ask: Ask) -> str | Unscored:
        self.asked.append(ask)
        return self.answer

    def respond(self, prompts: list[Prompt], temperature: float = 0.0) -> list[Response]:
        return [Response(prompt.id, self.says, 3) for prompt in prompts]


def made(name: str) -> Method:
    return plugins.make("methods", name, Method, {})


@pytest.mark.parametrize("name", METHODS)
def test_a_method_builds_one_record_per_example_in_order(name: str) -> None:
    records = list(made(name).build(EXAMPLES, Scripted()))
    assert [record.id for record in records] == [example.id for example in EXAMPLES]
    assert all(isinstance(record, Conversation | Pair | Dropped) for record in records)


@pytest.mark.parametrize("name", METHODS)
def test_a_loss_is_finite_has_one_value_per_unit_and_a_gradient(name: str) -> None:
    method = made(name)
    policy = torch.tensor([-1.0, -2.0, -0.5, -3.0], requires_grad=True)
    reference = policy.detach() - 0.1 if Role.REFERENCE in method.roles else None
    loss = method.loss(LogProbs(policy, reference, torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0])))
    assert len(loss.values) == (4 if method.unit == "token" else 1)
    loss.values.sum().backward()
    assert torch.isfinite(loss.values).all() and policy.grad is not None and policy.grad.abs().sum() > 0
    assert not any(metric.requires_grad for metric in loss.metrics.values())


@pytest.mark.parametrize("name", METHODS)
def test_every_option_says_what_it_is_and_where_its_default_comes_from(name: str) -> None:
    for option in dataclasses.fields(made(name)):
        assert option.metadata.get("help") and option.metadata.get("source"), f"{name}.{option.name}"


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_its_label_and_explains_itself(name: str) -> None:
    assert made(name).label
    assert (plugins.module("methods", name).__doc__ or "").strip()


def test_dpo_drops_a_response_that_equals_the_ground_truth() -> None:
    first, *_ = made("dpo").build(EXAMPLES, Scripted(says="A red cup."))
    assert first == Dropped("one", "own response equals the ground truth")


def test_dpo_prefers_the_ground_truth_to_the_own_response() -> None:
    first, *_ = made("dpo").build(EXAMPLES, Scripted())
    assert isinstance(first, Pair)
    assert (first.chosen, first.rejected) == ("A red cup.", "A blue cat.")


def test_nsft_appends_the_writers_turns_to_the_ground_truth() -> None:
    first, *_ = made("nsft").build(EXAMPLES, Scripted())
    assert isinstance(first, Conversation)
    assert first.branches == ((*EXAMPLES[0].turns, Turn("Is there a cat?", "No, there is no cat.")),)


def test_nsft_shows_the_writer_truth_response_and_codebook() -> None:
    round = Scripted()
    list(made("nsft").build(EXAMPLES, round))
    prompt = round.asked[0].prompt
    assert all(piece in prompt for piece in ("A red cup.", "A blue cat.", "existence"))


def test_nsft_drops_an_example_its_writer_fails_on() -> None:
    first, *_ = made("nsft").build(EXAMPLES, Scripted(reply=Unscored("one", "no such image")))
    assert first == Dropped("one", "writer: no such image")


@pytest.mark.parametrize(
    "reply", ["", "no JSON", "{}", '{"turns": 3}', '{"turns": [{"question": "Is it?"}]}', '{"turns": []}']
)
def test_nsft_makes_no_turn_up_from_a_malformed_reply(reply: str) -> None:
    assert isinstance(parse("x", reply, 5), Unscored)


def test_nsft_reads_json_inside_prose_and_keeps_at_most_max_turns() -> None:
    reply = f"Here you are: {json.dumps({'turns': TURNS * 9})} Good luck!"
    assert len(parse("x", reply, 2)) == 2  # type: ignore[arg-type]


def test_nsft_needs_no_writer_to_correct_a_misread_cover() -> None:
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
