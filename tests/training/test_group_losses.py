"""GRPO, DAPO and GSPO on fixed log-probs: against TRL 1.16's own loss, against figures by hand, and their mutants."""

import math
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.contracts import plugins
from harness.contracts.method import Loss, Method
from harness.models.logps import LogProbs
from harness.training import losses
from methods.grpo import Grpo
from tests.laws import caught

LENGTHS = [[3, 5, 2], [4, 2, 1]]  # tokens of the responses, by group
ADVANTAGES = [1.2, -0.7, -0.5, 0.0, 1.1, -1.1]  # by response


def world(seed: int = 0, far: float = 0.6) -> LogProbs:
    """Fixed log-probs of two groups of three responses, the policy's as leaves, some ratios beyond the clips."""
    drawn = torch.Generator().manual_seed(seed)
    sizes = [size for group in LENGTHS for size in group]
    old, reference = (-3 * torch.rand(sum(sizes), generator=drawn) for _ in range(2))
    policy = (old + far * torch.randn(sum(sizes), generator=drawn)).requires_grad_()
    branch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    tree = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor([len(group) for group in LENGTHS]))
    columns = {"policy": policy, "old_policy": old, "reference": reference}
    columns |= {name: torch.tensor(ADVANTAGES)[branch] for name in ("advantage", "score")}
    return LogProbs(policy, None, branch, tree, columns)


def ours(logps: LogProbs, **options: Any) -> Loss:
    return plugins.make("methods", "grpo", Method, options).loss(logps)


def theirs(logps: LogProbs, level: str, kind: str, below: float, above: float, beta: float, unbiased: bool) -> Tensor:
    """`GRPOTrainer._compute_loss` of the same, padded."""
    from trl import GRPOTrainer

    count, longest = len(logps.branch_tree), int(logps.branch.bincount().max())
    place = torch.cat([torch.arange(int(size)) for size in logps.branch.bincount()])

    def padded(values: Tensor) -> Tensor:
        return torch.zeros(count, longest).index_put((logps.branch, place), values)

    mask, given = padded(torch.ones(len(logps.branch))), logps.columns
    accelerator = SimpleNamespace(
        num_processes=1, gather=lambda it: it, reduce=lambda it, reduction: it, device="cpu", sync_gradients=True
    )
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (padded(logps.policy), torch.zeros(count, longest), None),
        aux_loss_enabled=False, top_entropy_quantile=1.0, off_policy_mask_threshold=None, use_vllm=False,
        importance_sampling_level=level, loss_type=kind, beta=beta, epsilon_low=below, epsilon_high=above,
        args=SimpleNamespace(use_bias_correction_kl=unbiased, delta=None, steps_per_generation=1),
        model=SimpleNamespace(training=True), current_gradient_accumulation_steps=1, accelerator=accelerator,
        _entropy_bonus_enabled=False, _metrics={"train": defaultdict(list)}, vllm_importance_sampling_correction=False,
    )  # fmt: skip
    ids = torch.zeros(count, longest, dtype=torch.int64)
    inputs = {
        "prompt_ids": ids[:, :1], "prompt_mask": ids[:, :1] + 1, "completion_ids": ids, "completion_mask": mask,
        "advantages": torch.tensor(ADVANTAGES), "old_per_token_logps": padded(given["old_policy"]),
        "ref_per_token_logps": padded(given["reference"]), "num_items_in_batch": mask.sum(),
    }  # fmt: skip
    found: Tensor = GRPOTrainer._compute_loss(trainer, None, inputs)
    return found


PAPER, TRL = {"variant": "paper"}, {"variant": "as_shipped"}
SETTINGS: dict[str, tuple[dict[str, Any], tuple[str, str, float, float, float, bool]]] = {
    "grpo": (PAPER, ("token", "grpo", 0.2, 0.2, 0.04, False)),
    "grpo, as shipped": (TRL, ("token", "grpo", 0.2, 0.2, 0.0, True)),
    "grpo, its divergence as shipped": (TRL | {"kl_coef": 0.5}, ("token", "grpo", 0.2, 0.2, 0.5, True)),
    "dapo, as shipped": (TRL | {"objective": "dapo"}, ("token", "dapo", 0.2, 0.28, 0.0, True)),
    "gspo": (PAPER | {"objective": "gspo"}, ("sequence", "grpo", 3e-4, 4e-4, 0.0, False)),
    "gspo, wide": (PAPER | {"objective": "gspo", "clip_below": 0.1, "clip_above": 0.2, "kl_coef": 0.1},
                   ("sequence", "grpo", 0.1, 0.2, 0.1, False)),
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_it_is_trl_s_loss(name: str) -> None:
    """Values and gradients; the mean over our units is TRL's number."""
    options, settings = SETTINGS[name]
    for seed in range(3):
        logps = world(seed)
        pair = ours(logps, **options).values.mean(), theirs(logps, *settings)
        one, other = (torch.autograd.grad(value, logps.policy, retain_graph=True)[0] for value in pair)
        assert torch.allclose(*pair, atol=1e-6)
        assert torch.allclose(one, other, atol=1e-6) and (name == "gspo" or one.abs().max() > 1e-3)


def one_group(**options: Any) -> float:
    """Two responses, of two tokens and one: ratios 1.5 and 0.9 with advantage 1, ratio 0.5 with advantage -1."""
    ratios, old = [1.5, 0.9, 0.5], torch.tensor([-1.0, -2, -3])
    policy, advantage = old + torch.tensor(ratios).log(), torch.tensor([1.0, 1, -1])
    columns = {"old_policy": old, "advantage": advantage, "score": advantage, "reference": old}
    given = LogProbs(policy, None, torch.tensor([0, 0, 1]), torch.tensor([0, 0]), columns)
    columns |= {} if "kl_coef" in options else {"reference": policy}
    return float(ours(given, **options).values.mean())


KL_OF_OLD = sum((1 / r - 1 + math.log(r)) * share for r, share in ((1.5, 0.25), (0.9, 0.25), (0.5, 0.5)))
WHOLE = math.sqrt(1.5 * 0.9)  # the first response's ratio per token
GOLDEN = {
    "grpo": ({}, -((1.2 + 0.9) / 2 - 0.8) / 2),
    "grpo with a divergence": ({"kl_coef": 0.1}, -((1.2 + 0.9) / 2 - 0.8) / 2 + 0.1 * KL_OF_OLD),
    "dapo": ({"objective": "dapo"}, -(1.28 + 0.9 - 0.8) / 3),
    "dapo, wide": ({"objective": "dapo", "clip_above": 1.0, "clip_below": 0.6}, -(1.5 + 0.9 - 0.5) / 3),
    "gspo": ({"objective": "gspo"}, -((1 + 4e-4) - (1 - 3e-4)) / 2),
    "gspo, wide": ({"objective": "gspo", "clip_above": 1.0, "clip_below": 0.6}, -(WHOLE - 0.5) / 2),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_a_group_by_hand(name: str) -> None:
    """A gain beyond the clip counts as far as the clip; DAPO's tokens weigh alike, GRPO's and GSPO's responses do."""
    options, wanted = GOLDEN[name]
    assert one_group(**options) == pytest.approx(wanted, abs=1e-6)


def test_a_mean_over_groups_is_not_one_over_tokens() -> None:
    """Groups of 10 and 7 tokens weigh alike in DAPO's paper, which has a mean per group; TRL has one over the step."""
    logps = world()
    paper, shipped = (ours(logps, objective="dapo", variant=variant).values for variant in ("paper", "as_shipped"))
    assert paper.shape == (2,) and shipped.shape == (17,)
    assert paper.tolist() == pytest.approx([float(shipped[:10].mean()), float(shipped[10:].mean())], abs=1e-6)
    assert abs(float(paper.mean() - shipped.mean())) > 1e-3


def unclipped(ratio: Tensor, advantage: Tensor, epsilon: float, above: float | None = None) -> Tensor:
    return -ratio * advantage


def turned(ratio: Tensor, advantage: Tensor, epsilon: float, above: float | None = None) -> Tensor:
    return right(ratio, -advantage, epsilon, above)


def symmetric(ratio: Tensor, advantage: Tensor, epsilon: float, above: float | None = None) -> Tensor:
    return right(ratio, advantage, epsilon)


right = losses.clipped_policy
MUTANTS = [("grpo", unclipped), ("grpo", turned), ("dapo", unclipped), ("dapo", symmetric), ("gspo", unclipped)]


@pytest.mark.parametrize(("name", "wrong"), MUTANTS)
def test_another_surrogate_would_be_caught(monkeypatch: pytest.MonkeyPatch, name: str, wrong: Any) -> None:
    monkeypatch.setattr(losses, "clipped_policy", wrong)
    caught(test_a_group_by_hand, name)
    caught(test_it_is_trl_s_loss, "dapo, as shipped" if name == "dapo" else name)


def test_a_mean_over_all_tokens_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Grpo, "mean", lambda self, logps, values: values)
    caught(test_it_is_trl_s_loss, "grpo")


def test_equal_rewards_pull_nowhere_but_to_the_base() -> None:
    """Advantages of 0: no gradient without a divergence, and that of the divergence with one."""
    logps = world()
    logps.columns["advantage"].zero_()  # type: ignore[union-attr]
    for options, pulls in (({"kl_coef": 0.0}, False), ({}, True)):
        values = ours(logps, **options).values
        found = torch.autograd.grad(values.sum(), logps.policy, retain_graph=True)[0]
        assert bool(found.any()) == pulls and bool(values.isfinite().all())


def test_metrics_are_trl_s() -> None:
    """How many ratios are held: those that a better response has above, and a worse one below."""
    logps = world()
    ratio, advantage = (logps.policy - logps.columns["old_policy"]).exp(), logps.columns["advantage"]
    held = ((ratio > 1.2) & (advantage > 0)) | ((ratio < 0.8) & (advantage < 0))
    told = ours(logps, variant="as_shipped").metrics
    assert held.any() and told["clip_ratio/region_mean"].sum() > 0
    assert told["completions/mean_length"].tolist() == pytest.approx([10 / 3, 7 / 3])
    assert told["reward"].tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
    shares = logps.mean(held.float()).view(2, 3).mean(1)
    assert torch.allclose(told["clip_ratio/region_mean"], shares)
