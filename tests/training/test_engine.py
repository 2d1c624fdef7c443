"""The training loop: independent of how it is cut, exact to resume, and never a number that is none."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import harness.training.engine
from harness.contracts.records import Conversation, Dropped, Image, Record, Turn
from harness.contracts.settings import Lora, Runtime
from harness.models.load import load
from harness.models.logps import Policy
from harness.models.reference import reference_logps
from harness.models.tree import pack, tree
from harness.system.errors import HarnessError, UsageError
from harness.system.jsonl import dumps, read_jsonl, write_jsonl
from harness.training.engine import train
from harness.training.job import Job
from tests.trainings import lines, losses, pairs, weights

os.environ["HF_HUB_OFFLINE"] = "1"


def plain(job: Job) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The same training in a dozen lines of PyTorch, one whole batch per step: what the engine must equal."""
    loaded = load(job.model)
    loaded.model.train()
    records = {record.id: record for record in read_jsonl(Record, Path(job.records))}
    learned = [p for p in loaded.model.parameters() if p.requires_grad]
    found: list[float] = []
    plan = harness.training.engine.batches.steps(list(records), job.seed, 2, 4)
    optimizer = torch.optim.AdamW(learned, weight_decay=0.0)
    for number, ids in enumerate(plan):
        warm = math.ceil(0.03 * len(plan))
        progress = (number - warm) / (len(plan) - warm)
        factor = number / warm if number < warm else 0.5 * (1 + math.cos(math.pi * progress))
        optimizer.param_groups[0]["lr"] = job.training.learning_rate * factor
        batch = pack([tree(records[name], loaded) for name in ids], loaded)
        loss = -Policy(loaded.model)(batch).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, job.training.max_grad_norm)
        optimizer.step()
        found.append(loss.item())
    return found, loaded.model.state_dict()


@pytest.mark.parametrize("stage", [pytest.param(0, marks=pytest.mark.heavy), 2, 3])
def test_every_zero_stage_is_plain_pytorch(job, stage: int) -> None:  # type: ignore[no-untyped-def]
    """Also with gradient accumulation, and with micro-batches that have no image at all."""
    made = job(zero_stage=stage, per_device_train_batch_size=1)
    result = train(made)
    expected, state = plain(made)
    assert losses(made) == pytest.approx(expected, abs=1e-5)
    trained, before = weights(made), load_file(Path(made.model) / "model.safetensors")
    moved = [name for name in trained if not torch.equal(trained[name], before[name])]
    assert not [name for name in moved if "vision_tower" in name]
    reloaded = load(Path(made.out) / "checkpoint").model.state_dict()
    assert max(float((reloaded[name] - state[name]).abs().max()) for name in state) < 2e-5
    assert result.steps == len(expected) == 6
    assert json.loads((Path(made.out) / "summary.json").read_text())["supervised_tokens"] == result.supervised_tokens


@pytest.mark.parametrize("size", [1, 3])
def test_micro_batches_do_not_matter(job, size: int) -> None:  # type: ignore[no-untyped-def]
    whole, cut = job("whole"), job("cut", per_device_train_batch_size=size)
    train(whole)
    train(cut)
    assert losses(whole) == pytest.approx(losses(cut), abs=1e-5)


BAD = """
from dataclasses import dataclass
from typing import ClassVar
from harness.contracts.method import Loss, Method

@dataclass(frozen=True)
class Bad(Method):
    label: ClassVar[str] = "bad"
    where: str = "loss"
    after: int = 3

    def loss(self, logps):
        calls.append(1)
        values = -logps.policy
        if len(calls) > self.after:
            values = values * float("nan") if self.where == "loss" else values + (0 * values).sqrt()
        return Loss(values, {})

calls = []
"""


@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize("stage", [0, 2])
def test_the_first_number_that_is_none_stops(  # type: ignore[no-untyped-def]
    job, tmp_path: Path, where: str, stage: int
) -> None:
    """And the last good state can still be trained on from."""
    (tmp_path / "bad.py").write_text(BAD)
    made = job(zero_stage=stage).model_copy(update={"method": str(tmp_path / "bad.py"), "options": {"where": where}})
    with pytest.raises(HarnessError, match=f"{where} of step 4 is not finite; its records: c"):
        train(made)
    assert not (Path(made.out) / "checkpoint").exists()
    assert len(lines(made)) == 3
    (tmp_path / "bad.py").write_text(BAD.replace("calls.append(1)", ""))
    assert train(made).resumed_from_step == 3


def test_a_loss_with_the_wrong_number_of_values_is_refused(job, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "mean.py").write_text(BAD.replace("values = -logps.policy", "values = -logps.policy.mean()"))
    with pytest.raises(HarnessError, match="one value per token"):
        train(job().model_copy(update={"method": str(tmp_path / "mean.py")}))


@pytest.mark.parametrize("stage", [0, 2])
def test_cached_and_adapter_off_references_agree(  # type: ignore[no-untyped-def]
    job, pictures: list[Image], stage: int
) -> None:
    lora = Lora(r=4, lora_alpha=8)
    online = job("online", "dpo", lora=lora, reference="adapter_off", zero_stage=stage)
    logps = Path(online.out).parent / "logps.safetensors"
    reference_logps(online.model, pairs(pictures), online.runtime, logps)
    cached = job("cached", "dpo", lora=lora, logps=str(logps), zero_stage=stage)
    first, second = train(online), train(cached)
    for one, other in zip(lines(online), lines(cached), strict=True):
        if one["step"] <= 2:  # no weight has moved yet (the first rate is 0): which reward is larger is rounding
            one["rewards/accuracies"] = other["rewards/accuracies"]
        assert one == pytest.approx(other, abs=2e-5)
    assert first.flops > second.flops
    opening = lines(cached)[0]
    assert opening["loss"] == pytest.approx(math.log(2), abs=1e-6)
    rewards = {f"rewards/{name}" for name in ("chosen", "rejected", "accuracies", "margins")}
    wanted = rewards | {"logps/chosen", "logps/rejected", "loss", "learning_rate", "grad_norm", "num_tokens", "step"}
    assert opening.keys() == wanted
    assert lines(cached)[-1]["rewards/margins"] > 0


def test_bfloat16_keeps_float32_masters(job) -> None:  # type: ignore[no-untyped-def]
    """The losses follow those of float32; what is written is bfloat16."""
    half, single = job("half", dtype="bfloat16", zero_stage=2), job("single", zero_stage=2)
    train(half)
    train(single)
    assert losses(half) == pytest.approx(losses(single), rel=0.02)
    assert weights(half)["language_model.model.norm.weight"].dtype == torch.bfloat16


def test_lora_touches_the_language_model_alone(job) -> None:  # type: ignore[no-untyped-def]
    made = job(lora=Lora(r=4, lora_alpha=8))
    train(made)
    learnt = weights(made)
    assert learnt and all(".language_model.layers." in name and ".lora_" in name for name in learnt)
    assert any(weight.any() for name, weight in learnt.items() if ".lora_B." in name)


def test_a_reference_must_be_there_and_fit(job, pictures: list[Image], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match="reference's log-probs"):
        train(job("none", "dpo"))
    with pytest.raises(UsageError, match="needs adapters"):
        train(job("full", "dpo", reference="adapter_off"))
    logps = tmp_path / "other.safetensors"
    reference_logps(job().model, pairs(pictures)[:3], Runtime(), logps)
    with pytest.raises(HarnessError, match="not of these records"):
        train(job("other", "dpo", logps=str(logps)))


def test_records_that_cannot_be_trained_on_are_named(job) -> None:  # type: ignore[no-untyped-def]
    made = job()
    Path(made.records).write_text(dumps(Conversation("evil", None, ((Turn("a </s> b", "yes"),),))) + "\n")
    with pytest.raises(HarnessError, match=r"record evil .* reserved token '</s>'"):
        train(made)
    Path(made.records).write_text("")
    with pytest.raises(HarnessError, match="no record"):
        train(made)


def test_a_training_without_records_says_what_became_of_the_examples(job) -> None:  # type: ignore[no-untyped-def]
    """A base that answers as the ground truth does leaves GT-DPO nothing to prefer."""
    made = job("sure", "dpo")
    records = Path(made.records)
    records.write_text("")
    dropped = [Dropped(str(number), "own response equals the truth") for number in range(16)]
    write_jsonl(records.with_name("dropped.jsonl"), dropped)
    said = r"none of 16 examples gave one \(own response equals the truth: 16\); ask for more \(--examples\)"
    with pytest.raises(HarnessError, match=said):
        train(made)


@pytest.mark.parametrize(("tamed", "compiler"), [("engine._tamed()", "False"), ("pass", "True")])
def test_what_compiles_kernels_is_not_imported_to_train(tamed: str, compiler: str) -> None:
    """DeepSpeed asks each optimiser whether it is Muon, whose import takes a second; as it is (the mutant), it does."""
    code = f"""from harness.training import deepspeed_engine as engine
{tamed}
import sys, deepspeed.runtime.zero.muon.muon_optimizer
print("torch._inductor.compile_fx" in sys.modules)"""
    env = {**os.environ, "DS_ACCELERATOR": "cpu"}
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == compiler
