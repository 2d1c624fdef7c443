"""GT-DPO: the ground truth against the model's own response."""

import pytest
import torch
from scripted import EXAMPLES, PICTURE, Scripted

from harness.contracts.records import Dropped, Example, Pair, Turn
from harness.models.logps import LogProbs
from harness.system.errors import UsageError
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


TURNS = (Turn("Who?", "A man."), Turn("Where?", "In a park."))
PREFERENCE = Example("p", "local", PICTURE, TURNS, rejected="In a house.")


def test_the_datas_own_rejected_answers_are_read_where_asked_for() -> None:
    """Both answers are to the last question; nothing is generated."""
    spy = Scripted()
    assert list(Dpo(rejected="data").build([PREFERENCE], spy)) == [
        Pair("p", PICTURE, "Where?", "In a park.", "In a house.", (Turn("Who?", "A man."),))
    ]
    assert not spy.prompts


def test_an_example_without_a_rejected_answer_is_dropped_by_name() -> None:
    assert list(Dpo(rejected="data").build(EXAMPLES[:1], Scripted())) == [
        Dropped("one", "the data have no rejected answer")
    ]


def test_the_papers_row_prefers_to_own_responses_and_says_so() -> None:
    [pair] = Dpo().build([PREFERENCE], Scripted())
    assert isinstance(pair, Pair)
    assert pair.rejected == "A blue cat."
    assert "dpo:rejected=data reads them" in Dpo().preferences
    assert Dpo().title == "GT-DPO" != Dpo(rejected="data").title


def learnt(method: Dpo) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of two pairs, and its gradient at each side's sum of log-probs, (pairs, sides)."""
    policy = torch.tensor([-3.0, -4.0, -2.0, -9.0], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([-3.5, -3.0, -4.0, -6.0], dtype=torch.float64)
    owner, tree = torch.arange(4), torch.tensor([0, 0, 1, 1])
    values = method.loss(LogProbs(policy, reference, owner, tree, {"policy": policy})).values
    values.sum().backward()
    assert policy.grad is not None
    return values.detach(), policy.grad.view(2, 2)


@pytest.mark.parametrize("share", [0.0, 0.5, 2.0])
def test_the_rejected_sides_gradient_is_scaled_and_nothing_else(share: float) -> None:
    """Nor the loss: scaling the log-prob in place of its gradient would change it, and what the chosen side learns."""
    value, gradient = learnt(Dpo(rejected_gradient=share))
    usual, whole = learnt(Dpo())
    assert torch.allclose(value, usual, atol=1e-12, rtol=0)
    assert torch.allclose(gradient, whole * torch.tensor([1.0, share]), atol=1e-12, rtol=0)
    assert torch.allclose(whole[:, 0], -whole[:, 1]) and (whole[:, 0] < 0).all()


def test_a_gradient_turned_around_is_refused() -> None:
    with pytest.raises(UsageError, match=r"rejected_gradient=-1\.0 teaches rejected answers"):
        Dpo(rejected_gradient=-1.0)
