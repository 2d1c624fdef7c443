"""What the papers' equations imply, in float64: losses, estimators, schedules and rewards against their theory."""

import itertools
import math
import random
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from harness.contracts.records import Response
from harness.models.logps import LogProbs
from harness.models.noise import diffuse, kept_signal
from harness.training import losses
from methods.csr import Csr, Node, ranked
from methods.sima import Sima

BETA = 0.1
ZERO = torch.zeros(1, dtype=torch.float64)


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def dpo(p: Tensor, beta: float = BETA, smoothing: float = 0.0) -> Tensor:
    """The loss of pairs whose log-ratio difference (Eq. 7) is p."""
    zero = torch.zeros_like(p)
    return losses.dpo(p, zero, zero, zero, beta, smoothing)[0]


# DPO


@pytest.mark.parametrize(("t1", "t2"), [(1.0, 1.0), (2.0, 0.5), (0.7, 0.9), (1e-3, 30.0)])
def test_the_derivatives_in_the_ratios_stand_as_t2_to_t1(t1: float, t2: float) -> None:
    """Eq. 11, the corrected Eq. 12 (the printed one has 1/t1 too many, and the quotient would be t2) and Eq. 13."""
    ratios = numbers(t1, t2).requires_grad_()
    chosen, rejected = ratios.log().split(1)
    losses.dpo(chosen, rejected, ZERO, ZERO, BETA)[0].sum().backward()
    assert ratios.grad is not None
    by_t1, by_t2 = ratios.grad.tolist()
    total = t1**BETA + t2**BETA
    assert by_t1 == pytest.approx(-BETA * t2**BETA / (t1 * total), rel=1e-12)
    assert by_t2 == pytest.approx(BETA * t2 ** (BETA - 1) / total, rel=1e-12)
    assert abs(by_t1 / by_t2) == pytest.approx(t2 / t1, rel=1e-12)


def test_without_beta_there_is_half_of_p() -> None:
    """(L - log 2) / beta -> -p / 2."""
    p = torch.linspace(-9, 9, 7, dtype=torch.float64)
    assert torch.allclose((dpo(p, 1e-6) - math.log(2)) / 1e-6, -p / 2, atol=1e-4)


def test_the_loss_falls_and_is_convex_in_p() -> None:
    values = dpo(torch.linspace(-300, 300, 601, dtype=torch.float64))
    assert (values.diff() < 0).all()
    assert (values.diff().diff() > -1e-14).all()


def test_a_smoothed_loss_is_least_where_the_doubt_is_met() -> None:
    """beta (sigma(-beta p) - smoothing) = 0 at p = log((1 - smoothing) / smoothing) / beta."""
    p = numbers(math.log(0.8 / 0.2) / BETA).requires_grad_()
    (at_least,) = torch.autograd.grad(dpo(p, smoothing=0.2).sum(), p)
    (without,) = torch.autograd.grad(dpo(p).sum(), p)
    assert at_least.item() == pytest.approx(0, abs=1e-15)
    assert without.item() < -0.01


# SIMA


def one_step(term: str, seed: int) -> float:
    """How one gradient step on a pair moves log pi(rejected), where every place of both sides has logits of its own."""
    drawn = torch.Generator().manual_seed(seed)
    logits = torch.randn(9, 12, generator=drawn, dtype=torch.float64).requires_grad_()
    labels = torch.randint(12, (9,), generator=drawn)
    branch, at = torch.tensor([0] * 4 + [1] * 5), torch.arange(9)

    def measured() -> tuple[Tensor, Tensor]:
        logs = logits.log_softmax(-1)
        rivals = logs.scatter(-1, labels[:, None], -torch.inf)
        return logs[at, labels], rivals.amax(-1)

    policy, competitor = measured()
    columns = {"competitor": competitor, "reference/competitor": competitor.detach()}
    method = Sima(rejected_term=term)  # type: ignore[arg-type]
    (value,) = method.loss(LogProbs(policy, policy.detach(), branch, torch.zeros(2), columns)).values
    assert value.item() == pytest.approx(math.log(2))  # the policy is the reference, by whatever is compared
    value.backward()
    with torch.no_grad():
        assert logits.grad is not None
        logits -= 0.1 * logits.grad
        return float((measured()[0] - policy)[branch == 1].sum())


def test_sima_lowers_the_rejected_response_by_its_label_and_raises_it_by_its_competitor() -> None:
    """Always: with p the softmax, the competitor's step moves log p(label) by p(label) + p(competitor) - |p|^2 > 0."""
    assert all(one_step("label", seed) < 0 for seed in range(200))
    assert all(one_step("competitor", seed) > 0 for seed in range(200))


# SeVa


def test_the_noise_schedule_has_the_official_numbers() -> None:
    amplitudes = {step: math.sqrt(kept_signal(step)) for step in (500, 800, 999)}
    assert amplitudes == pytest.approx({500: 0.863, 800: 0.467, 999: 0.285}, abs=5e-4)
    assert kept_signal(500) / (1 - kept_signal(500)) == pytest.approx(2.92, abs=0.005)  # signal to noise
    kept = [kept_signal(step) for step in range(1000)]
    assert all(0 < later < earlier < 1 for earlier, later in itertools.pairwise(kept))


@pytest.mark.parametrize("step", [0, 500, 800])
def test_noise_keeps_the_variance_and_starts_from_nothing(step: int) -> None:
    pixels = torch.randn(3, 128, 128, generator=torch.Generator().manual_seed(1))
    noised = diffuse(pixels, step, seed=0)
    assert noised.std().item() == pytest.approx(1, abs=0.01)
    correlation = torch.corrcoef(torch.stack([pixels.flatten(), noised.flatten()]))[0, 1].item()
    assert correlation == pytest.approx(math.sqrt(kept_signal(step)), abs=0.01)
    assert step or (noised - pixels).abs().max() < 0.05
    assert torch.equal(noised, diffuse(pixels, step, seed=0))
    assert not torch.equal(noised, diffuse(pixels, step, seed=1))


# CSR


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=7, unique=True), st.randoms())
def test_ranks_are_the_places_and_move_with_their_values(values: list[float], rng: random.Random) -> None:
    ranks, count = ranked(values), len(values)
    assert sorted(ranks) == [place / count for place in range(1, count + 1)]
    assert ranks[values.index(max(values))] == 1 / count
    turned = rng.sample(range(count), count)
    assert ranked([values[at] for at in turned]) == [ranks[at] for at in turned]


def siblings(turned: list[int], method: Csr) -> dict[str, float]:
    """Text -> reward of three continuations in some order; likelihood and CLIP disagree about all of them."""
    said = [("One.", -3.0, 0.1), ("Two.", -1.0, -0.2), ("Three.", -2.0, 0.3)]
    responses = [Response("x", text, 2, logp=logp) for text, logp, _ in (said[at] for at in turned)]
    return {node.text: node.rewards[-1] for node in method.children(Node(), responses, [said[at][2] for at in turned])}


@pytest.mark.parametrize("reward", ["score", "rank"])
def test_rewards_have_their_limits_and_do_not_depend_on_the_order(reward: str) -> None:
    """lambda = 0 is the likelihood alone (exp of the log-prob, or its place), lambda = 1 is CLIP alone."""
    methods = {lam: Csr(reward=reward, lam=lam) for lam in (0.0, 0.5, 1.0)}  # type: ignore[arg-type]
    found = {lam: siblings([0, 1, 2], method) for lam, method in methods.items()}
    likely, seen = [math.exp(-3.0), math.exp(-1.0), math.exp(-2.0)], [10.0, 0.0, 30.0]
    if reward == "rank":
        likely, seen = [-1.0, -1 / 3, -2 / 3], [-2 / 3, -1.0, -1 / 3]
    assert list(found[0.0].values()) == pytest.approx(likely)
    assert list(found[1.0].values()) == pytest.approx(seen)
    assert list(found[0.5].values()) == pytest.approx([(a + b) / 2 for a, b in zip(likely, seen, strict=True)])
    assert all(siblings(list(turned), methods[0.5]) == found[0.5] for turned in itertools.permutations(range(3)))


def test_a_path_is_worth_the_sum_of_its_sentences_and_ranks_count_the_root() -> None:
    leaf = Node("One. Two. Three.", 0.0, (3.0, 1.0, 2.0))
    assert (Csr().value(leaf), Csr(reward="rank").value(leaf)) == (6.0, 1.5)


# PPO


def test_at_ratio_1_the_whitened_surrogate_is_zero_and_its_gradient_is_not() -> None:
    advantage = losses.whiten(numbers(3.0, -1.0, 0.5, 8.0))
    old = numbers(-1.0, -2.0, -3.0, -0.1)
    policy = old.clone().requires_grad_()
    surrogate = losses.clipped_policy((policy - old).exp(), advantage, 0.2)
    surrogate.sum().backward()
    assert surrogate.sum().item() == pytest.approx(0, abs=1e-12)
    assert policy.grad is not None
    assert torch.allclose(policy.grad, -advantage)


Surrogate = Callable[[Tensor, Tensor, float], Tensor]


def stopped(surrogate: Surrogate) -> set[tuple[float, float]]:
    """The (ratio, advantage) at which a surrogate has no gradient left."""
    found = set()
    for ratio, advantage in itertools.product((0.7, 0.9, 1.1, 1.3), (-1.0, 1.0)):
        at = numbers(ratio).requires_grad_()
        (gradient,) = torch.autograd.grad(surrogate(at, numbers(advantage), 0.2).sum(), at)
        if gradient.item() == 0:
            found.add((ratio, advantage))
        else:
            assert gradient.item() == -advantage
    return found


def test_the_clip_stops_what_has_improved_enough_and_nothing_else() -> None:
    """The mutant that clamps without the maximum also stops what has become worse."""
    assert stopped(losses.clipped_policy) == {(1.3, 1.0), (0.7, -1.0)}
    assert len(stopped(lambda ratio, advantage, e: -ratio.clamp(1 - e, 1 + e) * advantage)) == 4


def test_a_value_is_held_near_the_old_one_only_where_it_comes_nearer_to_its_target() -> None:
    """Old value 0, clip .2: at .5 towards 1 the held error counts, without gradient; at .5 away from -1 the own."""
    value = numbers(0.5, 0.5).requires_grad_()
    loss = losses.clipped_value(value, numbers(0.0, 0.0), numbers(1.0, -1.0), 0.2)
    loss.sum().backward()
    assert loss.tolist() == pytest.approx([0.5 * 0.8**2, 0.5 * 1.5**2])
    assert value.grad is not None
    assert value.grad.tolist() == pytest.approx([0.0, 1.5])


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (0.9, 0.8), (0.9, 0.0)])
def test_advantages_are_the_weighted_sum_of_later_errors(gamma: float, lam: float) -> None:
    """sum over l of (gamma lam)^l delta(t + l); with gamma = lam = 1 the return is the reward to go."""
    rewards, values = numbers(0.3, -1.0, 0.0, 2.0), numbers(0.1, 0.7, -0.4, 1.1)
    after = torch.cat([values[1:], ZERO])
    errors = rewards + gamma * after - values
    expected = [sum((gamma * lam) ** n * errors[t + n] for n in range(4 - t)) for t in range(4)]
    advantage, returns = losses.advantages(rewards, values, gamma, lam)
    assert torch.allclose(advantage, torch.stack(expected), atol=1e-14)  # type: ignore[arg-type]
    assert torch.equal(returns, advantage + values)
    if gamma == lam == 1:
        assert torch.allclose(returns, rewards.flip(0).cumsum(0).flip(0), atol=1e-14)


def test_whitened_values_have_mean_0_and_standard_deviation_1() -> None:
    whitened = losses.whiten(7 + 3 * torch.randn(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    assert whitened.mean().item() == pytest.approx(0, abs=1e-12)
    assert whitened.std(correction=0).item() == pytest.approx(1, abs=1e-7)
    assert losses.whiten(numbers(5.0, 5.0)).tolist() == [0, 0]


def distributions(apart: float) -> tuple[Tensor, Tensor]:
    """Log-probs of policy and reference over 40 words."""
    drawn = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 40, dtype=torch.float64, generator=drawn) * torch.tensor([[1.0], [apart]])
    return logits[0].log_softmax(-1), logits.sum(0).log_softmax(-1)


@pytest.mark.parametrize("apart", [0.05, 1.0])
def test_kl_estimators_are_unbiased_and_the_clamped_one_is_too_large(apart: float) -> None:
    """By expectation over all words and by 100,000 samples; the clamped one is the penalty of the official PPO."""
    policy, reference = distributions(apart)
    chance = policy.exp()
    exact = float((chance * (policy - reference)).sum())
    k1, k3 = losses.kl_k1(policy, reference), losses.kl_k3(policy, reference)
    assert (k3 >= 0).all()
    assert float((chance * k3).sum()) == pytest.approx(exact, abs=1e-12)
    assert float((chance * k1.clamp(min=0)).sum()) > exact * (10 if apart == 0.05 else 1)
    swapped = losses.kl_k3(reference, policy)  # a mutant
    assert abs(float((chance * swapped).sum()) - exact) > 1e-7
    drawn = torch.multinomial(chance, 100_000, replacement=True, generator=torch.Generator().manual_seed(1))
    for estimate in (k1[drawn], k3[drawn]):
        assert abs(float(estimate.mean()) - exact) < 4 * float(estimate.std()) / math.sqrt(len(drawn))
    assert float(k3[drawn].std()) < float(k1[drawn].std())


def test_k3_is_zero_only_where_both_agree() -> None:
    same = numbers(-1.0, -7.0)
    assert losses.kl_k3(same, same).tolist() == [0, 0]
    assert (losses.kl_k3(same, same + numbers(1e-3, -1e-3)) > 0).all()


def test_a_reward_is_known_up_to_a_shift_which_centering_holds() -> None:
    """And a swap of the sides adds the margin: L(c, r) - L(r, c) = r - c."""
    chosen, rejected = numbers(0.3, -2.0, 5.0), numbers(-0.1, 1.0, 4.0)

    def loss(shift: float, centering: float) -> Tensor:
        return losses.bradley_terry(chosen + shift, rejected + shift, centering)

    assert torch.allclose(loss(7.0, 0.0), loss(0.0, 0.0), atol=1e-13)
    added = ((chosen + rejected + 14).abs() - (chosen + rejected).abs()) / 2
    assert torch.allclose(loss(7.0, 0.01) - loss(0.0, 0.01), 0.01 * added, atol=1e-13)
    back = losses.bradley_terry(rejected, chosen, 0.01)
    assert torch.allclose(loss(0.0, 0.01) - back, rejected - chosen, atol=1e-13)
