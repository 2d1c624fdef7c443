"""nSFT with an LLM as its writer: every question is paid once, and an example without a reply is left out."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake import llm, refusal, serving

from harness.contracts.judge import Writer, answered
from harness.contracts.method import Method
from harness.contracts.records import Conversation, Dropped, Example, Record, Response, Turn
from methods.nsft import Nsft

EXAMPLES = [Example(f"e{n}", "llava150k", None, (Turn("What is there?", f"{n} red cups."),)) for n in range(12)]


class Told:
    """A round whose policy always sees a cat."""

    number = seed = 0

    def __init__(self, writer: Writer) -> None:
        self.writer = writer

    def respond(self, prompts: Any, **how: Any) -> list[Response]:
        return [Response(prompt.id, "A blue cat.", 4) for prompt in prompts]


def build(method: Method, writer: Writer) -> list[Record | Dropped]:
    def work(asked: Writer) -> list[Record | Dropped]:
        return list(method.build(EXAMPLES, Told(asked)))  # type: ignore[arg-type]

    return answered(writer, work)


def writes(body: dict[str, Any], times: int) -> Any:
    """Two turns about each ground truth, but for 3 red cups a refusal and for 5 no JSON."""
    text = body["messages"][0]["content"]
    found = re.search(r"(\d+) red cups", text)
    number = found[1] if found else ""
    if number == "3":
        return refusal(400, "content_filter")
    if number == "5":
        return "I would rather not."
    errors = [{"level": "instance", "type": "existence", "evidence": "cat"}]
    turns = [{"question": f"Are there {number} cups?", "answer": "Yes."}, {"question": "A cat?", "answer": "No."}]
    return json.dumps({"errors": errors, "turns": turns})


@pytest.mark.parametrize(("turns", "calls"), [("corrective", 13), ("random", 23)])
def test_a_second_build_pays_nothing_and_gives_the_same(tmp_path: Path, turns: Any, calls: int) -> None:
    """The control asks once more for each example that got turns; no JSON is asked for twice, a failure each time."""
    with serving(writes) as server:
        first = build(Nsft(turns=turns), llm(tmp_path))
        assert sum(server.asked.values()) == calls
        assert build(Nsft(turns=turns), llm(tmp_path))[:3] == first[:3]
        assert sum(server.asked.values()) == calls + 2  # a refusal is no reply, and no JSON twice is none


def test_an_example_without_a_usable_reply_is_left_out_with_its_reason(tmp_path: Path) -> None:
    with serving(writes):
        made = build(Nsft(), llm(tmp_path))
    dropped = {record.id: record.reason for record in made if isinstance(record, Dropped)}
    assert dropped.keys() == {"e3", "e5"}
    assert "content_filter" in dropped["e3"]
    assert dropped["e5"] == "writer: the reply is not the JSON asked for: it holds no JSON object"
    assert all(record.errors for record in made if isinstance(record, Conversation))


def test_another_codebook_is_another_question(tmp_path: Path) -> None:
    book = tmp_path / "my.yaml"
    book.write_text("image: {smell: what it smells of}")
    with serving(writes) as server:
        build(Nsft(), llm(tmp_path))
        before = sum(server.asked.values())
        [first, *_] = build(replace(Nsft(), codebook=str(book)), llm(tmp_path))
        assert sum(server.asked.values()) == before + 13
    assert isinstance(first, Conversation) and first.errors == ()  # this writer knows "existence" only
