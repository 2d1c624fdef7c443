"""A world of the user's own, in one file, from the command to the table."""

import json
import shutil
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, Ran, harness

pytestmark = pytest.mark.heavy  # whole comparisons

PAINTS = ROOT / "tests" / "outside" / "testbed" / "paints.py"
YAML = f"""
name: paints
models: [{ROOT / "harness/mini/bases/0"}]
data: ./paints.py
examples: 8
scenes: 12
crosscheck: false
response_tokens: 24
training: {{train_batch_size: 4}}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A testbed with its world beside it, and a comparison on it."""
    home = tmp_path_factory.mktemp("own-testbed")
    shutil.copy(PAINTS, home)
    (home / "paints.yaml").write_text(YAML)
    ran = compare(home)
    assert ran.status == 0, ran.stderr
    return home


def compare(home: Path, *more: str, benchmarks: str = "gqa") -> Ran:
    words = ["compare", "--methods", "sft", "--benchmarks", benchmarks, "--testbed", str(home / "paints.yaml")]
    places = ["--store", str(home / "store"), "--out", str(home / "out"), "--no-page"]
    return harness(*words, *places, *more, cwd=home.parent)


def stages(ran: Ran) -> dict[str, str]:
    return {stage["title"]: stage["stage"] for stage in ran.json["stages"]}


def test_its_pictures_are_trained_on_and_asked_about_and_called_synthetic(home: Path) -> None:
    assert "sft,Cont. SFT,1,gqa,gqa/all," in (home / "out" / "table.csv").read_text()
    manifest = json.loads((home / "out" / "manifest.json").read_text())
    assert manifest["synthetic"] is True and manifest["folder"] == ""
    [split] = (home / "store").glob("split/*/examples.jsonl")
    asked = [json.loads(line)["turns"][0]["question"] for line in split.read_text().splitlines()]
    assert asked == ["What color is the image?"] * 8
    assert compare(home, "--json").json["stages_run"] == 0


def test_an_edit_draws_anew_and_another_place_does_not(home: Path, tmp_path: Path) -> None:
    planned = stages(compare(home, "--dry-run", "--json"))
    for file in ("paints.py", "paints.yaml"):
        shutil.copy(home / file, tmp_path)
    assert stages(compare(tmp_path, "--dry-run", "--json")) == planned
    (tmp_path / "paints.py").write_text(PAINTS.read_text().replace("range(12)", "range(13)"))
    changed = stages(compare(tmp_path, "--dry-run", "--json"))
    assert not set(changed.values()) & set(planned.values())


@pytest.mark.parametrize(
    ("benchmarks", "more", "said"),
    [
        ("pope", [], "paints draws no files of pope; it has gqa"),
        ("gqa", ["--data", "ocrvqa"], "paints draws its pictures, and knows how for llava150k only"),
        ("mmvet", ["--judge", "oracle"], '"oracle" is not available; write openai:MODEL'),
    ],
)
def test_what_it_does_not_have_is_said_before_anything_runs(
    home: Path, benchmarks: str, more: list[str], said: str
) -> None:
    ran = compare(home, *more, benchmarks=benchmarks)
    assert ran.status == 2 and said in ran.stderr, ran.stderr


def test_the_doctor_looks_at_what_it_draws(home: Path) -> None:
    ran = harness("doctor", "--testbed", str(home / "paints.yaml"), cwd=home)
    assert "ok     data llava150k: 5 of the first 5 records usable" in ran.stdout
    assert "ok     benchmark gqa: the first 5 items have prompts and readable pictures" in ran.stdout
    assert "benchmark pope: paints draws no files of pope" in " ".join(ran.stdout.split())
