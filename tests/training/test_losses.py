"""Losses against the paper's equations, checked by hand or by differences in float64."""

import math

import pytest
import torch

from harness.contracts.family import Layout
from harness.contracts.records import Image
from harness.models.load import load
from harness.models.logps import LogProbs, Policy
from harness.models.tree import Branch, Tree, pack
from harness.training import losses

BETA = 0.1


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def test_sft_is_minus_the_log_prob() -> None:
    assert losses.sft(torch.tensor([-1.5, -0.25])).tolist() == [1.5, 0.25]


def test_dpo_by_hand() -> None:
    """p = (-1 - -2) - (-4 - -3) = 2, loss = log(1 + exp(-0.1 * 2)) = 0.5981388693815918, rewards 0.1 and -0.1."""
    values, chosen, rejected = losses.dpo(*(torch.tensor([v]) for v in (-1.0, -4.0, -2.0, -3.0)), BETA)
    assert values.item() == pytest.approx(math.log1p(math.exp(-0.2)), abs=1e-6)
    assert (chosen.item(), rejected.item()) == pytest.approx((0.1, -0.1))


def test_dpo_at_initialisation_is_log_2() -> None:
    chosen, rejected = torch.tensor([-3.0, -90.0]), torch.tensor([-7.0, -1.0])
    values, *_ = losses.dpo(chosen, rejected, chosen, rejected, BETA)
    assert values.tolist() == pytest.approx([math.log(2)] * 2, abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_dpo_gradient_coefficient(smoothing: float) -> None:
    """d L / d chosen = -beta (sigma(-beta p) - smoothing), and the opposite for rejected."""
    chosen, rejected = numbers(-3.0, -5.0, -1.0), numbers(-4.0, -2.0, -9.0)
    ref_chosen, ref_rejected = numbers(-3.5, -4.0, -3.0).detach(), numbers(-3.0, -6.0, -2.0).detach()
    losses.dpo(chosen, rejected, ref_chosen, ref_rejected, BETA, smoothing)[0].sum().backward()
    p = (chosen - ref_chosen - rejected + ref_rejected).detach()
    expected = BETA * (torch.sigmoid(-BETA * p) - smoothing)
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert torch.allclose(chosen.grad, -expected, atol=1e-15)
    assert torch.allclose(rejected.grad, expected, atol=1e-15)


def test_dpo_is_antisymmetric_up_to_its_logit() -> None:
    """L(p) - L(-p) = -beta p."""
    zero, p = torch.zeros(5), torch.linspace(-30, 30, 5)
    forth, *_ = losses.dpo(p, zero, zero, zero, BETA)
    back, *_ = losses.dpo(zero, p, zero, zero, BETA)
    assert torch.allclose(forth - back, -BETA * p, atol=1e-5)


@pytest.fixture
def model_gradients(folder: str, double: None, pictures: list[Image]):  # type: ignore[no-untyped-def]
    """Gradients in the weights of a loss over the answers of one pair, by how the loss uses their log-probs.

    The first `skipped` tokens of each answer are not supervised.
    """
    loaded = load(folder, "float64")

    def run(answers: list[tuple[int, ...]], loss, skipped: int = 0):  # type: ignore[no-untyped-def]
        branches = tuple(Branch(ids, (False,) * skipped + (True,) * (len(ids) - skipped)) for ids in answers)
        batch = pack([Tree("pair", pictures[0], (7, 4, 4, 4, 4, 8), branches, layout=Layout(4))], loaded)
        loaded.model.zero_grad()
        logps = LogProbs(Policy(loaded.model)(batch), None, batch.branch, batch.branch_tree)
        sums = logps.sequence(logps.policy)
        loss(sums).backward()
        return sums.detach(), {n: p.grad.clone() for n, p in loaded.model.named_parameters() if p.grad is not None}

    return run


def test_the_dpo_gradient_is_two_sft_gradients(model_gradients) -> None:  # type: ignore[no-untyped-def]
    """The corrected Eq. 9: grad L_d = beta sigma(-beta p) [grad L_sft(chosen) - grad L_sft(rejected)]."""
    pair = [(9, 10, 11), (12, 13)]
    ref = torch.tensor([-11.0, -14.0], dtype=torch.float64)
    sums, dpo = model_gradients(pair, lambda s: losses.dpo(s[:1], s[1:], ref[:1], ref[1:], BETA)[0].sum())
    _, sft_chosen = model_gradients(pair, lambda s: losses.sft(s[0]))
    _, sft_rejected = model_gradients(pair, lambda s: losses.sft(s[1]))
    p = (sums[0] - ref[0]) - (sums[1] - ref[1])
    coefficient = BETA * torch.sigmoid(-BETA * p)
    for name, gradient in dpo.items():
        expected = coefficient * (sft_chosen[name] - sft_rejected[name])
        assert (gradient - expected).abs().max() <= 1e-10 * max(1.0, float(expected.abs().max())), name


def test_an_identical_pair_teaches_nothing(model_gradients) -> None:  # type: ignore[no-untyped-def]
    zero = torch.zeros(1, dtype=torch.float64)
    _, found = model_gradients([(9, 10)] * 2, lambda s: losses.dpo(s[:1], s[1:], zero, zero, BETA)[0].sum())
    assert max(float(gradient.abs().max()) for gradient in found.values()) < 1e-15


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest distance of two gradients, relative to the largest of the first."""
    scale = max(float(gradient.abs().max()) for gradient in one.values())
    return max(float((one[name] - other[name]).abs().max()) for name in one) / scale


def test_what_both_responses_begin_with_teaches_nothing(model_gradients) -> None:  # type: ignore[no-untyped-def]
    """Sums: the gradient is that of the rest alone. The mutant that takes means would learn from the beginning."""
    zero = torch.zeros(1, dtype=torch.float64)
    pair, lengths = [(9, 10, 11, 12), (9, 10, 13, 14, 15)], torch.tensor([4, 5])

    def summed(s: torch.Tensor) -> torch.Tensor:
        return losses.dpo(s[:1], s[1:], zero, zero, BETA)[0].sum()

    def meant(s: torch.Tensor) -> torch.Tensor:
        return summed(s / lengths)

    assert apart(model_gradients(pair, summed)[1], model_gradients(pair, summed, skipped=2)[1]) < 1e-10
    assert apart(model_gradients(pair, meant)[1], model_gradients(pair, meant, skipped=2)[1]) > 1e-2
