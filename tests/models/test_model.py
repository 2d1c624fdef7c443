"""Models in and out: whole folders, pinned, plain data; pixels as LLaVA-1.5 makes them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from transformers import AutoTokenizer, CLIPImageProcessorPil, LlavaForConditionalGeneration

from harness.contracts.backend import Adapted
from harness.contracts.family import Layout
from harness.contracts.method import Role
from harness.contracts.records import Image
from harness.contracts.settings import Lora
from harness.families.llava import square
from harness.models.load import Loaded, adapt, load, revision, save
from harness.models.logps import Policy
from harness.models.roles import Roles
from harness.models.tree import Branch, Tree, pack
from harness.system.errors import HarnessError, UsageError


def test_what_is_saved_is_what_was_loaded(folder: Path, pictures: list[Image], tmp_path: Path) -> None:
    loaded = load(folder)
    save(loaded.model, loaded.tokenizer, loaded.eyes, tmp_path / "again")
    plain = LlavaForConditionalGeneration.from_pretrained(tmp_path / "again").state_dict()
    assert all(torch.equal(value, plain[name]) for name, value in loaded.model.state_dict().items())
    text = "a cat zebra\n é 日"
    words = AutoTokenizer.from_pretrained(tmp_path / "again")
    assert words(text)["input_ids"] == loaded.tokenizer(text)["input_ids"]
    assert words.decode(words(text)["input_ids"]) == text
    assert CLIPImageProcessorPil.from_pretrained(tmp_path / "again").crop_size == loaded.eyes.processor.crop_size
    assert loaded.eyes.layout(pictures[0]).places == 4
    assert not any(p.requires_grad for p in loaded.model.model.vision_tower.parameters())


def test_revision_follows_the_bytes_not_the_place(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    first = revision(folder)
    assert revision(copy) == revision(str(copy)) == first
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert revision(copy) != first
    assert revision("llava-hf/llava-1.5-7b-hf@" + "0a" * 20) == "llava-hf/llava-1.5-7b-hf@" + "0a" * 20


def test_revision_needs_no_torch() -> None:
    code = "import sys, harness.models.load; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("name", ["llava-hf/llava-1.5-7b-hf", "llava-hf/llava-1.5-7b-hf@main", "nowhere"])
def test_a_model_must_be_pinned_or_here(name: str) -> None:
    with pytest.raises(UsageError, match="owner/name@<40-hex commit>"):
        load(name)


def test_pickles_and_outside_files_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"not opened")
    with pytest.raises(UsageError, match="pickles are refused"):
        load(tmp_path)
    (tmp_path / "model-1.safetensors").write_bytes(b"")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../x.safetensors"}}')
    with pytest.raises(UsageError, match=r"names '\.\./\.\./x\.safetensors'"):
        load(tmp_path)


def test_another_architecture_is_refused(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(UsageError, match="'llama' model"):
        load(tmp_path)


def test_adapters_off_is_the_base_to_the_bit(folder: Path, pictures: list[Image], tmp_path: Path) -> None:
    base, loaded = load(folder), load(folder)
    model = adapt(loaded.model, Lora(r=2, lora_alpha=4), seed=0)
    learns = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert all(any(module in name for name in learns) for module in Lora().target_modules)
    assert not [name for name in learns if "language_model" not in name or "lora" not in name]
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    one = Tree("t", pictures[0], (7, 4, 4, 4, 4), (Branch((8, 9), (True, True)),), layout=Layout(4))
    batch = pack([one], base)
    with torch.no_grad():
        plain, adapted = Policy(base.model)(batch), Policy(model)(batch)
        with model.disable_adapter():
            off = Policy(model)(batch)
    assert torch.equal(off, plain)
    assert not torch.equal(adapted, plain)
    Roles(model, {}, shared_trunk=False).save(Role.POLICY, tmp_path / "adapter")
    with torch.no_grad():
        merged = load(Adapted(folder, (tmp_path / "adapter",)))
        assert torch.allclose(Policy(merged.model)(batch), adapted, atol=1e-5)


def test_square_is_llava_s_padding() -> None:
    wide = PIL.Image.new("RGB", (6, 2), (255, 0, 0))
    padded = np.asarray(square(wide, (1, 2, 3)))
    assert padded.shape == (6, 6, 3)
    assert (padded[2:4] == (255, 0, 0)).all()
    assert (padded[:2] == (1, 2, 3)).all()
    assert (padded[4:] == (1, 2, 3)).all()
    assert square(padded_square := PIL.Image.new("RGB", (3, 3)), (0, 0, 0)) is padded_square


def test_pixels_are_a_square_and_blank_is_its_mean_colour(loaded: Loaded, pictures: list[Image]) -> None:
    assert loaded.eyes.pixels(pictures[0]).shape == (3, 16, 16)
    assert loaded.eyes.blank(loaded.eyes.layout(pictures[0])).abs().max() < 0.02


def test_a_picture_that_changed_is_named(loaded: Loaded, pictures: list[Image], tmp_path: Path) -> None:
    other = tmp_path / "other.png"
    other.write_bytes(Path(pictures[0].path).read_bytes())
    with pytest.raises(HarnessError, match=r"other\.png"):
        loaded.eyes.pixels(Image(str(other), pictures[1].sha256))
