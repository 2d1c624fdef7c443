"""The testbed's CLIP: stock, small, whole, reproducible, and true sentences are more similar than false ones."""

import hashlib
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import harness.mini
from harness.mini import oracles
from harness.mini.contrasts import KINDS, contrast
from harness.mini.draw import draw
from harness.mini.similarity import ClipRecipe, encode_texts, measure_clip, train_model
from harness.mini.world import scene

FOLDER = Path(harness.mini.__file__).parent / "clip"


@pytest.fixture(scope="module")
def clip():
    torch.set_num_threads(1)
    return CLIPModel.from_pretrained(FOLDER, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(FOLDER)


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_contrast_one_sentence_is_true_and_the_other_is_not(kind):
    rng, made = random.Random(0), 0
    for number in range(60):
        seen = scene(f"test/0/{number}")
        pair = contrast(seen, kind, rng)
        if pair:
            made += 1
            assert not oracles.errors(seen, "", pair[0]), pair
            assert oracles.errors(seen, "", pair[1]), pair
    assert made > 15


def test_checksums_match_and_it_is_small():
    lines = (FOLDER / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert {*listed} == {path.name for path in FOLDER.iterdir()} - {"SHA256SUMS"}
    for name, digest in listed.items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest
    assert (FOLDER / "model.safetensors").stat().st_size <= 2_000_000
    assert "SYNTHETIC" in (FOLDER / "README.md").read_text()


def test_true_sentences_are_more_similar(clip):
    measured = measure_clip(*clip, 60, "test/1")
    assert measured["object"] > 80
    assert measured["colour"] > 65
    assert measured["any two"] > 65


def test_a_text_is_pooled_at_its_end_token_wherever_that_stands(clip):
    model, tokenizer = clip
    texts = ["There is a dog in the image.", "A sign reads HALL.", "There are two small red cups on the left."]
    together = model.get_text_features(**encode_texts(tokenizer, texts)).pooler_output
    alone = [model.get_text_features(**encode_texts(tokenizer, [text])).pooler_output[0] for text in texts]
    assert torch.allclose(together, torch.stack(alone), atol=1e-5)


def test_its_image_processor_fits_the_world(clip):
    model, _ = clip
    processor = CLIPImageProcessorPil.from_pretrained(FOLDER)
    pixels = processor(draw(scene("test/0/0")), return_tensors="pt").pixel_values
    assert model.get_image_features(pixel_values=pixels).pooler_output.shape == (1, model.config.projection_dim)


def test_the_same_seed_gives_the_same_clip():
    tiny = ClipRecipe(scenes=70, vision_steps=2, steps=2, batch=8)
    torch.set_num_threads(1)
    first, second = (train_model(3, tiny, lambda line: None)[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
