"""`harness export --checkpoint ROW --format adapter`: which trainings' adapters make it, and where there is none."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.comparison.exporting import Made
from harness.models.adapters import WEIGHTS
from harness.store.store import Stage, Store
from reports.runs import opened
from tests.commands.test_export import World

LORA = {"r": 2, "lora_alpha": 4, "lora_dropout": 0.0, "target_modules": ["q_proj"]}
LAYER = "base_model.model.model.language_model.layers.0.self_attn.q_proj"


def adapter(folder: Path, number: int) -> None:
    """What `Roles.save` leaves of one layer."""
    folder.mkdir(parents=True)
    sides = {f"{LAYER}.lora_A.weight": torch.full((2, 3), number + 1.0), f"{LAYER}.lora_B.weight": torch.ones(3, 2)}
    save_file(sides, folder / WEIGHTS)


class Trained(World):
    """A run of one row whose trainings left these: "whole" an adapter on the base, "own" one on the round before's
    model, "none" a model alone (a very old version's, or `lora` is None), "both" a model and its adapter (an older
    version's), "other" a training of another role.
    """

    def __init__(self, folder: Path, *kinds: str, lora: Any = LORA) -> None:
        self.kinds, self.lora = kinds, lora
        super().__init__(folder, *[[] for _ in kinds])

    def made(self, number: int, store: Store) -> Stage:
        train = Stage("train", {"round": number, "training": {"lora": self.lora}})

        def body(out: Path) -> None:
            kind = self.kinds[number]
            if kind in ("none", "both"):
                self.model(out)
            if kind in ("whole", "own", "both"):
                adapter(out / ("adapters/policy" if kind == "whole" else "adapter"), number)

        store.run(train, body)
        return train


@pytest.mark.parametrize(
    ("kinds", "taken"),
    [
        (["own"], [0]),
        (["own", "own", "own"], [0, 1, 2]),  # each began with the last one's model
        (["other", "whole", "whole"], [2]),  # each went on from the last one's adapter
        (["own", "whole", "own"], [1, 2]),
        (["both", "own"], [0, 1]),
    ],
)
def test_the_adapters_since_the_base_are_taken_in_their_order(
    kinds: list[str], taken: list[int], tmp_path: Path
) -> None:
    there = Trained(tmp_path, *kinds)
    with opened([there.run]) as (run,):
        rounds = Made.of(run, "nsft", None).rounds()
    assert [load_file(folder / WEIGHTS)[f"{LAYER}.lora_A.weight"][0, 0] - 1 for folder, _ in rounds] == taken


def test_it_comes_with_a_card_and_without_a_path_of_this_machine(tmp_path: Path) -> None:
    ran = Trained(tmp_path, "own", "own").export(
        "--checkpoint", "nsft", "--format", "adapter", "--out", str(tmp_path / "x")
    )
    assert ran.exit_code == 0 and "the adapter of nsft" in ran.output, ran.output
    files = {file.name: file for file in (tmp_path / "x").iterdir()}
    assert sorted(files) == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    assert len({file.stat().st_mode for file in files.values()}) == 1
    card = files["README.md"].read_text()
    for words in ("library_name: peft", "adapter of rank 4", "m" * 64, "synthetic", "of the round before"):
        assert words in card
    assert str(tmp_path) not in card + files["adapter_config.json"].read_text()


@pytest.mark.parametrize(
    ("lora", "kinds", "why"),
    [
        (None, ["none"], "was trained in full"),
        (LORA, ["none"], "was trained by a version that kept no adapters"),
        (LORA, ["none", "both"], "was trained by a version that kept no adapters"),
    ],
)
def test_where_there_is_none_the_merged_model_is_offered(lora: Any, kinds: list[str], why: str, tmp_path: Path) -> None:
    there = Trained(tmp_path, *kinds, lora=lora)
    ran = there.export("--checkpoint", "nsft", "--format", "adapter", "--out", str(tmp_path / "x"))
    assert f"nsft, seed 0, {why}; --format merged" in str(ran.exception) and not (tmp_path / "x").exists()
    assert there.export("--checkpoint", "nsft", "--out", str(tmp_path / "y")).exit_code == 0


def test_a_damaged_adapter_is_not_passed_on(tmp_path: Path) -> None:
    there = Trained(tmp_path, "own")
    [file] = tmp_path.glob(f"store/train/*/adapter/{WEIGHTS}")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    ran = there.export("--checkpoint", "nsft", "--format", "adapter", "--out", str(tmp_path / "x"))
    assert "has changed" in str(ran.exception) and not (tmp_path / "x").exists()
