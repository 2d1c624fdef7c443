"""GT-DPO: the ground truth against the model's own response."""

from scripted import EXAMPLES, Scripted

from harness.types import Dropped, Pair
from methods.dpo import Dpo


def test_a_response_that_equals_the_ground_truth_is_dropped() -> None:
    first, *_ = Dpo().build(EXAMPLES, Scripted(says=lambda prompt, **how: "A red cup."))
    assert first == Dropped("one", "own response equals the ground truth")


def test_the_ground_truth_is_preferred_to_the_own_response() -> None:
    first, *_ = Dpo().build(EXAMPLES, Scripted())
    assert isinstance(first, Pair)
    assert (first.chosen, first.rejected) == ("A red cup.", "A blue cat.")


def test_the_own_response_is_greedy_unless_asked_otherwise() -> None:
    heats: list[float] = []
    spy = Scripted(says=lambda prompt, **how: heats.append(how["temperature"]) or "A cat.")
    list(Dpo().build(EXAMPLES, spy))
    list(Dpo(rejected="sampled").build(EXAMPLES, spy))
    assert heats == [0.0] * 3 + [0.8] * 3
