"""Losses as pure functions of log-probs; numbers are the equations of the nSFT paper.

Where the paper's printed equation is wrong, the right one is here and the difference is named.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def sft(policy: "Tensor") -> "Tensor":
    """Token cross-entropy. policy: (N,) log-probs, natural log. Returns (N,), one value per supervised token."""
    return -policy  # Eq. 2, the terms of the sum


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
