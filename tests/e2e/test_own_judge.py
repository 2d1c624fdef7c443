"""A judge of the user's own, in one file, from the command to the table."""

import json
import shutil
from pathlib import Path

import pytest

from tests.e2e.conftest import SMALL_BED, Ran, harness

pytestmark = pytest.mark.heavy  # whole comparisons

OVERLAP = Path(__file__).parents[1] / "outside" / "judge" / "overlap.py"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A testbed with its judge beside it."""
    home = tmp_path_factory.mktemp("own-judge")
    shutil.copy(OVERLAP, home)
    bed = SMALL_BED.read_text().replace("../../harness", str(SMALL_BED.parents[2] / "harness"))
    (home / "mine.yaml").write_text(bed.replace("judge: oracle", "judge: ./overlap.py:strict") + "crosscheck: false\n")
    return home


def compare(home: Path, *more: str) -> Ran:
    words = ["compare", "--methods", "", "--benchmarks", "mmvet,gqa", "--testbed", str(home / "mine.yaml"), "--no-page"]
    return harness(*words, "--limit", "6", "--store", str(home / "store"), "--out", str(home / "out"), *more)


def judged(home: Path) -> list[dict[str, object]]:
    return [json.loads(file.read_text()) for file in sorted((home / "store").glob("score/*/judge.json"))]


def test_it_judges_and_its_code_is_in_the_key_of_what_it_judged(home: Path) -> None:
    """The file is found beside the testbed, wherever the command is given."""
    ran = compare(home)
    assert ran.status == 0, ran.stderr
    [told] = judged(home)
    assert told["name"] == "overlap:strict" and told["verdicts"] == told["items"]
    manifest = json.loads((home / "out" / "manifest.json").read_text())
    assert manifest["judge"] == "overlap:strict" and manifest["judges"]["mmvet"].keys() == {"name", "code", "packages"}
    assert str(home) not in json.dumps([manifest["judges"], manifest["setting"]])
    assert compare(home, "--json").json["stages_run"] == 0


def test_edited_or_told_something_else_it_judges_anew_and_nothing_else_is_made(home: Path) -> None:
    def to_run(*more: str) -> set[str]:
        planned = compare(home, "--dry-run", "--json", *more).json
        return {stage["title"] for stage in planned["stages"] if stage["state"] == "run"}

    assert to_run() == set()
    again = {"score baseline mmvet seed 0", "report"}
    assert to_run("--judge", str(OVERLAP)) == again
    text = (home / "overlap.py").read_text()
    (home / "overlap.py").write_text(text.replace("share == 1", "share >= 0.5"))
    assert to_run() == again
    (home / "overlap.py").write_text(text)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("overlap.py:lenient", 'judge: "overlap:lenient" is not known; write ./overlap.py:strict'),
        ("gone.py", "no file"),
        ("overlap", "is not available; write"),
    ],
)
def test_words_that_name_no_judge_are_a_sentence(home: Path, words: str, said: str) -> None:
    ran = compare(home, "--judge", str(home / words) if ".py" in words else words)
    assert ran.status == 2 and said in ran.stderr, ran.stderr


def test_published_answers_are_judged_by_it(tmp_path: Path) -> None:
    """Of three words of the reference the response has two."""
    (tmp_path / "vet.json").write_text(
        json.dumps({"v1_0": {"question": "What?", "answer": "a red cup", "capability": ["rec"]}})
    )
    (tmp_path / "said.json").write_text(json.dumps({"v1_0": "a blue cup"}))
    files = ["--questions", str(tmp_path / "vet.json"), "--answers", str(tmp_path / "said.json")]
    ran = harness("score", "mmvet", *files, "--judge", str(OVERLAP), "--json", "--store", str(tmp_path / "s"))
    assert ran.status == 0 and ran.json["metrics"]["mmvet/all"] == 70.0, ran.stderr
