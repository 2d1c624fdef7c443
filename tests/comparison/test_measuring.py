"""A device is measured by counted work, and a plan says whose figures its hours are by."""

import json
from pathlib import Path
from time import sleep

import pytest
import torch

from harness.commands.plan_text import show_plan
from harness.comparison import measuring, sizing
from harness.comparison.devices import DEVICES
from harness.comparison.measuring import measured, nothing, rate
from harness.comparison.plan import plan
from harness.contracts.settings import MethodSpec
from harness.contracts.steps import Request
from harness.contracts.testbed_file import read_testbed
from harness.sources._chosen import source
from harness.store.store import Store
from tests.true_shapes import planned_7b


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "SECONDS", 0.1)


def test_it_is_work_by_time_without_the_first_time_and_with_what_is_under_way() -> None:
    first = [1.0]
    assert 20_000 < rate(lambda: sleep(first.pop() if first else 0.02), 1000, nothing) <= 50_000
    assert 10_000 < rate(nothing, 1000, lambda: sleep(0.02)) <= 50_000


def test_a_core_is_measured_and_its_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    found = measured("float32")
    assert torch.get_num_threads() == before
    assert found.title == "core of this CPU" and 1e8 < found.flops < 1e13 and 1e8 < found.bandwidth < 1e12
    assert "TFLOP/s in float32" in found.told and found.memory > 1e9


def test_a_plan_says_whose_figures_it_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And its hours are theirs: of half the FLOP/s twice as many."""
    bed = read_testbed("mini")
    wanted = plan(Request((MethodSpec(name="sft"),), source("llava150k"), benchmarks=("gqa",)), bed)
    asked = list[str]()

    def half(dtype: str) -> object:
        asked.append(dtype)
        return DEVICES["cpu"]._replace(flops=DEVICES["cpu"].flops / 2, told="measured 0.25 TFLOP/s")

    model = planned_7b()
    monkeypatch.setattr(sizing, "_model", lambda *given: model)
    monkeypatch.setattr(measuring, "measured", half)
    found = {}
    for device in ("cpu", "here"):
        show_plan(wanted, Store(tmp_path), 1, as_json=True, device=device)
        found[device] = json.loads(capsys.readouterr().out)
    trained = [next(one["seconds"] for one in found[name]["estimate"] if one["stage"] == "train") for name in found]
    assert trained[1] == pytest.approx(2 * trained[0]) and asked == [bed.training.dtype]
    assert found["here"]["device_figures"]["flops"] == DEVICES["cpu"].flops / 2
    show_plan(wanted, Store(tmp_path), 1, device="here")
    assert "of the measured 0.25 TFLOP/s" in " ".join(capsys.readouterr().out.split())
