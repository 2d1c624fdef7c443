"""Weights that ZeRO-3 shards while they are read: those of the folder, and no process ever holds all of them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPImageProcessorPil, CLIPVisionConfig

from harness import families
from harness.contracts.backend import Adapted
from harness.contracts.method import Role
from harness.contracts.settings import Lora, Runtime, Training
from harness.families.llava import Squares
from harness.models.load import adapt, load, save
from harness.models.roles import Roles
from harness.models.weights import brought, gathered, insist_on_finite, shape_of
from harness.system.errors import UsageError
from harness.training import deepspeed_engine
from tests.small_models import FAMILIES, made, noise
from tests.tiny import local_rank, tiny
from tests.words import tokenizer

__all__ = ["local_rank"]


@pytest.fixture
def shards() -> dict[str, Any]:
    deepspeed_engine.distributed()
    made = deepspeed_engine.shards(Training(), Runtime(zero_stage=3), 1)
    assert made
    return made


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sharded_model_is_the_same_model(family: str, shards: dict[str, Any], tmp_path: Path) -> None:
    """Every weight, and what it makes of a picture: its features lie on the shelf under the same name."""
    folder, (picture, *_) = made(families.named(family), tmp_path / "small"), noise(tmp_path)
    whole, parts = load(folder), load(folder, shards=shards)
    sizes = {name: weight.shape for name, weight in whole.model.named_parameters()}
    assert {name: shape_of(weight) for name, weight in parts.model.named_parameters()} == sizes
    assert all(weight.numel() == 0 for weight in parts.model.parameters())
    assert parts.features.kind == whole.features.kind
    with gathered(parts.family.tower(parts.model)):
        assert torch.equal(parts.features(picture), whole.features(picture))
    brought(parts.model.parameters(), here=True)
    expected, found = whole.model.state_dict(), parts.model.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_adapters_are_merged_into_a_sharded_model_too(shards: dict[str, Any], tmp_path: Path) -> None:
    folder = made(families.named("llava"), tmp_path / "small")
    adapted = adapt(load(folder).model, Lora(r=2, lora_alpha=4), seed=0)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight)
    Roles(adapted, {}, shared_trunk=False).save(Role.POLICY, tmp_path / "adapter")
    model = Adapted(folder, (tmp_path / "adapter",))
    parts = load(model, shards=shards)
    assert all(weight.numel() == 0 for weight in parts.model.parameters())
    brought(parts.model.parameters(), here=True)
    expected, base = load(model).model.state_dict(), load(folder).model.state_dict()
    assert all(torch.equal(weight, expected[name]) for name, weight in parts.model.state_dict().items())
    assert any(not torch.equal(weight, expected[name]) for name, weight in base.items())


@pytest.mark.parametrize(
    ("harm", "said"), [("nan", "has NaN or infinity in model.language_model.norm.weight"), ("gone", "lacks")]
)
def test_a_damaged_weight_is_found_in_whoever_has_it(
    harm: str, said: str, shards: dict[str, Any], tmp_path: Path
) -> None:
    folder = made(families.named("llava"), tmp_path / "small")
    weights = load_file(folder / "model.safetensors")
    name = "language_model.model.norm.weight"
    if harm == "nan":
        weights[name][-1] = torch.nan
    else:
        del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=said):
        load(folder, shards=shards)


def test_what_lies_behind_the_end_of_a_weight_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three ranks of a weight of four: shards of two, the last of which DeepSpeed leaves as the memory was."""
    model = nn.Linear(2, 1, bias=False)
    model.weight.ds_numel = 4
    for rank, shard in enumerate([[1, 2], [3, 4], [torch.nan, torch.inf]]):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        model.weight.ds_tensor = torch.tensor(shard)
        insist_on_finite(model, "here")
    model.weight.ds_numel = 5
    with pytest.raises(UsageError, match="NaN or infinity in weight"):
        insist_on_finite(model, "here")


def test_what_is_not_sharded_stays_as_it_is() -> None:
    assert deepspeed_engine.shards(Training(), Runtime(), 2) is None
    layer = nn.Linear(2, 3)
    before = layer.weight.data_ptr()
    with gathered(layer):
        assert layer.weight.data_ptr() == before
    assert shape_of(layer.weight) == (3, 2)


RANK = """
import gc, json, sys, threading, time
from pathlib import Path
from harness.contracts.settings import Runtime, Training
from harness.models.load import load
from harness.training import deepspeed_engine as zero

small, folder, stage, *seat = sys.argv[1:]
seat = zero.Seat(int(seat[0]), int(seat[1]), seat[2])
with zero.local_rank(seat):
    zero.distributed(seat)
    shards = zero.shards(Training(), Runtime(zero_stage=int(stage)), seat.world)
    load(small, shards=shards)  # whatever is imported
    seen, over = [], False

    def resident():
        while not over:
            lines = Path("/proc/self/status").read_text().splitlines()
            lines = [line.split() for line in lines if line[:3] in ("VmR", "Rss")]
            seen.append({name[:-1]: int(size) * 1024 for name, size, *_ in lines})
            time.sleep(0.002)

    watch = threading.Thread(target=resident)
    watch.start()
    time.sleep(0.1)
    load(folder, shards=shards)
    over = True
    watch.join()
print(json.dumps({name: max(one[name] for one in seen) - seen[0][name] for name in ("VmRSS", "RssAnon")}))
"""


def peaks(small: Path, folder: Path, stage: int) -> list[dict[str, int]]:
    """By rank of two, how much more memory is resident at the worst moment of loading; RssAnon: no mapped files."""
    rendezvous, root = folder.parent / f"rendezvous-{stage}", str(Path(__file__).parents[2])
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "100000", "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(small), str(folder), str(stage), str(rank), "2", str(rendezvous)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
        )
        for rank in range(2)
    ]  # fmt: skip
    told = [rank.communicate(timeout=300) for rank in ranks]
    assert not any(rank.returncode for rank in ranks), told
    return [json.loads(out.splitlines()[-1]) for out, _ in told]


@pytest.mark.heavy
def test_no_process_ever_holds_a_whole_model(tmp_path: Path) -> None:
    """250 MB over two: half, the largest weight, and a little; rank 0 maps the file from which it reads beside it."""
    words, small, wide = tokenizer("<image>"), tmp_path / "small", tmp_path / "wide"
    eyes = Squares(CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}), places=4)
    save(tiny(32, 2, len(words)), words, eyes, small)
    vision = CLIPVisionConfig(
        hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=16, patch_size=8
    )
    save(tiny(1024, 6, len(words), vision), words, eyes, wide)
    whole = (wide / "model.safetensors").stat().st_size
    assert whole > 200e6
    most = 0.5 * whole + 0.15 * whole
    first, second = peaks(small, wide, 3)
    assert first["RssAnon"] < most and second["VmRSS"] < most
    _, usual = peaks(small, wide, 2)
    assert usual["VmRSS"] > 0.9 * whole  # the mutant that loads as the other stages do
