"""On an accelerator the largest micro-batch is tried before the first step, and no bit of what follows knows of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.contracts import plugins
from harness.contracts.method import Loss, Method
from harness.contracts.records import Conversation, Record, Turn
from harness.contracts.settings import Lora
from harness.models.batches import places
from harness.models.logps import LogProbs
from harness.models.tree import Tree
from harness.system.jsonl import read_jsonl, write_jsonl
from harness.training import room
from harness.training.engine import Run
from harness.training.launch import launch
from tests.trainings import lines, losses, same

Read = list[tuple[int, int, int]]  # step, records and places of each micro-batch


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "scarce", lambda: True)


def read(monkeypatch: pytest.MonkeyPatch, room_for: float = float("inf")) -> Read:
    """What is read from now on; memory runs out where a micro-batch has more places."""
    real, found = Run.logps, Read()

    def logps(self: Run, trees: Sequence[Tree], after: Sequence[Tree] = ()) -> LogProbs:
        found.append((self.number, len(trees), places(trees)))
        if found[-1][2] > room_for:
            raise torch.OutOfMemoryError
        return real(self, trees, after)

    monkeypatch.setattr(Run, "logps", logps)
    return found


def test_what_does_not_fit_is_known_before_the_first_step(job, monkeypatch: pytest.MonkeyPatch, accelerator) -> None:  # type: ignore[no-untyped-def]
    told, tried = job("told", per_device_train_batch_size=2, num_train_epochs=1), job("tried", num_train_epochs=1)
    with monkeypatch.context() as patch:
        found = read(patch)
        launch(job("whole", num_train_epochs=1))
    largest = max(size for _, _, size in found)
    assert found[0] == (1, 4, largest) and largest > max(size for step, _, size in found[1:] if step == 1)
    launch(told)
    found = read(monkeypatch, largest - 1)
    result = launch(tried)
    assert [(step, rows) for step, rows, _ in found[:2]] == [(1, 4), (1, 2)] and found[0][2] == largest
    assert (result.batch_size, result.shortages, result.resumed_from_step) == (2, 1, 0)
    assert lines(tried) == lines(told) and same(tried, told)


def drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the loss of SFT draws from torch's generator."""
    of = plugins.plugin("methods", "sft", Method)
    real = of.loss

    def loss(self: Method, logps: LogProbs) -> Loss:
        made = real(self, logps)
        return Loss(made.values * torch.rand(()), made.metrics)

    monkeypatch.setattr(of, "loss", loss)


@pytest.mark.parametrize("stage", [pytest.param(0, marks=pytest.mark.heavy), 2])
def test_no_bit_depends_on_it(job, monkeypatch: pytest.MonkeyPatch, stage: int) -> None:  # type: ignore[no-untyped-def]
    """Also of a loss that draws, and with dropout; one tried after the step's seed is set would be seen."""
    drawing(monkeypatch)
    how: dict[str, Any] = {"zero_stage": stage, "lora": Lora(r=4, lora_dropout=0.2), "num_train_epochs": 1}
    plain, tried, late = (job(name, per_device_train_batch_size=3, **how) for name in ("plain", "tried", "late"))
    launch(plain)
    with monkeypatch.context() as patch:
        patch.setattr(room, "scarce", lambda: True)
        launch(tried)
    assert lines(tried) == lines(plain) and same(tried, plain)
    real = Run.step

    def step(self: Run, number: int, *trees: Sequence[Tree]) -> dict[str, float]:
        if number == 1:
            room.tried(self, number)
        return real(self, number, *trees)

    monkeypatch.setattr(Run, "step", step)
    launch(late)
    assert lines(late) != lines(plain)


def test_short_records_share_the_places_of_long_ones(job, monkeypatch: pytest.MonkeyPatch, accelerator) -> None:  # type: ignore[no-untyped-def]
    """More of them than of the longest, in fewer places than so many of these; the numbers are what they were."""
    monkeypatch.setattr(room, "ON_CPU", 2)
    whole, shared = (job(name, num_train_epochs=1, per_device_train_batch_size="auto") for name in ("whole", "shared"))
    long = Conversation("long", None, ((Turn("what is there", "a red cat " * 60),),))
    for each in (whole, shared):
        write_jsonl(Path(each.records), [*read_jsonl(Record, Path(each.records)), long])
    with monkeypatch.context() as patch:
        patch.setattr(room, "scarce", lambda: False)
        launch(whole)
    found = read(monkeypatch)
    launch(shared)
    longest = max(size for _, rows, size in found if rows == 1)
    assert max(rows for _, rows, _ in found) > 2 and max(size for _, _, size in found) <= 2 * longest
    assert losses(shared) == pytest.approx(losses(whole), abs=1e-5)
