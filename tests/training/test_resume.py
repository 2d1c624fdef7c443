"""Killed anywhere, a training goes on to the same bits; a damaged state is named and passed over."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import harness.training.checkpoint
from harness.contracts.records import Image
from harness.contracts.settings import Lora
from harness.models.reference import reference_logps
from harness.system.errors import HarnessError
from harness.training.engine import train
from tests.trainings import killed, lines, pairs, policy, same


@pytest.mark.parametrize(
    ("where", "when", "resumed"),
    [
        ("engine.step", 1, 0),
        ("engine.step", 4, 3),
        ("engine.checkpoint", 1, 0),
        pytest.param("engine.manifest", 2, 2, marks=pytest.mark.heavy),
        ("engine.rename", 3, 3),
        ("engine.save", 1, 6),
    ],
)
def test_killed_anywhere_it_resumes_to_the_same_bits(  # type: ignore[no-untyped-def]
    job, monkeypatch: pytest.MonkeyPatch, where: str, when: int, resumed: int
) -> None:
    """Checkpoints are due after steps 2, 3 (an epoch), 4 and 6; dropout makes the random state count."""
    lora = Lora(r=4, lora_alpha=8, lora_dropout=0.2)
    clean, broken = job("clean", lora=lora), job("broken", lora=lora)
    train(clean)
    killed(broken, monkeypatch, where, when)
    result = train(broken)
    assert result.resumed_from_step == resumed
    assert result.rejected_checkpoints == ()
    assert lines(broken) == lines(clean)
    assert same(clean, broken)


@pytest.mark.heavy
@pytest.mark.parametrize("lora", [Lora(r=4, lora_alpha=8, lora_dropout=0.2), None])
def test_sharded_weights_resume_too(  # type: ignore[no-untyped-def]
    job, monkeypatch: pytest.MonkeyPatch, lora: Lora | None
) -> None:
    clean, broken = job("clean", zero_stage=3, lora=lora), job("broken", zero_stage=3, lora=lora)
    train(clean)
    killed(broken, monkeypatch, "engine.step", 6)
    assert train(broken).resumed_from_step == 4
    assert same(clean, broken)


@pytest.mark.heavy  # test_every_method stops each method without a process of its own
def test_a_real_kill(job) -> None:  # type: ignore[no-untyped-def]
    clean, broken = job("clean", zero_stage=2), job("broken", zero_stage=2)
    train(clean)
    request = Path(broken.out).parent / "job.json"
    request.write_text(broken.model_dump_json())
    trained = "train(Job.model_validate_json(open(sys.argv[1]).read()))"
    program = f"import sys; from harness.training.engine import *; {trained}"
    command = [sys.executable, "-c", program, str(request)]
    died = subprocess.run(command, env={**os.environ, "HARNESS_FAILPOINT": "engine.step:5"}, capture_output=True)
    assert died.returncode == 137
    assert train(broken).resumed_from_step == 4
    assert same(clean, broken)


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "manifest"])
def test_a_damaged_checkpoint_is_named_and_passed_over(  # type: ignore[no-untyped-def]
    job, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    clean, broken = job("clean"), job("broken")
    train(clean)
    killed(broken, monkeypatch, "engine.step", 5)
    newest = Path(broken.work) / "step-00000004"
    victim = newest / "manifest.json" if damage == "manifest" else next(newest.rglob("*.pt"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "delete":
        victim.unlink()
    else:
        victim.write_bytes(data if damage == "flip" else data[: len(data) // 2])
    result = train(broken)
    assert result.resumed_from_step == 3
    (reason,) = result.rejected_checkpoints
    assert reason.startswith("step-00000004: ")
    assert same(clean, broken)


def test_another_training_s_state_is_not_used(job) -> None:  # type: ignore[no-untyped-def]
    train(job())
    other = job(learning_rate=2e-3)
    assert train(other).resumed_from_step == 0


def test_nor_is_one_of_other_log_probs_of_the_reference(job, pictures: list[Image], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    made = job("a", "dpo", logps=str(tmp_path / "logps"))
    reference_logps(made.model, pairs(pictures), made.runtime, tmp_path / "logps")
    train(made)
    reference_logps(policy(made), pairs(pictures), made.runtime, tmp_path / "logps")
    assert train(made).resumed_from_step == 0


def test_a_step_is_the_manifest_s_and_a_log_that_tells_another_is_an_error(  # type: ignore[no-untyped-def]
    job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ranks that saved no log did: each went on from the number of its own lines, and gradients were mixed."""
    made = job()
    train(made)
    load = harness.training.checkpoint.load
    monkeypatch.setattr(harness.training.checkpoint, "load", lambda engine, folder: load(engine, folder) | {"log": []})
    with pytest.raises(HarnessError, match=r"not of one step .*\[\[6, 0, "):
        train(made)


def test_a_state_under_another_step_s_name_is_passed_over(job) -> None:  # type: ignore[no-untyped-def]
    made = job()
    train(made)
    (Path(made.work) / "step-00000006").rename(Path(made.work) / "step-00000009")
    result = train(made)
    assert result.resumed_from_step == 4
    assert result.rejected_checkpoints == ("step-00000009: it is not of the step that its name says",)
