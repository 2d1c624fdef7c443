"""AdamW with a state of 8 bits: near AdamW, a quarter of its memory, exact to resume, refused where it cannot be."""

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.comparison.plan import plan
from harness.contracts import optimizer
from harness.contracts.optimizer import insist_on_optimizer
from harness.contracts.settings import MethodSpec, Runtime, Training
from harness.contracts.steps import Request
from harness.contracts.testbed_file import read_testbed
from harness.sources._chosen import source
from harness.store import closure
from harness.system.errors import UsageError
from harness.training import deepspeed_engine
from harness.training.engine import train
from tests.trainings import killed, losses, same, weights

EIGHT = Training(optim="adamw_8bit")


def trained(job: Any, name: str, optim: str) -> dict[str, torch.Tensor]:
    made = job(name, zero_stage=2, optim=optim, num_train_epochs=3)
    train(made)
    return weights(made)


def test_it_learns_what_adamw_learns(job) -> None:  # type: ignore[no-untyped-def]
    """All moves of all weights: the same direction and length, but not the same numbers."""
    pytest.importorskip("bitsandbytes")
    usual, eight = trained(job, "usual", "adamw_torch"), trained(job, "eight", "adamw_8bit")
    before = weights_of_the_base(job)
    moved, other = (torch.cat([(after[n] - before[n]).flatten() for n in before]) for after in (usual, eight))
    assert torch.cosine_similarity(moved, other, dim=0) > 0.99
    assert float(other.norm()) == pytest.approx(float(moved.norm()), rel=0.02)
    assert not torch.equal(moved, other)


def weights_of_the_base(job: Any) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(Path(job("base").model) / "model.safetensors")


def test_its_state_takes_two_bytes_a_weight() -> None:
    pytest.importorskip("bitsandbytes")
    weight = torch.nn.Parameter(torch.randn(512, 512))
    made = deepspeed_engine.adamw([{"params": [weight], "weight_decay": 0.0}], EIGHT)
    weight.grad = torch.randn_like(weight)
    made.step()
    taken = sum(value.nbytes for value in made.state[weight].values() if isinstance(value, torch.Tensor))
    assert taken / weight.numel() == pytest.approx(2, rel=0.03)


def test_it_goes_on_to_the_same_bits(job, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("bitsandbytes")
    clean, broken = (job(name, zero_stage=2, optim="adamw_8bit") for name in ("clean", "broken"))
    train(clean)
    killed(broken, monkeypatch, "engine.step", 4)
    assert train(broken).resumed_from_step == 3
    assert same(clean, broken) and losses(clean) == losses(broken)


def test_where_it_cannot_be_had_a_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer, "find_spec", lambda package: None)
    with pytest.raises(UsageError, match=r"needs bitsandbytes: pip install .*\[8bit\]"):
        insist_on_optimizer(EIGHT, Runtime())
    insist_on_optimizer(Training(), Runtime())


@pytest.mark.parametrize(
    "how", [{"num_processes": 2}, {"zero_stage": 3}, {"zero_stage": 0}, {"offload_optimizer": "cpu"}]
)
def test_where_weights_would_depend_on_the_machine_it_is_refused(
    monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]
) -> None:
    """Blocks that are cut elsewhere round otherwise."""
    monkeypatch.setattr(optimizer, "find_spec", lambda package: package)
    with pytest.raises(UsageError, match=r"runtime\.num_processes=1, runtime\.zero_stage=2"):
        insist_on_optimizer(EIGHT, Runtime(**how))
    insist_on_optimizer(EIGHT, Runtime(zero_stage=1))


def test_bitsandbytes_is_in_the_keys_of_the_trainings_that_use_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer, "find_spec", lambda package: package)
    there = closure._version
    monkeypatch.setattr(closure, "_version", lambda name: "0.50" if name == "bitsandbytes" else there(name))
    rows = (MethodSpec(name="sft"), MethodSpec(name="nsft", training={"optim": "adamw_8bit"}))
    steps = plan(Request(rows, source("llava150k"), benchmarks=("gqa",)), read_testbed("mini")).steps
    told = {step.row: step.stage.identity for step in steps if step.stage.kind == "train"}
    assert "bitsandbytes" in told["nsft"]["packages"] and "bitsandbytes" not in told["sft"]["packages"]
    assert told["nsft"]["code"] != told["sft"]["code"]
