"""Pictures under noise, as SeVa makes its worse responses: whatever the family, on normalised pixels."""

import math
from functools import cache

import torch
from torch import Tensor

NOISE_STEPS = 1000


@cache
def kept_signal(step: int) -> float:
    """How much of the signal's variance is left after `step` diffusion steps (alpha-bar), from 1 at 0 down.

    The sigmoid schedule of SeVa's `image_tools`: variances between 1e-5 and 5e-3, spaced on the logistic from -6 to 6.
    At 500 the signal keeps .863 of its amplitude, at 800 .467.
    """
    spread = ((12 * at / (NOISE_STEPS - 1)) - 6 for at in range(step + 1))
    return math.prod(1 - (1e-5 + (5e-3 - 1e-5) / (1 + math.exp(-x))) for x in spread)


def diffuse(pixels: Tensor, step: int, seed: int) -> Tensor:
    """DDPM's forward process (Ho et al. 2020, Eq. 4) on normalised pixels of any shape; noise drawn by `seed`."""
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(seed))
    signal = kept_signal(step)
    return math.sqrt(signal) * pixels + math.sqrt(1 - signal) * noise
