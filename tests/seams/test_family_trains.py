"""Every model family is trained by the real engine: what learns, what does not, and a checkpoint that others load.

A family is tested by being there, in `harness/families/` or as one file in `tests/outside/family/`.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from harness import families
from harness.contracts.backend import Adapted
from harness.contracts.records import Conversation, Image, Pair, Record, Turn
from harness.contracts.settings import Lora, Runtime, Training
from harness.models.load import load, write_whole
from harness.models.reference import reference_logps
from harness.system.jsonl import write_jsonl
from harness.training.engine import train
from harness.training.job import Job, TrainResult
from tests.seams.test_family import processor_of
from tests.small_models import FAMILIES, SIZES, made, noise
from tests.trainings import lines, policy, rollouts
from tests.trl_side import SIZE, farthest, ours, trls

ADAPTERS = Lora(r=4, lora_alpha=8, target_modules="all-linear")


# Fixed places per picture, and positions in three dimensions; the others are trained by `make test-all`.
OFTEN = ("llava", "qwen2_5_vl")


@pytest.fixture(
    scope="module", params=[pytest.param(one, marks=() if one in OFTEN else pytest.mark.heavy) for one in FAMILIES]
)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return made(families.named(request.param), tmp_path_factory.mktemp(request.param) / "small")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Image]:
    return noise(tmp_path_factory.mktemp("pictures"), (*SIZES, (40, 50)))


@pytest.fixture(autouse=True)
def local_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")


def conversations(pictures: Sequence[Image]) -> list[Record]:
    """About pictures of every shape, and one about none; answers of unequal length."""
    turns = [(Turn("what is there", "a red cat " * (n % 3 + 1)), Turn("is it red", "yes")) for n in range(8)]
    return [Conversation(f"c{n}", pictures[n % 6] if n != 5 else None, (turns[n][: 1 + n % 2],)) for n in range(8)]


def pairs(pictures: Sequence[Image]) -> list[Record]:
    return [Pair(f"p{n}", pictures[n % 6], "what is there", "a dog" + " red" * (n % 3), "no cat") for n in range(8)]


def task(folder: Path, home: Path, method: str, records: list[Record], number: int = 0, **fields: Any) -> Job:
    """A job of two steps in a folder of its own; fields of Training and Runtime by name."""
    (home / "out").mkdir(parents=True)
    write_jsonl(home / "records.jsonl", records)
    training: dict[str, Any] = {"learning_rate": 1e-3, "train_batch_size": 4}
    runtime: dict[str, Any] = {"per_device_train_batch_size": 4, "zero_stage": 0}
    training |= {name: value for name, value in fields.items() if name in Training.model_fields}
    runtime |= {name: value for name, value in fields.items() if name in Runtime.model_fields}
    job = Job(
        method=method, options={}, records=str(home / "records.jsonl"), model=str(folder), round=number,
        training=Training.model_validate(training), runtime=Runtime.model_validate(runtime), seed=3,
        out=str(home / "out"), work=str(home / "work"),
    )  # fmt: skip
    if method != "dpo":
        return job
    reference_logps(job.model, records, job.runtime, home / "logps.safetensors", dtype=job.training.dtype)
    return job.model_copy(update={"reference": str(home / "logps.safetensors")})


def trained(job: Job) -> dict[str, Tensor]:
    """The weights of the policy, as the files of a folder name them; plain transformers loads it."""
    train(job)
    made = policy(job)
    checkpoint = made if isinstance(made, Path) else Path(job.work) / "whole"
    if isinstance(made, Adapted):
        write_whole(made, checkpoint)
    plain = families.named(families.of(load(checkpoint).model.config).config_class().model_type)
    _, info = plain.model_class().from_pretrained(checkpoint, output_loading_info=True)
    assert not any(info[part] for part in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return load_file(checkpoint / "model.safetensors")


def changed(folder: Path, now: dict[str, Tensor]) -> set[str]:
    """Names of the weights, as the model calls them, that are others than the base's."""
    family, before = families.of(load(folder).model.config), load_file(folder / "model.safetensors")
    assert before.keys() == now.keys()
    return {family.module_name(name) for name in before if not torch.equal(before[name], now[name].to(before[name]))}


def test_all_but_the_tower_learns_however_a_step_is_cut(folder: Path, pictures: list[Image], tmp_path: Path) -> None:
    """Pictures of several layouts in a micro-batch; one record each, sharded weights, layers computed again."""
    chosen = conversations(pictures)
    whole = trained(task(folder, tmp_path / "whole", "sft", chosen))
    cut = {"per_device_train_batch_size": 1, "gradient_checkpointing": "on", "zero_stage": 3}
    single = trained(task(folder, tmp_path / "single", "sft", chosen, **cut))
    assert max(float((whole[name] - single[name]).abs().max()) for name in whole) < 2e-5
    model, family = load(folder).model, families.of(load(folder).model.config)
    frozen = {id(weight) for weight in family.tower(model).parameters()}
    assert changed(folder, whole) == {name for name, weight in model.named_parameters() if id(weight) not in frozen}


def test_preferences_move_the_language_model_s_linear_layers_alone(
    folder: Path, pictures: list[Image], tmp_path: Path
) -> None:
    job = task(folder, tmp_path / "dpo", "dpo", pairs(pictures), lora=ADAPTERS, num_train_epochs=2)
    moved = changed(folder, trained(job))
    family = families.of(load(folder).model.config)
    assert moved and all(family.adapts(name.removesuffix(".weight")) for name in moved)
    course = lines(job)
    assert course[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert course[-1]["loss"] < course[0]["loss"] - 1e-3


def test_a_round_of_ppo_moves_policy_and_critic(folder: Path, pictures: list[Image], tmp_path: Path) -> None:
    job = task(folder, tmp_path / "ppo", "ppo", rollouts(pictures), number=1, lora=ADAPTERS)
    moved = changed(folder, trained(job))
    assert moved and all(map(families.of(load(folder).model.config).adapts, moved))
    assert sorted(path.name for path in (Path(job.out) / "adapters").iterdir()) == ["critic", "policy"]
    result = TrainResult.model_validate_json((Path(job.out) / "summary.json").read_text())
    assert result.flops > 0 and result.records == 10


@pytest.mark.heavy
@pytest.mark.parametrize("lora", [None, ADAPTERS], ids=["full", "adapters"])
@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_halves_of_precision_train_too(
    folder: Path, pictures: list[Image], tmp_path: Path, method: str, lora: Lora | None
) -> None:
    chosen = pairs(pictures) if method == "dpo" else conversations(pictures)
    job = task(folder, tmp_path / "half", method, chosen, dtype="bfloat16", lora=lora, learning_rate=1e-2)
    now = trained(job)
    assert {weight.dtype for weight in now.values()} == {torch.bfloat16}
    assert all(math.isfinite(line["loss"]) for line in lines(job)) and changed(folder, now)


TRAINING = {"learning_rate": 2e-3, "num_train_epochs": 3, "warmup_ratio": 0.3}


@pytest.mark.heavy
@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_six_steps_equal_trl_s(
    folder: Path, pictures: list[Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """On odd pictures, by the family's own template; LLaVA-1.5, which TRL crops, has a test of its own."""
    model = load(folder).model
    if model.config.model_type in ("llava", "toy"):
        pytest.skip("TRL crops what LLaVA-1.5 pads")
    chosen = pairs(pictures) if method == "dpo" else [single(record) for record in conversations(pictures)]
    by_tokens = getattr(model.model, "accepts_loss_kwargs", True)  # else micro-batches are averaged, whatever they hold
    cut = 2 if method == "dpo" or by_tokens else SIZE
    job = task(folder, tmp_path / "both", method, chosen, **TRAINING, per_device_train_batch_size=cut)
    own, theirs = ours(job, pixels=False), trls(job, processor_of(folder, monkeypatch), pixels=False)
    assert own.rows == theirs.rows and len(own.log) == 6
    assert farthest(own, theirs, "loss") < 1e-4
    assert farthest(own, theirs, "grad_norm") < 1e-4
    assert farthest(own, theirs, "learning_rate") < 1e-9


def single(record: Record) -> Record:
    """A conversation's first turn: TRL takes a prompt and one completion."""
    assert isinstance(record, Conversation)
    return replace(record, branches=(record.branches[0][:1],))
