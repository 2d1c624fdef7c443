"""A checkpoint is what others can load: plain transformers makes the same tokens, pixels and log-probs of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoProcessor, LlavaForConditionalGeneration

import harness.models.hublayout
from harness.contracts.records import Conversation, Image, Turn
from harness.families.llava import Llava
from harness.models.load import Loaded, load, save
from harness.models.reference import figures
from harness.models.roles import Roles
from harness.models.tree import tree
from harness.store.digest import file_digest
from harness.system.errors import HarnessError
from harness.system.profile import quiet

LLAVA = Llava()

TURNS = (Turn("what is there?\n  a  cat", "a red cat."), Turn("is there a dog", " no "), Turn("two", "the ball"))
SIZES = ((37, 11), (11, 37), (16, 16), (17, 16), (1, 40), (64, 63))


@pytest.fixture
def saved(loaded: Loaded, tmp_path: Path) -> Path:
    save(loaded.model, loaded.tokenizer, loaded.eyes, tmp_path / "saved")
    return tmp_path / "saved"


def messages(turns: tuple[Turn, ...], image: bool = True, plain: bool = False) -> list[dict[str, Any]]:
    """A conversation as `apply_chat_template` takes it."""
    made: list[dict[str, Any]] = []
    for number, turn in enumerate(turns):
        picture = [{"type": "image"}] if image and not number else []
        asked = turn.question if plain and not picture else [*picture, {"type": "text", "text": turn.question}]
        made.append({"role": "user", "content": asked})
        made.append({"role": "assistant", "content": turn.answer if plain else [{"type": "text", "text": turn.answer}]})
    return made


@pytest.mark.parametrize("image", [True, False])
@pytest.mark.parametrize("plain", [True, False])
def test_the_processor_s_template_is_ours(saved: Path, loaded: Loaded, image: bool, plain: bool) -> None:
    processor = AutoProcessor.from_pretrained(saved)
    for count in (1, 2, 3):
        told = messages(TURNS[:count], image, plain)
        ours = "".join(text for text, _ in LLAVA.segments(TURNS[:count], image, loaded.tokenizer.eos_token))
        assert processor.apply_chat_template(told) == ours
        asked = "".join(
            text
            for text, _ in LLAVA.prompt(
                TURNS[count - 1].question, TURNS[: count - 1], image, loaded.tokenizer.eos_token
            )
        )
        assert processor.apply_chat_template(told[:-1], add_generation_prompt=True) == asked


def test_a_system_turn_takes_the_place_of_the_usual_one(saved: Path) -> None:
    told = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "what"}]
    processor = AutoProcessor.from_pretrained(saved)
    assert processor.apply_chat_template(told, add_generation_prompt=True) == "Be brief. USER: what ASSISTANT:"


def odd(folder: Path, size: tuple[int, int]) -> Image:
    """A picture of any shape, noise in every pixel."""
    path = folder / f"{size}.png"
    noise = np.random.default_rng(size[0]).integers(0, 255, (*size, 3), dtype=np.uint8)
    PIL.Image.fromarray(noise).save(path)
    return Image(str(path), file_digest(path))


def by_others(folder: Path, image: Image, padded: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and the log-probs of each next token, by transformers alone on a picture that nobody padded."""
    processor = AutoProcessor.from_pretrained(folder)
    processor.image_processor.do_pad = padded
    model = LlavaForConditionalGeneration.from_pretrained(folder).eval()
    text = processor.apply_chat_template(messages(TURNS))
    with PIL.Image.open(image.path) as picture:
        given = processor(text=text, images=picture, return_tensors="pt")
    with torch.no_grad():
        logits = model(**given).logits[0]
    ids = given["input_ids"][0]
    return ids, logits[:-1].log_softmax(-1).gather(-1, ids[1:, None])[:, 0]


@pytest.mark.parametrize("size", SIZES)
def test_transformers_alone_gives_our_log_probs(saved: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    image = odd(tmp_path, size)
    ours = load(saved)
    made = tree(Conversation("c", image, (TURNS,)), ours)
    [branch] = made.branches
    wanted = figures(Roles(ours.model, {}, False), ours, [made], 1, ["policy"], quiet)["c"]["policy"]
    ids, logps = by_others(saved, image)
    assert tuple(ids.tolist()) == made.prefix + branch.ids
    supervised = torch.tensor((*(False,) * (len(made.prefix) - 1), *branch.supervised))
    assert (logps[supervised] - wanted).abs().max() < 1e-5
    if size[0] != size[1]:  # the mutant: a processor that does not pad
        assert (by_others(saved, image, padded=False)[1][supervised] - wanted).abs().max() > 1e-3


def test_names_and_files_are_the_hub_s(saved: Path, loaded: Loaded) -> None:
    names = set(load_file(saved / "model.safetensors"))
    assert {name.split(".layers.")[0] for name in names if ".layers." in name} == {
        "language_model.model",
        "vision_tower.vision_model.encoder",
    }
    assert {"language_model.lm_head.weight", "multi_modal_projector.linear_1.bias"} <= names
    assert "vision_tower.vision_model.embeddings.class_embedding" in names
    nested = json.loads((saved / "processor_config.json").read_text())["image_processor"]
    alone = json.loads((saved / "preprocessor_config.json").read_text())
    for one in (nested, alone):
        assert one["do_pad"] is True and one["image_processor_type"] == "LlavaImageProcessor"
    assert (saved / "chat_template.jinja").is_file()
    with pytest.raises(HarnessError, match=r"the weight q\.weight is no part"):
        LLAVA.hub_name("q.weight")


def test_a_large_model_is_cut_into_files_with_an_index(
    loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness.models.hublayout, "SHARD", "50KB")
    save(loaded.model, loaded.tokenizer, loaded.eyes, tmp_path / "cut")
    assert (tmp_path / "cut" / "model.safetensors.index.json").is_file()
    again = load(tmp_path / "cut").model.state_dict()
    assert all(torch.equal(again[name], weight) for name, weight in loaded.model.state_dict().items())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tied_embeddings_are_written_once_and_load_tied(loaded: Loaded, tmp_path: Path, dtype: str) -> None:
    model = loaded.model.to(getattr(torch, dtype))
    model.config.tie_word_embeddings = model.config.text_config.tie_word_embeddings = True
    model.lm_head.weight = model.get_input_embeddings().weight
    save(model, loaded.tokenizer, loaded.eyes, tmp_path / "tied")
    assert not any("lm_head" in name for name in load_file(tmp_path / "tied" / "model.safetensors"))
    again = load(tmp_path / "tied", dtype).model  # type: ignore[arg-type]
    assert again.lm_head.weight is again.get_input_embeddings().weight
    assert torch.equal(again.lm_head.weight, model.lm_head.weight)
    assert json.loads((tmp_path / "tied" / "config.json").read_text())["dtype"] == dtype
