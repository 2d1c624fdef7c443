"""A small random model of every family, and pictures of odd shapes: what the suites over families share."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import torch

from harness.contracts import plugins
from harness.contracts.family import Family
from harness.contracts.records import Image
from harness.models.load import save
from tests.seams.found import found, package
from tests.words import tokenizer

SIZES = ((32, 32), (37, 90), (64, 20), (33, 31), (9, 100), (3, 100))  # height, width
FAMILIES = [plugins.adopt(package("family"), name) for name in found("family")]


def made(family: Family, folder: Path, known: str = "", head: int = 0) -> Path:
    """A small random model of a family, saved as a training saves a policy; its tokenizer knows the words of a text.

    `head`: the width of its attention's heads, where an engine takes not every one.
    """
    words = tokenizer(family.image_token, *family.control, known=known, **family.named)
    config, processor = family.small(words)
    if head:
        text = config.get_text_config()
        if hasattr(text, "head_dim"):
            text.head_dim = head
        else:
            text.num_attention_heads = text.num_key_value_heads = text.hidden_size // head
        if sections := text.rope_parameters.get("mrope_section"):  # half of a head's numbers turn, shared by the axes
            text.rope_parameters["mrope_section"] = [part * head // 2 // sum(sections) for part in sections]
    torch.manual_seed(0)
    model = family.model_class()(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(std=0.15)
    save(model, words, family.eyes(lambda kind: processor, config), folder)
    return folder


def noise(root: Path, sizes: Sequence[tuple[int, int]] = SIZES) -> list[Image]:
    """Pictures with noise in every pixel, (height, width) each."""
    shown = []
    for number, size in enumerate(sizes):
        pixels = np.random.default_rng(number).integers(0, 255, (*size, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(root / f"{number}.png")
        digest = hashlib.sha256((root / f"{number}.png").read_bytes()).hexdigest()
        shown.append(Image(str(root / f"{number}.png"), digest))
    return shown
