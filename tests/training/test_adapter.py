"""What a training's adapter learned, taken elsewhere: peft puts it on the base, and the model is the merged one."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from harness.contracts.backend import Adapted, Model
from harness.contracts.records import Image
from harness.contracts.settings import Lora
from harness.models.adapters import WEIGHTS, write_adapter
from harness.models.load import kept, load, revision, write_whole
from harness.models.logps import Policy
from harness.models.tree import pack, tree
from harness.system.errors import UsageError
from harness.training.engine import train
from harness.training.job import Job
from tests.trainings import pairs, policy

LORA = Lora(r=4, lora_alpha=12, target_modules="all-linear")


def logps(folder: Model, pictures: list[Image], adapter: Path | None = None) -> torch.Tensor:
    """Of ten pairs under a model, with peft's adapter on it."""
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
    merged, base = logps(policy(made), pictures), logps(Path(made.model), pictures)
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
    right = logps(policy(made), pictures)
    if mutant is None:
        weights = load_file(out / "adapter" / WEIGHTS)
        save_file({n: w * ("lora_A" in n) for n, w in weights.items()}, out / "adapter" / WEIGHTS)
    write_adapter([(out / "adapter", mutant or LORA)], tmp_path / "taken")
    wrong = logps(Path(made.model), pictures, tmp_path / "taken")
    assert not torch.allclose(wrong, right, atol=1e-3)


def test_rounds_that_each_began_with_the_last_ones_model_are_one_adapter(  # type: ignore[no-untyped-def]
    job, pictures: list[Image], tmp_path: Path
) -> None:
    second = LORA.model_copy(update={"r": 2, "lora_alpha": 2})
    first = job("one", lora=LORA, learning_rate=1e-2)
    before = trained(first)
    then = job("two", lora=second, learning_rate=1e-2).model_copy(update={"merged": (str(before / "adapter"),)})
    after = trained(then)
    rounds = [(before / "adapter", LORA), (after / "adapter", second)]
    assert write_adapter(rounds, tmp_path / "both") == 6
    assert write_adapter(rounds[1:], tmp_path / "last") == 2
    whole = logps(policy(then), pictures)
    assert torch.allclose(logps(Path(first.model), pictures, tmp_path / "both"), whole, atol=1e-5)
    assert not torch.allclose(logps(Path(first.model), pictures, tmp_path / "last"), whole, atol=1e-3)


def test_a_training_in_full_has_no_adapter(job) -> None:  # type: ignore[no-untyped-def]
    assert sorted(path.name for path in trained(job()).iterdir()) == ["checkpoint", "log.jsonl", "summary.json"]


@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.heavy), "bfloat16"])
def test_what_is_loaded_is_the_base_plus_each_round_s_product_to_the_bit(  # type: ignore[no-untyped-def]
    job, tmp_path: Path, dtype: str
) -> None:
    """In the dtype that it was trained in, each round rounded before the next; then in the one that is asked for."""
    first = job("one", lora=LORA, learning_rate=1e-2, dtype=dtype)
    trained(first)
    second = job("two", lora=LORA, learning_rate=1e-2, dtype=dtype)
    second = second.model_copy(update={"merged": (str(Path(first.out) / "adapter"),)})
    trained(second)
    made = policy(second)
    assert isinstance(made, Adapted) and len(made.adapters) == 2
    expected = load(first.model, dtype).model.state_dict()  # type: ignore[arg-type]
    before = {name: weight.clone() for name, weight in expected.items()}
    for folder in made.adapters:
        for name, down in load_file(folder / WEIGHTS).items():
            if name.endswith(".lora_A.weight"):
                up = load_file(folder / WEIGHTS)[name.replace("lora_A", "lora_B")]
                weight = expected[name.removeprefix("base_model.model.").replace(".lora_A", "")]
                weight += ((up.float() @ down.float()) * (LORA.lora_alpha / LORA.r)).to(weight)
    found = load(made, dtype).model.state_dict()  # type: ignore[arg-type]
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())
    assert any(not torch.equal(before[name], weight) for name, weight in expected.items())
    turned = load(Adapted(made.base, made.adapters[::-1]), "bfloat16").model.state_dict()
    assert dtype == "float32" or any(not torch.equal(turned[name], weight) for name, weight in expected.items())
    wide = load(made, "float32").model.state_dict()
    assert all(torch.equal(wide[name], weight.float()) for name, weight in expected.items())
    write_whole(made, tmp_path / "whole")
    written = load(tmp_path / "whole", dtype).model.state_dict()  # type: ignore[arg-type]
    assert all(torch.equal(written[name], weight) for name, weight in expected.items())


def test_a_model_is_another_with_other_adapters_or_in_another_order(job) -> None:  # type: ignore[no-untyped-def]
    one, other = (trained(job(name, lora=LORA, learning_rate=rate)) for name, rate in (("a", 1e-2), ("b", 2e-2)))
    base, folders = Path(job().model), (one / "adapter", other / "adapter")
    models = [base, Adapted(base, folders[:1]), Adapted(base, folders[1:]), Adapted(base, folders)]
    models.append(Adapted(base, folders[::-1]))
    assert len({revision(model) for model in models}) == 5
    assert revision(Adapted(base, ())) == revision(base)
    first = kept(models[1])
    assert kept(models[1]) is first and kept(models[2]) is not first


def test_adapters_that_went_astray_are_named_and_not_the_base(job, pictures: list[Image]) -> None:  # type: ignore[no-untyped-def]
    made = job(lora=LORA)
    file = trained(made) / "adapter" / WEIGHTS
    save_file({name: weight * torch.inf for name, weight in load_file(file).items()}, file)
    with pytest.raises(UsageError, match=r"with the adapters of .*adapter has NaN .* lower learning_rate"):
        load(policy(made))
