"""What a training's adapter learned, taken elsewhere: peft puts it on the base, and the model is the merged one."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from harness.contracts.records import Image
from harness.contracts.settings import Lora
from harness.models.adapters import write_adapter
from harness.models.load import load
from harness.models.logps import Policy
from harness.models.roles import WEIGHTS
from harness.models.tree import pack, tree
from harness.training.engine import train
from harness.training.job import Job
from tests.trainings import pairs

LORA = Lora(r=4, lora_alpha=12, target_modules="all-linear")


def logps(folder: Path, pictures: list[Image], adapter: Path | None = None) -> torch.Tensor:
    """Of ten pairs under a model's folder, with peft's adapter on it."""
    loaded = load(folder)
    batch = pack([tree(pair, loaded) for pair in pairs(pictures)], loaded)
    model = PeftModel.from_pretrained(loaded.model, str(adapter)) if adapter else loaded.model
    with torch.no_grad():
        return Policy(model.eval())(batch)


def trained(made: Job) -> Path:
    train(made)
    return Path(made.out)


def test_peft_puts_it_on_the_base_and_has_the_merged_model(job, pictures: list[Image], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    made = job(lora=LORA, learning_rate=1e-2)
    out = trained(made)
    assert write_adapter([(out / "adapter", LORA)], tmp_path / "taken") == 4
    merged, base = logps(out / "checkpoint", pictures), logps(Path(made.model), pictures)
    assert torch.allclose(logps(Path(made.model), pictures, tmp_path / "taken"), merged, atol=1e-5)
    assert (merged - base).abs().max() > 1e-2  # it has learned something
    config = json.loads((tmp_path / "taken" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (4, 12, "LORA")
    assert config["base_model_name_or_path"] is None and "vision" not in config["target_modules"]


@pytest.mark.parametrize("mutant", [LORA.model_copy(update={"lora_alpha": 4}), None], ids=["scale", "sides"])
def test_with_another_scale_or_its_sides_apart_it_would_be_another_model(  # type: ignore[no-untyped-def]
    job, pictures: list[Image], tmp_path: Path, mutant: Lora | None
) -> None:
    """The mutants: a scale that is not the training's, and a B of zeros, as before the first step."""
    made = job(lora=LORA, learning_rate=1e-2)
    out = trained(made)
    if mutant is None:
        weights = load_file(out / "adapter" / WEIGHTS)
        save_file({n: w * ("lora_A" in n) for n, w in weights.items()}, out / "adapter" / WEIGHTS)
    write_adapter([(out / "adapter", mutant or LORA)], tmp_path / "taken")
    wrong = logps(Path(made.model), pictures, tmp_path / "taken")
    assert not torch.allclose(wrong, logps(out / "checkpoint", pictures), atol=1e-3)


def test_rounds_that_each_began_with_the_last_ones_model_are_one_adapter(  # type: ignore[no-untyped-def]
    job, pictures: list[Image], tmp_path: Path
) -> None:
    second = LORA.model_copy(update={"r": 2, "lora_alpha": 2})
    first = job("one", lora=LORA, learning_rate=1e-2)
    before = trained(first)
    then = job("two", lora=second, learning_rate=1e-2).model_copy(update={"model": str(before / "checkpoint")})
    after = trained(then)
    rounds = [(before / "adapter", LORA), (after / "adapter", second)]
    assert write_adapter(rounds, tmp_path / "both") == 6
    assert write_adapter(rounds[1:], tmp_path / "last") == 2
    whole = logps(after / "checkpoint", pictures)
    assert torch.allclose(logps(Path(first.model), pictures, tmp_path / "both"), whole, atol=1e-5)
    assert not torch.allclose(logps(Path(first.model), pictures, tmp_path / "last"), whole, atol=1e-3)


def test_a_training_in_full_has_no_adapter(job) -> None:  # type: ignore[no-untyped-def]
    assert sorted(path.name for path in trained(job()).iterdir()) == ["checkpoint", "log.jsonl", "summary.json"]
