"""Adapters beside a base in vLLM: one that does what several do, and none of which vLLM would leave a part out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from harness import families
from harness.backends._vllm_adapters import write_one
from harness.contracts.backend import Adapted
from harness.models.adapters import CONFIG, WEIGHTS
from harness.system.errors import HarnessError

LAYER = "model.language_model.layers.0.self_attn.q_proj"
TOWER = "model.vision_tower.vision_model.encoder.layers.0.self_attn.q_proj"


def adapter(folder: Path, r: int = 2, alpha: int = 4, layers: Sequence[str] = (LAYER,), **odd: Any) -> Path:
    """What a training leaves of layers of 5 x 3 weights."""
    torch.manual_seed(r)
    sides = {"lora_A": (r, 3), "lora_B": (5, r)}
    save_file(
        {
            f"base_model.model.{layer}.{side}.weight": torch.randn(shape)
            for layer in layers
            for side, shape in sides.items()
        },
        (folder.mkdir(), folder / WEIGHTS)[1],
    )
    LoraConfig(r=r, lora_alpha=alpha, target_modules=[*layers], **odd).save_pretrained(str(folder))
    return folder


def product(folder: Path, scale: float) -> torch.Tensor:
    weights = load_file(folder / WEIGHTS)
    a, b = (weights[f"base_model.model.{LAYER}.lora_{side}.weight"] for side in "AB")
    return scale * (b @ a)


def one(tmp_path: Path, *adapters: Path, most: int = 16) -> Path:
    write_one(Adapted(tmp_path, adapters), families.named("llava"), most, tmp_path / "one")
    return tmp_path / "one"


def test_one_does_what_several_do_one_after_the_other(tmp_path: Path) -> None:
    first, second = adapter(tmp_path / "a", 2, 4), adapter(tmp_path / "b", 8, 4)
    made = one(tmp_path, first, second)
    config = LoraConfig.from_pretrained(str(made))
    assert (config.r, config.lora_alpha) == (10, 10)
    assert torch.allclose(product(made, 1.0), product(first, 2.0) + product(second, 0.5), atol=1e-6)


def test_a_single_one_is_as_it_was_trained(tmp_path: Path) -> None:
    made = one(tmp_path, first := adapter(tmp_path / "a", 2, 4))
    before, after = (load_file(folder / WEIGHTS) for folder in (first, made))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert LoraConfig.from_pretrained(str(made)).lora_alpha == 4 and str(tmp_path) not in (made / CONFIG).read_text()


@pytest.mark.parametrize(
    "layer", [TOWER, "lm_head", "model.language_model.embed_tokens", "model.multi_modal_projector.linear_1"]
)
def test_what_vllm_would_leave_out_is_refused_by_its_name(layer: str, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=rf"{layer}.* no layer that vLLM adapts; max_lora_rank: 0 merges"):
        one(tmp_path, adapter(tmp_path / "a", layers=(LAYER, layer)))
    assert not (tmp_path / "one").exists()


def test_weights_beside_the_matrices_are_refused(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a")
    saved = load_file(folder / WEIGHTS) | {f"base_model.model.{LAYER}.lora_magnitude_vector": torch.ones(5)}
    save_file(saved, folder / WEIGHTS)
    with pytest.raises(HarnessError, match="lora_magnitude_vector"):
        one(tmp_path, folder)


@pytest.mark.parametrize(
    "odd",
    [
        {"use_dora": True},
        {"use_rslora": True},
        {"modules_to_save": ["lm_head"]},
        {"bias": "all"},
        {"rank_pattern": {"q": 1}},
    ],
    ids=lambda odd: next(iter(odd)),
)
def test_whatever_else_makes_an_adapter_is_refused(odd: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=f"has {next(iter(odd))}=.*, which vLLM would leave out"):
        one(tmp_path, adapter(tmp_path / "a", **odd))


@pytest.mark.parametrize(
    ("ranks", "most", "said"),
    [
        ([8], 8, ""),
        ([9], 8, r"has rank 9, above max_lora_rank=8; max_lora_rank: 16 has room for it, and max_lora_rank: 0 merges"),
        ([5, 6], 8, r"has rank 11 with those before it, 2 in all, above max_lora_rank=8; max_lora_rank: 16 has room"),
        ([300, 301], 512, r"above max_lora_rank=512; max_lora_rank: 0 merges"),
    ],
)
def test_a_rank_above_the_room_is_refused_with_the_room_that_it_takes(
    ranks: list[int], most: int, said: str, tmp_path: Path
) -> None:
    folders = [adapter(tmp_path / f"{n}", rank) for n, rank in enumerate(ranks)]
    if not said:
        assert one(tmp_path, *folders, most=most).is_dir()
        return
    with pytest.raises(HarnessError, match=said):
        one(tmp_path, *folders, most=most)


def test_adapters_on_other_layers_than_the_first_are_refused(tmp_path: Path) -> None:
    more = adapter(tmp_path / "b", layers=(LAYER, LAYER.replace("q_proj", "k_proj")))
    with pytest.raises(HarnessError, match=r"b is on other layers than .*a;"):
        one(tmp_path, adapter(tmp_path / "a"), more)
