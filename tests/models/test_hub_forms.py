"""Folders as they lie on the hub, which differ from those that a training saves: all load, and say the same."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness import families
from harness.contracts.records import Pair
from harness.models.folder import inspect
from harness.models.load import load, save
from harness.models.logps import Policy
from harness.models.tree import pack, tree
from tests.small_models import made
from tests.words import tokenizer

WEIGHTS = "model.safetensors"


def config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    told = json.loads((folder / "config.json").read_text())
    change(told)
    (folder / "config.json").write_text(json.dumps(told))


def renamed(folder: Path, name: Callable[[str], str]) -> None:
    stored = {name(one): weight for one, weight in load_file(folder / WEIGHTS).items()}
    save_file(stored, folder / WEIGHTS, metadata={"format": "pt"})


def flat(told: dict[str, Any]) -> None:
    """As Qwen2-VL and Qwen2.5-VL have it: the language model's fields beside the tower's."""
    text = told.pop("text_config")
    told |= {name: value for name, value in text.items() if name not in ("model_type", "rope_parameters")}
    told["rope_scaling"] = {"type": "mrope", "mrope_section": [2, 1, 1]}
    told["rope_theta"] = text["rope_parameters"]["rope_theta"]


def as_modules(name: str) -> str:
    """As transformers' model calls its weights; some save them so."""
    return families.named("qwen2_5_vl").module_name(name)


def untold(told: dict[str, Any]) -> None:
    """A head of its own, of which the config says nothing."""
    del told["tie_word_embeddings"]
    told["text_config"]["tie_word_embeddings"] = False


FORMS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a flat config of Qwen2-VL": ("qwen2_vl", lambda folder: config(folder, flat)),
    "a flat config of Qwen2.5-VL": ("qwen2_5_vl", lambda folder: config(folder, flat)),
    "names of modules": ("qwen2_5_vl", lambda folder: renamed(folder, as_modules)),
    "InternVL's head of its own": ("internvl", lambda folder: config(folder, untold)),
}


def logps(folder: Path) -> torch.Tensor:
    loaded = load(folder)
    with torch.no_grad():
        return Policy(loaded.model)(pack([tree(Pair("p", None, "what is it", "a cat", "no"), loaded)], loaded))


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_of_the_hub_is_the_same_model(tmp_path: Path, form: str) -> None:
    name, change = FORMS[form]
    folder = made(families.named(name), tmp_path / "model")
    before, said = logps(folder), inspect(folder)
    change(folder)
    assert inspect(folder).linear_layers == said.linear_layers and inspect(folder).places == said.places
    assert inspect(folder).architecture == said.architecture
    assert torch.equal(logps(folder), before)


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl"])
def test_tied_embeddings_are_written_once_and_tied_again(tmp_path: Path, name: str) -> None:
    family = families.named(name)
    words = tokenizer(family.image_token, *family.control, **family.named)
    told, processor = family.small(words)
    told.tie_word_embeddings = told.text_config.tie_word_embeddings = True
    save(family.model_class()(told), words, family.eyes(lambda kind: processor, told), tmp_path / "tied")
    assert not any("lm_head" in one for one in load_file(tmp_path / "tied" / WEIGHTS))
    model = load(tmp_path / "tied").model
    assert model.lm_head.weight is model.get_input_embeddings().weight
