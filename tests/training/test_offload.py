"""Optimiser and weights in the machine's memory: the same training, and nothing is compiled for it."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from harness.contracts.settings import Runtime
from harness.training import deepspeed_engine
from harness.training.engine import train
from harness.training.launch import launch
from tests.trainings import killed, losses, same, weights

heavy = pytest.mark.heavy
OPTIMIZER = {"offload_optimizer": "cpu"}
WEIGHTS = {"offload_param": "cpu"}


@pytest.mark.parametrize(
    ("processes", "stage", "offloaded", "dtype"),
    [
        (1, 2, OPTIMIZER, "float32"),
        pytest.param(2, 1, OPTIMIZER, "float32", marks=heavy),
        pytest.param(2, 2, OPTIMIZER, "bfloat16", marks=heavy),
        pytest.param(2, 3, OPTIMIZER | WEIGHTS, "float32", marks=heavy),
    ],
)
def test_offloaded_equals_what_is_not(  # type: ignore[no-untyped-def]
    job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int, stage: int, offloaded: dict[str, str],
    dtype: str,
) -> None:  # fmt: skip
    """With gradients of several micro-batches, clipped: by a norm summed in another order, so not bit for bit."""
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    how = {"num_processes": processes, "zero_stage": stage, "dtype": dtype, "per_device_train_batch_size": 1}
    resident, away = job("resident", **how), job("away", **how, **offloaded)
    launch(resident)
    launch(away)
    assert losses(away) == pytest.approx(losses(resident), rel=1e-6 if dtype == "float32" else 1e-3)
    first, second = weights(resident), weights(away)
    far = torch.stack([(first[name].float() - second[name].float()).abs().max() for name in first]).max()
    assert far < (1e-6 if dtype == "float32" else 1e-2)
    assert not (tmp_path / "extensions").exists()


def test_the_mutant_that_loses_gradients_on_their_way_is_caught(job, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """A copy to the machine's memory that takes the last micro-batch alone."""
    from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer as Zero

    how = {"zero_stage": 2, "per_device_train_batch_size": 1}
    whole, lost = job("whole", **how, **OPTIMIZER), job("lost", **how, **OPTIMIZER)
    train(whole)
    plain = Zero.async_accumulate_grad_in_cpu_via_gpu

    def forgetful(self, param):  # type: ignore[no-untyped-def]
        self.micro_step_id = 0
        plain(self, param)

    monkeypatch.setattr(Zero, "async_accumulate_grad_in_cpu_via_gpu", forgetful)
    train(lost)
    assert losses(lost)[2:] != pytest.approx(losses(whole)[2:], rel=1e-3)


def test_an_offloaded_training_goes_on_to_the_same_bits(job, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    clean, broken = (job(name, zero_stage=2, **OPTIMIZER) for name in ("clean", "broken"))
    train(clean)
    killed(broken, monkeypatch, "engine.step", 4)
    assert train(broken).resumed_from_step == 3
    assert same(clean, broken)


def test_what_cannot_be_offloaded_is_refused() -> None:
    with pytest.raises(ValidationError, match="offload_optimizer=cpu needs zero_stage=1 or more"):
        Runtime(zero_stage=0, offload_optimizer="cpu")
    with pytest.raises(ValidationError, match="offload_param=cpu needs zero_stage=3 or more"):
        Runtime(offload_param="cpu")


def test_no_adamw_that_would_be_compiled(job) -> None:  # type: ignore[no-untyped-def]
    made = job(zero_stage=3, **OPTIMIZER, **WEIGHTS)
    told = deepspeed_engine.config(made.training, made.runtime, 1, 100, 4)
    assert told["zero_force_ds_cpu_optimizer"] is False
    assert told["zero_optimization"]["offload_param"]["device"] == "cpu"
