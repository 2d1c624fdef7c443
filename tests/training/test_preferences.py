"""Losses on pairs against TRL 1.16's own functions and figures by hand, on fixed log-probs; and their mutants."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.contracts import plugins
from harness.contracts.method import Loss, Method
from harness.models.logps import LogProbs
from harness.training import losses
from tests.laws import caught

LENGTHS = [[3, 5], [4, 2], [1, 6]]  # supervised tokens of chosen and rejected, by record
HERE = SimpleNamespace(device="cpu")


def world(seed: int = 0, lengths: list[list[int]] = LENGTHS) -> LogProbs:
    """Fixed log-probs of three pairs, the policy's as leaves."""
    drawn = torch.Generator().manual_seed(seed)
    sizes = [size for record in lengths for size in record]
    policy, reference = (-3 * torch.rand(sum(sizes), generator=drawn) for _ in range(2))
    branch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    tree = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor([len(record) for record in lengths]))
    policy.requires_grad_()
    columns = {"policy": policy, "reference/policy": reference}
    return LogProbs(policy, reference, branch, tree, columns)


def ours(name: str, logps: LogProbs, **options: Any) -> Loss:
    return plugins.make("methods", name, Method, options).loss(logps)


def trl_simpo(chosen: Tensor, rejected: Tensor, beta: float, gamma: float) -> Tensor:
    from trl.experimental.cpo import CPOTrainer

    told = SimpleNamespace(
        alpha=0.0, beta=beta, simpo_gamma=gamma, loss_type="simpo", label_smoothing=0.0, accelerator=HERE
    )
    values: Tensor = CPOTrainer.cpo_loss(told, chosen, rejected)[0]
    return values


def trl_odds_ratio(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """What it takes from the SFT term."""
    from trl.experimental.orpo import ORPOTrainer

    values: Tensor = ORPOTrainer.odds_ratio_loss(SimpleNamespace(beta=beta, accelerator=HERE), chosen, rejected)[0]
    return values


def same(one: Tensor, other: Tensor, logps: LogProbs) -> None:
    """Values and gradients agree."""
    assert torch.allclose(one, other, atol=1e-6)
    first, second = (torch.autograd.grad(values.sum(), logps.policy, retain_graph=True)[0] for values in (one, other))
    assert torch.allclose(first, second, atol=1e-6) and first.abs().max() > 1e-3


@pytest.mark.parametrize(("beta", "gamma"), [(2.0, 0.5), (2.5, 1.4), (10.0, 0.0)])
def test_simpo_is_trl_s(beta: float, gamma: float) -> None:
    logps = world()
    chosen, rejected = losses.sides(logps.mean(logps.policy))
    same(ours("simpo", logps, beta=beta, gamma=gamma).values, trl_simpo(chosen, rejected, beta, gamma), logps)


@pytest.mark.parametrize("lam", [0.1, 0.25])
def test_orpo_is_trl_s_odds_ratio_and_the_mean_log_prob(lam: float) -> None:
    logps = world()
    chosen, rejected = losses.sides(logps.mean(logps.policy))
    same(ours("orpo", logps, lam=lam).values, -chosen - trl_odds_ratio(chosen, rejected, lam), logps)


def by_hand(name: str, **options: Any) -> float:
    """One pair: chosen -1, -3 (reference -1.5, -2), rejected -2, -2, -5 (reference -2, -2, -2)."""
    policy, reference = torch.tensor([-1.0, -3, -2, -2, -5]), torch.tensor([-1.5, -2, -2, -2, -2])
    given = LogProbs(policy, reference, torch.tensor([0, 0, 1, 1, 1]), torch.tensor([0, 0]), {"policy": policy})
    return float(ours(name, given, **options).values)


def odds(probability: float) -> float:
    return probability / (1 - probability)


HAND = {  # chosen has mean -2, rejected -3; their log-ratios are -0.5 and -3
    "simpo": (by_hand("simpo"), math.log1p(math.exp(-(2 * (-2 + 3) - 0.5)))),
    "ipo": (by_hand("ipo"), (2.5 - 5) ** 2),
    "ipo mean": (by_hand("ipo", log_probs="mean"), (-0.25 + 1 - 5) ** 2),
    "orpo": (by_hand("orpo"), 2 + 0.1 * math.log1p(odds(math.exp(-3)) / odds(math.exp(-2)))),
}


@pytest.mark.parametrize("name", HAND)
def test_a_pair_by_hand(name: str) -> None:
    got, wanted = HAND[name]
    assert got == pytest.approx(wanted, abs=1e-5)


def turned(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The mutant with chosen and rejected in each other's place."""
    return lambda chosen, rejected, *more: loss(rejected, chosen, *more)


@pytest.mark.parametrize("mutant", ["sign", "no length", "no margin"])
def test_another_simpo_would_be_caught(monkeypatch: pytest.MonkeyPatch, mutant: str) -> None:
    right = losses.simpo
    wrong: dict[str, Callable[..., Tensor]] = {
        "sign": turned(right),
        "no margin": lambda chosen, rejected, gamma: right(chosen, rejected, 0.0),
    }
    if mutant == "no length":
        means = LogProbs.mean
        monkeypatch.setattr(LogProbs, "mean", lambda self, values: self.sequence(values))
        given = world()
        chosen, rejected = losses.sides(means(given, given.policy))
        with pytest.raises(AssertionError):
            same(ours("simpo", given).values, trl_simpo(chosen, rejected, 2.0, 0.5), given)
        return
    monkeypatch.setattr(losses, "simpo", wrong[mutant])
    caught(test_simpo_is_trl_s, 2.5, 1.4)


def test_another_orpo_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "odds_ratio", turned(losses.odds_ratio))
    caught(test_orpo_is_trl_s_odds_ratio_and_the_mean_log_prob, 0.25)
    monkeypatch.setattr(
        losses, "odds_ratio", lambda chosen, rejected: -torch.nn.functional.logsigmoid(chosen - rejected)
    )
    caught(test_orpo_is_trl_s_odds_ratio_and_the_mean_log_prob, 0.25)


@pytest.mark.parametrize("options", [{}, {"log_probs": "mean"}])
def test_an_ipo_that_does_not_know_its_reference_or_its_sides_would_be_caught(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, str]
) -> None:
    right = by_hand("ipo", **options)
    with monkeypatch.context() as patch:
        patch.setattr(LogProbs, "ratios", lambda self, mean: (self.mean if mean else self.sequence)(self.policy))
        assert abs(by_hand("ipo", **options) - right) > 0.1
    monkeypatch.setattr(losses, "ipo", turned(losses.ipo))
    assert abs(by_hand("ipo", **options) - right) > 0.1


def test_an_ipo_pair_that_is_told_apart_is_left_alone() -> None:
    """At h = 1 / (2 tau) there is no gradient, where DPO still has one."""
    h = torch.tensor([5.0], requires_grad=True)
    losses.ipo(h, torch.zeros(1), 0.1).sum().backward()
    assert h.grad is not None and float(h.grad) == 0


SIDES = torch.tensor([0, 1, 2, 3])  # one token each: chosen, rejected, and two answers to another prompt


def kto(anchor: float, **options: Any) -> float:
    """Log-ratios of -0.5 (chosen) and -3 (rejected), of 1 and 2 for the others."""
    policy, reference = torch.tensor([-1.0, -4, -2, -1]), torch.tensor([-0.5, -1, -3, -3])
    given = LogProbs(policy, reference, SIDES, torch.zeros(4, dtype=torch.int64), {"policy": policy}, anchor)
    assert plugins.make("methods", "kto", Method, options).anchor(given).tolist() == [1.5]
    return float(ours("kto", given, **options).values)


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_kto_by_hand() -> None:
    """Each side against the divergence, which is never below 0; the mean of the two, weighted."""
    assert kto(1.5) == pytest.approx(((1 - sigma(0.1 * (-0.5 - 1.5))) + (1 - sigma(0.1 * (1.5 + 3)))) / 2)
    assert kto(-1.5) == kto(0.0) == pytest.approx(((1 - sigma(-0.05)) + (1 - sigma(0.3))) / 2)
    weighted = {"beta": 0.5, "desirable_weight": 2.0, "undesirable_weight": 0.5}
    assert kto(1.0, **weighted) == pytest.approx((2 * (1 - sigma(-0.75)) + 0.5 * (1 - sigma(2.0))) / 2)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda chosen, rejected, z, beta: right_kto(rejected, chosen, z, beta),
        lambda chosen, rejected, z, beta: right_kto(chosen, rejected, -z, beta),
        lambda chosen, rejected, z, beta: (right_kto(chosen, rejected, z, beta)[0],) * 2,
    ],
    ids=["sides", "sign of the divergence", "one side alone"],
)
def test_another_kto_would_be_caught(monkeypatch: pytest.MonkeyPatch, wrong: Callable[..., Any]) -> None:
    monkeypatch.setattr(losses, "kto", wrong)
    caught(test_kto_by_hand)


right_kto = losses.kto
PAST = {"rewards/chosen": 0.2, "rewards/rejected": 0.1}


def mpo(past: dict[str, float] = PAST, **options: Any) -> float:
    """`by_hand`'s pair, whose rewards are -0.05 and -0.3 and whose chosen answer has a mean log-prob of -2."""
    policy, reference = torch.tensor([-1.0, -3, -2, -2, -5]), torch.tensor([-1.5, -2, -2, -2, -2])
    owner, tree = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([0, 0])
    return float(ours("mpo", LogProbs(policy, reference, owner, tree, {"policy": policy}, past=past), **options).values)


def test_mpo_by_hand() -> None:
    """Rewards are told from delta, the mean of those before; at the first step there is none."""

    def wanted(delta: float) -> float:
        quality = -math.log(sigma(-0.05 - delta)) - math.log(sigma(delta + 0.3))
        return -0.8 * math.log(sigma(0.25)) + 0.2 * quality + 2

    assert mpo() == pytest.approx(wanted(0.15))
    assert mpo({}) == mpo(shift="none") == pytest.approx(wanted(0.0))
    parts = [
        mpo(**{f"{other}_weight": 0.0 for other in ("preference", "quality", "generation") if other != part})
        for part in ("preference", "quality", "generation")
    ]
    assert sum(parts) == pytest.approx(wanted(0.15))


@pytest.mark.parametrize("wrong", ["sides", "no shift", "no length"])
def test_another_mpo_would_be_caught(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    right = losses.bco
    if wrong == "no length":
        monkeypatch.setattr(LogProbs, "mean", LogProbs.sequence)
    elif wrong == "sides":
        monkeypatch.setattr(losses, "bco", turned(right))
    else:
        monkeypatch.setattr(losses, "bco", lambda chosen, rejected, shift: right(chosen, rejected, 0.0))
    caught(test_mpo_by_hand)


def mdpo(**options: Any) -> float:
    """Log-ratios of -0.5 (chosen), -3 (rejected) and 2 (chosen under the crop)."""
    policy, reference = torch.tensor([-1.0, -4, -1]), torch.tensor([-0.5, -1, -3])
    given = LogProbs(policy, reference, SIDES[:3], torch.zeros(3, dtype=torch.int64), {"policy": policy})
    return float(ours("mdpo", given, **options).values)


def test_mdpo_by_hand() -> None:
    assert mdpo() == pytest.approx(-sum(math.log(sigma(0.1 * x)) for x in (-0.5 + 3, -0.5 - 2, -0.5)))
    wanted = -sum(math.log(sigma(x)) for x in (0.5 * 2.5, 0.5 * -2.5, 0.5 * -0.5 - 0.3))
    assert mdpo(beta=0.5, delta=0.3) == pytest.approx(wanted)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda chosen, rejected, cropped, delta: (*right_mdpo(chosen, rejected, cropped, delta)[:2], chosen * 0),
        lambda chosen, rejected, cropped, delta: right_mdpo(rejected, chosen, cropped, delta),
        lambda chosen, rejected, cropped, delta: right_mdpo(chosen, rejected, cropped, -delta),
    ],
    ids=["no anchor", "sides", "sign of delta"],
)
def test_another_mdpo_would_be_caught(monkeypatch: pytest.MonkeyPatch, wrong: Callable[..., Any]) -> None:
    monkeypatch.setattr(losses, "mdpo", wrong)
    caught(test_mdpo_by_hand)


@pytest.mark.parametrize("hand", ["kto", "mpo", "mdpo"])
def test_a_loss_without_its_reference_would_be_caught(monkeypatch: pytest.MonkeyPatch, hand: str) -> None:
    monkeypatch.setattr(LogProbs, "ratios", lambda self, mean=False: self.sequence(self.policy))
    caught({"kto": test_kto_by_hand, "mpo": test_mpo_by_hand, "mdpo": test_mdpo_by_hand}[hand])


right_mdpo = losses.mdpo


def tpo() -> float:
    """Chosen of two tokens, rejected of one: policy's z are 1, -2 and 0.5, the reference's 0, 0 and 3."""
    policy, reference = torch.tensor([-1.0, -2, -4, -9, -9, -9]), torch.tensor([-0.5, -2, -1, -9, -9, -9])
    logit, known = torch.tensor([3.0, 1, 2, 2, 3, 1.5]), torch.tensor([1.0, 1, 4, 1, 1, 1])
    columns = {"policy": policy, "logit": logit, "reference/policy": reference, "reference/logit": known}
    owner = torch.tensor([0, 0, 1, 2, 2, 3])
    return float(ours("tpo", LogProbs(policy, reference, owner, torch.zeros(4, dtype=torch.int64), columns)).values)


def test_tpo_by_hand() -> None:
    """Each log-prob is shifted by log c, of policy and reference alike; under noise logits alone count."""
    chosen = -3 + math.log(sigma(1) + 0.5) + math.log(sigma(-2) + 0.5)
    rejected = -4 + math.log(1.5 - sigma(0.5))
    known = -2.5, -1 + math.log(1.5 - sigma(3))
    assert tpo() == pytest.approx(-math.log(sigma(0.1 * (chosen - known[0] - rejected + known[1]))))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda z, chosen: right_shift(-z, chosen),
        lambda z, chosen: right_shift(z, ~chosen),
        lambda z, chosen: 0 * z,
    ],
    ids=["sign", "sides", "plain DPO"],
)
def test_another_tpo_would_be_caught(monkeypatch: pytest.MonkeyPatch, wrong: Callable[..., Tensor]) -> None:
    monkeypatch.setattr(losses, "visual_shift", wrong)
    caught(test_tpo_by_hand)


right_shift = losses.visual_shift
