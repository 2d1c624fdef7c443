"""Adapters go on the language model's linear layers; a name that is none of them is a sentence before any work."""

from pathlib import Path

import pytest

import harness.mini
from harness.comparison.preflight import check
from harness.comparison.request import request
from harness.contracts.settings import Lora, Testbed
from harness.models.folder import inspect
from harness.models.load import adapt, load
from harness.models.targets import targets
from harness.system.errors import UsageError

BASE = Path(harness.mini.__file__).parent / "bases" / "0"
LINEAR = inspect(BASE).linear_layers
Q = [f"model.language_model.layers.{layer}.self_attn.q_proj" for layer in range(3)]


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (("q_proj",), Q),
        (("self_attn.q_proj",), Q),
        ((Q[1],), Q[1:2]),
        (r".*layers\.[01]\..*\.q_proj", Q[:2]),
        (r".*\.q_proj", Q),
        ("all-linear", LINEAR),
    ],
)
def test_names_expressions_and_all_are_read_as_peft_reads_them(
    wanted: tuple[str, ...] | str, chosen: list[str]
) -> None:
    """The tower has layers named q_proj too; none of them is ever chosen, by headers and in the model itself."""
    lora = Lora(r=2, target_modules=wanted)
    assert targets(lora, LINEAR) == chosen
    adapted = adapt(load(BASE).model, lora, seed=0)
    on = {name.partition(".lora_A.")[0] for name, weight in adapted.named_parameters() if ".lora_A." in name}
    assert on == {f"base_model.model.{name}" for name in chosen}


def planned(*sets: str) -> None:
    """What happens to a command line before anything is planned."""
    words = [f"training.lora={{r: 4, target_modules: {one}}}" for one in sets]
    bed, asked, _ = request("sft", "llava150k", "", "mini", 1, "pope", 16, 8, words, 1)
    check(asked, bed)


@pytest.mark.parametrize("wrong", ["[qproj]", "[lm_head]", "[q_proj, qproj]", "qproj", "'.*vision_tower.*'", "'(['"])
def test_a_wrong_name_is_a_sentence_that_says_what_there_is(wrong: str) -> None:
    with pytest.raises(UsageError, match=r"target_modules: .*There are .*q_proj"):
        planned(wrong)


@pytest.mark.parametrize("right", ["[q_proj, v_proj]", "all-linear", "'.*mlp.*'"])
def test_a_right_name_is_planned(right: str) -> None:
    planned(right)


@pytest.mark.parametrize("fields", [{"target_modules": ()}, {"target_modules": ""}, {"r": 0}, {"lora_dropout": 1.0}])
def test_adapters_of_nothing_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"target_modules|\br\b|lora_dropout"):
        Lora.model_validate(fields)


def test_a_folder_that_is_not_whole_is_refused_before_a_plan(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "kosmos-2"}')
    bed, asked, _ = request("sft", "llava150k", "", "mini", 1, "pope", 16, 8, [], 1)
    other: Testbed = bed.model_copy(update={"models": (str(tmp_path),)})
    with pytest.raises(UsageError, match="'kosmos-2' model"):
        check(asked, other)
