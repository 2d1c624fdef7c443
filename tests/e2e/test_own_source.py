"""A source of the user's own, in one file, from the command to the table."""

import json
import shutil
from pathlib import Path

import pytest

from tests.e2e.conftest import SMALL_BED, Ran, harness
from tests.seams.found import outside

pytestmark = pytest.mark.heavy  # whole comparisons

(SQUARES,) = (Path(file) for file in outside("source") if Path(file).stem == "squares")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """squares.py, and a comparison that trains on it, in two workers."""
    home = tmp_path_factory.mktemp("own")
    shutil.copy(SQUARES, home)
    ran = compare(home)
    assert ran.status == 0, ran.stderr
    return home


def compare(home: Path, *more: str, methods: str = "sft") -> Ran:
    words = ["compare", "--methods", methods, "--data", "./squares.py", "--benchmarks", "gqa", "--limit", "4"]
    places = ["--testbed", str(SMALL_BED), "--store", "store", "--out", "out", "--workers", "2"]
    return harness(*words, *places, *more, cwd=home)


def test_what_it_yields_is_what_is_trained_on(home: Path) -> None:
    (file,) = (home / "store").glob("split/*/examples.jsonl")
    examples = [json.loads(line) for line in file.open()]
    assert len(examples) == 24 and {example["source"] for example in examples} == {"squares"}
    assert all((home / "store" / example["image"]["path"]).is_file() for example in examples)
    assert json.loads((home / "out" / "manifest.json").read_text())["data"] == "squares"
    assert "sft,Cont. SFT,1,gqa,gqa/all," in (home / "out" / "table.csv").read_text()


def planned(home: Path) -> list[str]:
    """The stages that the same command would run."""
    stages = compare(home, "--dry-run", "--json").json["stages"]
    return [stage["title"] for stage in stages if stage["state"] == "run"]


def test_its_code_is_in_the_keys_of_what_it_decides_and_its_comments_are_not(home: Path) -> None:
    assert planned(home) == []
    text = (home / "squares.py").read_text()
    (home / "squares.py").write_text(f"# why\n{text}")
    assert planned(home) == []
    (home / "squares.py").write_text(text.replace("(0, 0, 200)", "(0, 0, 201)"))
    again = planned(home)
    (home / "squares.py").write_text(text)
    assert {"split squares seed 0", "train sft seed 0", "score sft gqa seed 0"} <= {*again}
    assert "score baseline gqa seed 0" not in again


@pytest.mark.parametrize(
    ("spoil", "methods", "more", "said"),
    [
        ("", "nsft", [], "nsft needs a writer that knows these images"),
        ("", "sft", ["--images", "."], "./squares.py says itself where its pictures are"),
        ("", "sft", ["--benchmarks", "indomain"], "--data squares has none"),
        ("x = 1", "sft", [], "defines 0 subclasses of Source"),
        ("x = nothing", "sft", [], "squares.py:1: NameError"),
        (
            "from harness.contracts.source import Source\nclass Mine(Source):\n    layout = 'x.json'\n",
            "sft", [], "source squares needs its files in",
        ),
        (
            "from harness.contracts.source import Source\nclass Mine(Source):\n    def records(self, reading):\n"
            "        yield from {}['x']\n",
            "sft", [], "squares.py:4: KeyError: 'x' (in records)",
        ),
    ],
    ids=["a writer", "images", "held out", "no class", "a fault at import", "no data", "a fault in its code"],
)  # fmt: skip
def test_what_cannot_work_is_a_sentence(tmp_path: Path, spoil: str, methods: str, more: list[str], said: str) -> None:
    shutil.copy(SQUARES, tmp_path)
    if spoil:
        (tmp_path / "squares.py").write_text(spoil)
    ran = compare(tmp_path, *more, methods=methods)
    assert ran.status == (3 if "KeyError" in said else 2) and said in " ".join(ran.stderr.split()), ran.stderr
