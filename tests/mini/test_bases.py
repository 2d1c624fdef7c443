"""The shipped bases are whole, small, look at the image, and answer the same alone as in a batch."""

import hashlib
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, LlavaForConditionalGeneration
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import harness.mini
from harness.judging import preference as critic
from harness.mini import chat, vision
from harness.mini.base import Recipe, save, train_model
from harness.mini.draw import draw
from harness.mini.language import DETAIL
from harness.mini.measure import generate, measure, measure_critic
from harness.mini.tokenizer import make_tokenizer
from harness.mini.world import scene

BASES = Path(harness.mini.__file__).parent / "bases"
SEEDS = ("0", "1", "2")


def load(folder: Path):
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def base():
    torch.set_num_threads(1)
    return load(BASES / "0")


@pytest.mark.parametrize("seed", SEEDS)
def test_checksums_match_and_nothing_is_unlisted(seed):
    lines = (BASES / seed / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert {*listed} == {path.name for path in (BASES / seed).iterdir()} - {"SHA256SUMS"}
    for name, digest in listed.items():
        assert hashlib.sha256((BASES / seed / name).read_bytes()).hexdigest() == digest
    assert "SYNTHETIC" in (BASES / seed / "README.md").read_text()


def test_all_bases_together_are_small():
    assert sum(path.stat().st_size for path in BASES.rglob("*") if path.is_file()) <= 8_000_000


@pytest.mark.parametrize("seed", SEEDS)
def test_each_base_loads_and_answers(seed):
    model, tokenizer = load(BASES / seed)
    assert tokenizer.get_vocab() == make_tokenizer().get_vocab()
    said = measure(model, tokenizer, 8, captions=False)
    assert said["pope"] > 60


@pytest.mark.parametrize("seed", [SEEDS[0], *(pytest.param(seed, marks=pytest.mark.heavy) for seed in SEEDS[1:])])
def test_each_base_tells_the_truer_of_its_own_responses(seed):
    torch.set_num_threads(1)
    judged = measure_critic(*load(BASES / seed), 40, "test/0")
    assert judged["critic"] > 56
    assert judged["critic unparsable"] < 5
    assert 20 < judged["critic first"] < 80


@pytest.mark.heavy
def test_a_critic_that_always_says_the_first_is_right_half_of_the_time(base, monkeypatch):
    monkeypatch.setattr(critic, "verdict", lambda text: 1)
    judged = measure_critic(*base, 20, "test/0")
    assert (judged["critic"], judged["critic stable"], judged["critic first"]) == (50, 0, 100)


def test_a_batch_answers_as_each_alone(base):
    model, tokenizer = base
    images = vision.normalized(vision.render([scene(f"test/0/{number}") for number in range(4)]))
    asked = [(number, text) for number in range(4) for text in (DETAIL, "Is there a dog in the image?")]
    together = generate(model, tokenizer, images, asked, 40)
    alone = [generate(model, tokenizer, images, [one], 40)[0] for one in asked]
    assert together == alone


def test_the_image_processor_changes_no_pixel(base):
    processor = CLIPImageProcessorPil.from_pretrained(BASES / "0")
    drawn = scene("test/0/0")
    processed = processor(draw(drawn), return_tensors="pt").pixel_values
    assert torch.allclose(processed, vision.normalized(vision.render([drawn])), atol=1e-6)
    assert processor(Image.new("RGB", (90, 30)), return_tensors="pt").pixel_values.shape == (1, 3, 64, 64)


def test_cached_tower_features_are_those_of_the_model(base):
    model, _ = base
    images = vision.normalized(vision.render([scene("test/0/0")]))
    with torch.no_grad():
        cached = model.model.multi_modal_projector(vision.tower_features(model, images))
        whole = model.model.get_image_features(pixel_values=images, return_dict=True).pooler_output
    assert torch.allclose(cached, torch.stack(list(whole)), atol=1e-6)


@pytest.mark.heavy
def test_a_seed_always_gives_the_same_model(tmp_path):
    counts = {"vision_steps": 3, "warm_steps": 2, "mixed_steps": 2, "simple_steps": 1, "critic_steps": 1}
    counts |= {"choosing_steps": 1, "last_steps": 1}
    small = Recipe(scenes=70, covers=10, talked_covers=5, **counts)
    for name in ("one", "two"):
        torch.set_num_threads(1)
        save(*train_model(7, small, lambda line: None), tmp_path / name)
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert first == second


def test_dirty_existence_answers_err_towards_yes():
    import random

    rng = random.Random(0)
    wrong = 0
    for number in range(600):
        seen = scene(f"test/0/{number % 100}")
        turn = chat.turn(seen, rng, "existence", chat.CARELESS)
        truth = any(f" {category} " in turn.question for category in seen.categories())
        assert truth <= turn.answer.startswith("Yes")
        wrong += turn.answer.startswith("Yes") and not truth
    assert 5 < wrong < 60
