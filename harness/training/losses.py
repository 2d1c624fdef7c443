"""Losses as pure functions of log-probs; numbers without a name are the equations of the nSFT paper.

Where the paper's printed equation is wrong, the right one is here and the difference is named.
"""

from typing import TYPE_CHECKING

from harness.contracts.method import Loss

if TYPE_CHECKING:
    from torch import Tensor

    from harness.models.logps import LogProbs


def sft(policy: "Tensor", divergence: "Tensor | None" = None, weight: float = 0.0) -> "Tensor":
    """Token cross-entropy, plus a weighted divergence from the reference where there is one (Table 7).

    policy: (N,) log-probs, natural log; divergence: (N,) nats. Returns (N,), one value per supervised token.
    """
    return -policy if divergence is None else weight * divergence - policy  # Eq. 2, the terms of the sum


def dpo(
    chosen: "Tensor",
    rejected: "Tensor",
    ref_chosen: "Tensor",
    ref_rejected: "Tensor",
    beta: float,
    label_smoothing: float = 0.0,
) -> "tuple[Tensor, Tensor, Tensor]":
    """Sigmoid DPO. Inputs: (pairs,) log-probs summed over a response. Returns values and detached rewards, (pairs,).

    Its gradient is beta * sigma(-beta p) * (grad L_sft(chosen) - grad L_sft(rejected)); the paper prints 1/p for that
    coefficient (Eq. 9), which diverges at initialisation and has the wrong sign for p < 0.
    `label_smoothing` is the probability that a preference is flipped (conservative DPO, as in TRL).
    """
    from torch.nn.functional import logsigmoid  # here, so that listing methods does not import torch

    chosen_ratio = chosen - ref_chosen  # log t1 of Eq. 10
    rejected_ratio = rejected - ref_rejected  # log t2 of Eq. 10
    p = chosen_ratio - rejected_ratio  # Eq. 7
    values = -(1 - label_smoothing) * logsigmoid(beta * p) - label_smoothing * logsigmoid(-beta * p)  # Eq. 6
    return values, beta * chosen_ratio.detach(), beta * rejected_ratio.detach()  # rewards: Eq. 5 without C


def paired(logps: "LogProbs", beta: float, rejected_column: str = "policy", rejected_gradient: float = 1.0) -> Loss:
    """Sigmoid DPO of a micro-batch of pairs on summed log-probs, with the metrics of TRL's DPOTrainer.

    `rejected_column` names what is summed on the rejected side, of policy and reference alike; `rejected_gradient` is
    what that side's gradient is multiplied by. The loss's value is the same whatever it is.
    """
    assert logps.reference is not None, "the engine gives a lesson with a reference its log-probs"
    chosen, rejected = sides(logps.sequence(logps.policy))
    ref_chosen, ref_rejected = sides(logps.sequence(logps.reference))
    lowered, ref_lowered = rejected, ref_rejected
    if rejected_column != "policy":
        lowered = sides(logps.sequence(logps.columns[rejected_column]))[1]
        ref_lowered = sides(logps.sequence(logps.columns[f"reference/{rejected_column}"]))[1]
    if rejected_gradient != 1:
        lowered = rejected_gradient * lowered + (1 - rejected_gradient) * lowered.detach()
    values, reward_chosen, reward_rejected = dpo(chosen, lowered, ref_chosen, ref_lowered, beta)
    return Loss(values, figures(reward_chosen, reward_rejected, logps))


def sides(values: "Tensor") -> "tuple[Tensor, Tensor]":
    """(2 * pairs,) values of branches as those of chosen and of rejected responses, (pairs,) each."""
    chosen, rejected = values.view(-1, 2).unbind(1)
    return chosen, rejected


def figures(reward_chosen: "Tensor", reward_rejected: "Tensor", logps: "LogProbs") -> "dict[str, Tensor]":
    """What TRL's trainers log of pairs, from (pairs,) rewards and the log-probs."""
    chosen, rejected, *_ = logps.sequence(logps.policy).view(len(reward_chosen), -1).unbind(1)
    found = {
        "rewards/chosen": reward_chosen,
        "rewards/rejected": reward_rejected,
        "rewards/margins": reward_chosen - reward_rejected,
        "rewards/accuracies": (reward_chosen > reward_rejected).float(),
        "logps/chosen": chosen,
        "logps/rejected": rejected,
    }
    return {name: values.detach() for name, values in found.items()}


def simpo(chosen: "Tensor", rejected: "Tensor", gamma: float) -> "Tensor":
    """-log sigma(r_chosen - r_rejected - gamma) of (pairs,) rewards, beta times mean log-probs (SimPO, Eq. 6)."""
    from torch.nn.functional import logsigmoid

    return -logsigmoid(chosen - rejected - gamma)


def ipo(chosen: "Tensor", rejected: "Tensor", tau: float) -> "Tensor":
    """(h - 1 / (2 tau))^2 with h the difference of (pairs,) log-ratios to the reference (IPO, Eq. 17)."""
    return (chosen - rejected - 1 / (2 * tau)) ** 2


def odds_ratio(chosen: "Tensor", rejected: "Tensor") -> "Tensor":
    """-log sigma(log odds(chosen) - log odds(rejected)) of (pairs,) mean log-probs (ORPO, Eq. 7).

    Odds end at 10^6, a millionth before the probability of 1 where they have no end.
    """
    import torch
    from torch.nn.functional import logsigmoid

    one, other = (side - torch.log(-torch.expm1(side.clamp(max=-1e-6))) for side in (chosen, rejected))
    return -logsigmoid(one - other)


def bco(chosen: "Tensor", rejected: "Tensor", shift: float) -> "Tensor":
    """-log sigma(r_chosen - shift) - log sigma(shift - r_rejected) of (pairs,) rewards (BCO; MPO's quality loss)."""
    from torch.nn.functional import logsigmoid

    return -logsigmoid(chosen - shift) - logsigmoid(shift - rejected)


def kto(chosen: "Tensor", rejected: "Tensor", divergence: float, beta: float) -> "tuple[Tensor, Tensor]":
    """1 - sigma(beta (r - z0)) of desirable responses, 1 - sigma(beta (z0 - r)) of undesirable ones (KTO, Sec. 4).

    (pairs,) log-ratios to the reference; divergence: z0, nats.
    """
    return (beta * (divergence - chosen)).sigmoid(), (beta * (rejected - divergence)).sigmoid()


def mdpo(chosen: "Tensor", rejected: "Tensor", cropped: "Tensor", delta: float) -> "tuple[Tensor, Tensor, Tensor]":
    """mDPO's terms, (pairs,) each: answers, pictures (the chosen answer under a crop is worse), anchor.

    (pairs,) rewards, beta times log-ratios to the reference.
    """
    from torch.nn.functional import logsigmoid

    return -logsigmoid(chosen - rejected), -logsigmoid(chosen - cropped), -logsigmoid(chosen - delta)


def visual_shift(difference: "Tensor", chosen: "Tensor") -> "Tensor":
    """log c of each token: c = sigma(z) + 1/2 where it is of a chosen response, else 3/2 - sigma(z) (TPO).

    difference: (n,) z, a token's logit less its logit under a noised picture. chosen: (n,) bool.
    """
    share = difference.sigmoid()
    return (share + 0.5).where(chosen, 1.5 - share).log()


def bradley_terry(chosen: "Tensor", rejected: "Tensor", centering: float) -> "Tensor":
    """-log sigma(r_chosen - r_rejected) + centering * |r_chosen + r_rejected| / 2 (LLaVA-RLHF's reward model).

    (pairs,) rewards in and values out. LLaVA-RLHF centres the batch's mean sum; per pair it does not depend on the
    batch.
    """
    from torch.nn.functional import logsigmoid

    return -logsigmoid(chosen - rejected) + centering * (chosen + rejected).abs() / 2


def advantages(rewards: "Tensor", values: "Tensor", gamma: float, lam: float) -> "tuple[Tensor, Tensor]":
    """Generalised advantage estimation (Schulman et al. 2016, Eq. 16) of one response; the value after it is 0.

    (tokens,) rewards and values in; advantages and returns, (tokens,), out. With gamma = lam = 1 the return is the
    reward to go.
    """
    import torch

    found, last = [], torch.zeros(())
    for at in reversed(range(len(rewards))):
        after = values[at + 1] if at + 1 < len(values) else torch.zeros(())
        last = rewards[at] + gamma * after - values[at] + gamma * lam * last
        found.append(last)
    advantage = torch.stack(found[::-1])
    return advantage, advantage + values


def whiten(values: "Tensor") -> "Tensor":
    """Mean 0 and standard deviation 1 over all of (n,) values; zeros where they are all equal."""
    return (values - values.mean()) / (values.std(correction=0) + 1e-8)


def group_advantages(rewards: "Tensor", epsilon: float = 0.0) -> "Tensor":
    """(R - mean) / (std + epsilon) of a group's (n,) rewards, n > 1; zeros where they are all equal (GRPO, Sec. 4.1.2).

    std is the sample's, over n - 1, as in TRL and verl; the paper does not say which.
    """
    import torch

    if rewards.max() - rewards.min() < 1e-6:  # what a mean of equal floats is off by is no difference
        return torch.zeros_like(rewards)
    return (rewards - rewards.mean()) / (rewards.std() + epsilon)


def clipped_policy(ratio: "Tensor", advantage: "Tensor", epsilon: float, above: float | None = None) -> "Tensor":
    """PPO's clipped surrogate as a loss, (N,) (Schulman et al. 2017, Eq. 7); its gradient stops beyond the clip.

    `above` is how far the ratio may rise where that is another distance (DAPO's Clip-Higher, Eq. 8).
    """
    import torch

    held = ratio.clamp(1 - epsilon, 1 + (epsilon if above is None else above))
    return torch.max(-ratio * advantage, -held * advantage)


def clipped_value(value: "Tensor", old: "Tensor", target: "Tensor", epsilon: float) -> "Tensor":
    """Half the larger squared error of the value and of the value held within `epsilon` of the old one, (N,)."""
    import torch

    held = old + (value - old).clamp(-epsilon, epsilon)
    return 0.5 * torch.max((value - target) ** 2, (held - target) ** 2)


def kl_k1(policy: "Tensor", reference: "Tensor") -> "Tensor":
    """log(policy / reference) of sampled tokens: unbiased for KL(policy | reference), of either sign."""
    return policy - reference


def kl_k3(policy: "Tensor", reference: "Tensor") -> "Tensor":
    """Schulman's third estimator of KL(policy | reference) from sampled tokens: unbiased and never negative."""
    difference = reference - policy
    return difference.exp() - 1 - difference
