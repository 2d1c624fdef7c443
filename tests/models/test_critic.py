"""The critic's prompt holds what it is to compare, and its verdict is read from the last double bracket only."""

import pytest

from harness.judging import preference as critic


def test_the_prompt_has_everything_in_order_and_ends_where_the_judgement_begins() -> None:
    text = critic.prompt("What is it?", "A red cup.", "A blue cup. ", "A red cup and a book.")
    after = text.removeprefix(critic.INSTRUCTION)
    assert after == (
        "\n### Question: What is it?\n### Ground truth: A red cup.\n### Response 1: A blue cup."
        "\n### Response 2: A red cup and a book.\n### Judgement:"
    )


def test_its_worked_examples_show_both_verdicts() -> None:
    parts = critic.INSTRUCTION.split("\n\n")
    assert [critic.verdict(part) for part in parts if "### Judgement" in part] == [1, 2]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Response 2 names a dog. Better response: [[1]]", 1),
        ("[[2]]", 2),
        ("Not [[1]], since it invents a cup: [[ 2 ]].", 2),
        ("Better response: [[1]] or [[both]]", None),
        ("Better response: 1", None),
        ("[[12]]", None),
        ("[[1]", None),
        ("", None),
    ],
)
def test_only_the_last_bracket_counts(reply: str, expected: int | None) -> None:
    assert critic.verdict(reply) == expected
