"""Data that change between the plan and the stage that reads them: the stage is not made, under either key."""

import json
from pathlib import Path

import pytest
from PIL import Image as Pillow

from harness.comparison.plan import Planner
from harness.comparison.request import request
from harness.comparison.worker import Bodies
from harness.contracts import plugins
from harness.contracts.settings import Runtime
from harness.contracts.steps import Step
from harness.store.store import Store
from harness.system.errors import HarnessError
from harness.system.profile import quiet

OUTSIDE = Path(__file__).parents[1] / "outside"


def made(store: Path, step: Step, planner: Planner) -> Path:
    """The step's stage."""
    Bodies(str(store), planner.testbed, planner.request, Runtime())()(step, quiet)
    return Store(store).path(step.stage)


def test_a_benchmarks_files_are_those_of_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Items are read behind trainings that take hours, and would answer to the old questions' key for good."""
    monkeypatch.setattr(plugins, "_adopted", {})
    (tmp_path / "hues").mkdir()
    (tmp_path / "hues.py").write_text((OUTSIDE / "benchmark" / "colours.py").read_text().replace('"colours', '"hues'))
    rows = [{"id": f"{n}", "image": f"{n}.png", "answer": "red"} for n in range(3)]
    for n in range(3):
        Pillow.new("RGB", (40, 40 + n), (200, 0, 0)).save(tmp_path / "hues" / f"{n}.png")
    questions = tmp_path / "hues" / "questions.json"
    questions.write_text(json.dumps(rows))
    bed, asked, runtime = request("", "llava150k", "", "mini", 1, str(tmp_path / "hues.py"), None, None, None, 1)
    planner = Planner(asked, bed, runtime, ())
    step = planner.items("hues")
    questions.write_text(json.dumps([row | {"answer": "blue"} for row in rows]))
    with pytest.raises(HarnessError, match="hues has changed since this comparison began"):
        made(tmp_path / "store", step, planner)
    assert not Store(tmp_path / "store").done(step.stage)
    questions.write_text(json.dumps(rows))
    assert '"red"' in (made(tmp_path / "store", step, planner) / "items.jsonl").read_text()


def test_a_users_records_are_those_of_the_key(tmp_path: Path) -> None:
    Pillow.new("RGB", (40, 40), (200, 0, 0)).save(tmp_path / "a.png")
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "Red."}]
    rows = [{"id": f"{n}", "image": "a.png", "conversations": turns} for n in range(4)]
    data = tmp_path / "mine.json"
    data.write_text(json.dumps(rows))
    bed, asked, runtime = request("sft", str(data), "", "mini", 1, "gqa", None, None, None, 1)
    planner = Planner(asked, bed, runtime, ())
    step = planner.split(0)
    data.write_text(json.dumps(rows[:3]))
    with pytest.raises(HarnessError, match="has changed since this comparison began"):
        made(tmp_path / "store", step, planner)
    data.write_text(json.dumps(rows))
    assert made(tmp_path / "store", step, planner).is_dir()
