"""Files that change between the plan and the stage that reads them: the stage is not made, under either key."""

import json
import os
import pickle
import shutil
import time
from pathlib import Path

import pytest
import yaml
from PIL import Image as Pillow

from harness.comparison.plan import plan
from harness.comparison.planner import Planner
from harness.comparison.request import request
from harness.comparison.worker import Bodies
from harness.contracts import plugins
from harness.contracts.settings import Runtime
from harness.contracts.steps import Step
from harness.judging.codebook import SHIPPED
from harness.models.load import revision
from harness.store.contents import CONTENTS, RACY_NS
from harness.store.store import Store
from harness.system.errors import HarnessError
from harness.system.profile import quiet

OUTSIDE = Path(__file__).parents[1] / "outside"
HARNESS = Path(plugins.__file__).parents[1]
MINI, BED = HARNESS / "mini", HARNESS / "testbeds" / "mini.yaml"


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


def replaced(file: Path) -> None:
    """Other bytes of the same length in a file's last place, as another download of a model would have."""
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.fixture
def bed(tmp_path: Path) -> Path:
    """The embedded testbed with a base and a CLIP of its own, a codebook, and replies that are there already."""
    for name, folder in (("base", "bases/0"), ("clip", "clip")):
        shutil.copytree(MINI / folder, tmp_path / name)
    shutil.copy(SHIPPED, tmp_path / "book.yaml")
    (tmp_path / "said.json").write_text("{}")
    told = yaml.safe_load(BED.read_text())
    told |= {"models": ["./base"], "clip": "./clip", "judge": "script:said.json", "writer": "script:./said.json"}
    told["methods"]["nsft"] = {"codebook": "./book.yaml"}
    (tmp_path / "bed.yaml").write_text(yaml.safe_dump(told))
    return tmp_path / "bed.yaml"


CHANGES = [
    ("base/model.safetensors", "train sft seed 0", "base has changed"),
    ("base/model.safetensors", "generate baseline mmvet seed 0", "base has changed"),
    ("clip/model.safetensors", "build csr seed 0 round 1", "clip has changed"),
    ("book.yaml", "build nsft seed 0", r"book\.yaml has changed"),
    ("said.json", "build nsft seed 0", r"script:said\.json has changed"),
    ("said.json", "score baseline mmvet seed 0", r"script:said\.json has changed"),
]


@pytest.mark.parametrize(("file", "title", "said"), CHANGES)
def test_what_a_stage_reads_is_what_its_key_has(
    file: str, title: str, said: str, bed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models, CLIP, a method's files, a judge's: looked at again when a stage begins, by size and time first."""
    monkeypatch.setattr(Store, "sound", lambda store, name: tmp_path)
    for name in ("items.jsonl", "responses.jsonl"):
        (tmp_path / name).touch()
    words = ("sft,nsft,csr", "llava150k", "", str(bed), 1, "mmvet", 8, 4, None, 1)
    read, asked, runtime = request(*words)
    planned = plan(asked, read)
    (step,) = (step for step in planned.steps if step.title == title)
    replaced(tmp_path / file) if file != "said.json" else (tmp_path / file).write_text('{"a": "b"}')
    with pytest.raises(HarnessError, match=f"{said} since this comparison began"):
        Bodies(str(tmp_path / "store"), read, asked, runtime)()(step, quiet)


def test_a_model_that_was_not_touched_is_not_read_again(bed: Path, tmp_path: Path) -> None:
    """7B weights are 14 GB: their digest is remembered with size and times."""
    old = time.time() - 60
    for file in (tmp_path / "base").iterdir():
        os.utime(file, (old, old))
    time.sleep(RACY_NS / 1e9)  # what was changed a moment ago is never trusted
    revision(tmp_path / "base")
    before = CONTENTS.read
    revision(tmp_path / "base")
    assert CONTENTS.read == before


def test_two_processes_on_one_store_make_each_its_own_edition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One has planned, the file is edited, another plans and makes; the first makes nothing under its old key."""
    monkeypatch.setattr(plugins, "_adopted", {})
    file, store = tmp_path / "mine.py", tmp_path / "store"
    first = (OUTSIDE / "source" / "squares.py").read_text()
    other = first.replace("(0, 0, 200)", "(0, 0, 201)")
    steps, bodies = [], []
    for text in (first, other):
        file.write_text(text)
        read, asked, runtime = request("sft", str(file), "", "mini", 1, "gqa", 8, 4, None, 1)
        steps.append(Planner(asked, read, runtime, ()).split(0))
        bodies.append(Bodies(str(store), read, asked, runtime))
    handed = pickle.dumps(bodies[0])
    bodies[1]()(steps[1], quiet)
    with pytest.raises(HarnessError, match=r"mine\.py has changed since this comparison began"):
        bodies[0]()(steps[0], quiet)
    plugins.leave()
    with pytest.raises(HarnessError, match=r"mine\.py has changed since this comparison began"):
        pickle.loads(handed)()(steps[0], quiet)  # in another process, which has loaded the edited file for the request
    assert Store(store).finished("split") == [steps[1].stage.name] and steps[0].key != steps[1].key
    plugins.leave()
    file.write_text(first)
    bodies[0]()(steps[0], quiet)
    assert Store(store).done(steps[0].stage)
    plugins.leave()
