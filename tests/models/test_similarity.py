"""CSR's image-text similarity: CLIP's own cosines, with each image embedded once."""

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

import harness.mini
from harness.contracts.images import read_image
from harness.contracts.records import Image
from harness.models.clip import Clip, similarity
from harness.system.profile import quiet

FOLDER = Path(harness.mini.__file__).parent / "clip"
TEXTS = ["There is a dog.", "A sign reads HALL.", "There are two small red cups on the left."]


@pytest.fixture
def fresh() -> Clip:
    """A model that has embedded nothing yet."""
    Clip.kept.cache_clear()
    return Clip.kept(FOLDER)


def test_the_cosines_are_clip_s(fresh: Clip, pictures: list[Image]) -> None:
    """Against transformers' own logits, without their scale, all images and texts in one batch."""
    model = CLIPModel.from_pretrained(FOLDER, dtype=torch.float32).eval()
    images = [read_image(Path(picture.path)) for picture in pictures]
    pixels = CLIPImageProcessorPil.from_pretrained(FOLDER)(images=images, return_tensors="pt")
    words = AutoTokenizer.from_pretrained(FOLDER)(TEXTS, padding=True, return_tensors="pt")
    given = {name: words[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        expected = model(**pixels, **given).logits_per_image / model.logit_scale.exp()
    pairs = [(picture, text) for picture in pictures for text in TEXTS]
    assert similarity(FOLDER, pairs, 2, quiet) == pytest.approx(expected.flatten().tolist(), abs=1e-5)


def test_an_image_is_embedded_once_over_all_levels_and_processes(
    fresh: Clip, pictures: list[Image], tmp_path: Path
) -> None:
    pairs = [(picture, text) for picture in pictures for text in TEXTS]
    first = [similarity(FOLDER, pairs[level::2], 2, quiet, tmp_path) for level in (0, 1)]
    assert fresh.shelf.made == len(pictures) and Clip.kept(FOLDER) is fresh
    Clip.kept.cache_clear()  # as in another process
    assert [similarity(FOLDER, pairs[level::2], 2, quiet, tmp_path) for level in (0, 1)] == first
    assert Clip.kept(FOLDER).shelf.made == 0
