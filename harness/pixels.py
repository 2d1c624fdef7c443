"""Images as pixel tensors, the way LLaVA-1.5 makes them: padded to a square, then CLIP's own processor.

Source: haotian-liu/LLaVA `mm_utils.py`, `expand2square`, which all v1.5 scripts use (`image_aspect_ratio: pad`).
"""

import math
from functools import cache
from pathlib import Path
from typing import Any

import PIL.Image
import torch
from torch import Tensor

from harness.images import read_image
from harness.types import HarnessError, Image


def square(picture: PIL.Image.Image, colour: tuple[int, ...]) -> PIL.Image.Image:
    """The picture in the middle of the smallest square that holds it, filled with `colour`."""
    width, height = picture.size
    if width == height:
        return picture
    side = max(width, height)
    padded = PIL.Image.new("RGB", (side, side), colour)
    padded.paste(picture, ((side - width) // 2, (side - height) // 2))
    return padded


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
    """DDPM's forward process (Ho et al. 2020, Eq. 4) on normalised, padded (3, H, W) pixels; noise drawn by `seed`."""
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(seed))
    signal = kept_signal(step)
    return math.sqrt(signal) * pixels + math.sqrt(1 - signal) * noise


class Pixels:
    """(3, H, W) float32 tensors of pictures."""

    def __init__(self, processor: Any) -> None:
        """`processor` is a `CLIPImageProcessorPil`: the variant that needs no torchvision."""
        self.processor = processor
        self._colour = tuple(int(part * 255) for part in processor.image_mean)

    def __call__(self, image: Image) -> Tensor:
        """The picture's pixels; HarnessError where its file cannot be read or is another by now."""
        try:
            picture = read_image(Path(image.path), image.sha256, image.upright)
        except ValueError as error:
            raise HarnessError(f"image {image.path}: {error}.") from None
        return self._tensor(square(picture, self._colour))

    def blank(self) -> Tensor:
        """A picture of nothing, in the processor's mean colour: what a blind model would see."""
        side = self.processor.crop_size
        return self._tensor(PIL.Image.new("RGB", (side["width"], side["height"]), self._colour))

    def _tensor(self, picture: PIL.Image.Image) -> Tensor:
        pixels: Tensor = self.processor(images=picture, return_tensors="pt")["pixel_values"][0]
        return pixels.to(torch.float32)
