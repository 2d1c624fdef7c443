"""A benchmark of the user's own, in one file with its data beside it, from the command to the gate."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image as Pillow

from tests.e2e.conftest import SMALL_BED, Ran, harness
from tests.seams.found import OUTSIDE

MINE = (OUTSIDE / "benchmark" / "colours.py").read_text(encoding="utf-8")
COLOURS = {"red": (200, 0, 0), "green": (0, 160, 0), "blue": (0, 0, 200), "white": (250, 250, 250)}

pytestmark = pytest.mark.heavy  # its seam is tried one promise at a time in tests/seams


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """colours.py, its folder of three dozen pictures, and a comparison with it beside GQA."""
    home = tmp_path_factory.mktemp("own")
    (home / "colours").mkdir()
    (home / "colours.py").write_text(MINE)
    rows = []
    for number in range(36):
        name, rgb = list(COLOURS.items())[number % len(COLOURS)]
        Pillow.new("RGB", (48, 48 + number), rgb).save(home / "colours" / f"{number}.png")
        rows.append({"id": f"c{number}", "image": f"{number}.png", "answer": name})
    (home / "colours" / "questions.json").write_text(json.dumps(rows))
    ran = compare(home)
    assert ran.status == 0, ran.stderr
    return home


def compare(home: Path, *more: str) -> Ran:
    words = ["compare", "--methods", "sft", "--benchmarks", f"gqa,{home / 'colours.py'}", "--testbed", str(SMALL_BED)]
    words += ["--workers", "1"]  # imports what is slow to import once
    return harness(*words, "--store", str(home / "store"), "--out", str(home / "out"), *more, cwd=home)


def test_it_is_a_column_with_intervals_a_page_and_a_verdict(home: Path) -> None:
    table = (home / "out" / "table.csv").read_text()
    assert "sft,Cont. SFT,1,colours,colours/all," in table and ",36,0," in table
    assert "COL" in (home / "out" / "report.html").read_text()
    items = json.loads(next(iter((home / "store").glob("items/*/items.jsonl"))).read_text().splitlines()[0])
    assert items


def test_its_pictures_are_in_the_store_so_that_the_store_can_be_moved(home: Path, tmp_path: Path) -> None:
    stored = [json.loads(line) for file in (home / "store").glob("items/*/items.jsonl") for line in file.open()]
    mine = [item["image"]["path"] for item in stored if item["id"].startswith("c")]
    assert len(mine) == 36 and all((home / "store" / path).is_file() for path in mine)


def test_the_same_command_again_runs_nothing_and_another_picture_is_another_key(home: Path) -> None:
    assert compare(home, "--json").json["stages_run"] == 0
    before = (home / "colours" / "0.png").read_bytes()
    Pillow.new("RGB", (48, 48), (200, 0, 1)).save(home / "colours" / "0.png")
    planned = compare(home, "--dry-run", "--json").json
    (home / "colours" / "0.png").write_bytes(before)
    run = [stage["title"] for stage in planned["stages"] if stage["state"] == "run"]
    assert "items colours" in run and "items gqa" not in run


def test_reports_and_gates_have_it_where_its_file_is_named_and_say_so_where_not(home: Path) -> None:
    without = harness("report", str(home / "out"), "--store", str(home / "store"), cwd=home)
    assert without.status == 0 and "not installed here, so left out: colours" in " ".join(without.stdout.split())
    again = harness("report", str(home / "out"), "--benchmarks", "colours.py", cwd=home)
    assert again.status == 0 and "COL" in again.stdout
    (home / "gate.yaml").write_text("margins: {colours/all: 1}\n")
    baseline = str(home / "accepted.zip")
    refused = harness("gate", str(home / "out"), "--accept", baseline, cwd=home)
    assert refused.status == 2 and "name it, --benchmarks colours.py" in refused.stderr
    assert not Path(baseline).exists(), "what was refused lies there as if it were accepted"
    accepted = harness("gate", str(home / "out"), "--accept", baseline, "--benchmarks", "colours.py", cwd=home)
    assert accepted.status == 0, accepted.stderr
    judged = harness("gate", str(home / "out"), "--baseline", baseline, "--benchmarks", "colours.py", cwd=home)
    assert judged.status == 0 and "colours" in judged.stdout, judged.stdout + judged.stderr


def test_another_file_of_the_name_is_not_taken_for_it(home: Path, tmp_path: Path) -> None:
    """Its rule would make other figures of the stored scores."""
    (tmp_path / "colours.py").write_text(MINE.replace('totals["correct"], totals["n"]', 'totals["n"], totals["n"]'))
    for command in (["report"], ["gate", "--accept", str(tmp_path / "x.zip")]):
        ran = harness(*command, str(home / "out"), "--benchmarks", str(tmp_path / "colours.py"), cwd=home)
        assert ran.status == 2 and "is not the file that" in ran.stderr, ran.stdout


def test_the_model_goes_out_without_its_file_and_rows_differ_by_it_only_where_named(home: Path, tmp_path: Path) -> None:
    ran = harness("export", str(home / "out"), "--checkpoint", "sft", "--out", str(tmp_path / "m"), cwd=home)
    assert ran.status == 0 and "their files are not here: colours" in (tmp_path / "m" / "README.md").read_text()
    rows = ["diff", f"{home / 'out'}:baseline", f"{home / 'out'}:sft"]
    without = harness(*rows, cwd=home)
    assert "left out, for their files were not named: --benchmarks colours.py" in without.stderr
    assert "COL" in harness(*rows, "--benchmarks", "colours.py", cwd=home).stdout


def test_two_columns_that_a_table_could_not_tell_apart_are_refused(home: Path, tmp_path: Path) -> None:
    shutil.copy(home / "colours.py", tmp_path / "paints.py")
    shutil.copytree(home / "colours", tmp_path / "paints")
    words = ["plan", "--benchmarks", f"{home / 'colours.py'},{tmp_path / 'paints.py'}", "--testbed", str(SMALL_BED)]
    ran = harness(*words, cwd=tmp_path)
    assert ran.status == 2 and 'colours and paints both have "COL"' in ran.stderr


def test_published_answers_are_scored_by_its_rule(home: Path) -> None:
    (home / "answers.json").write_text(json.dumps({f"c{n}": "It is red." for n in range(36)}))
    words = ["--questions", str(home / "colours" / "questions.json"), "--answers", str(home / "answers.json")]
    ran = harness("score", str(home / "colours.py"), *words, "--json", cwd=home)
    assert ran.status == 0 and ran.json["metrics"]["colours/all"] == 25.0, ran.stderr


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda home: shutil.rmtree(home / "colours"), "colours is not there, the folder of colours.py's own files"),
        (lambda home: (home / "colours.py").write_text("x = 1"), "defines 0 subclasses of Benchmark"),
        (lambda home: (home / "colours.py").write_text(MINE.replace('= response.', '= x.')), "colours.py:42"),
        (lambda home: (home / "colours.py").rename(home / "pope.py"), 'the benchmark "pope" is ours; rename the file'),
    ],
    ids=["no data", "no class", "a fault in its code", "a name that is taken"],
)  # fmt: skip
def test_what_cannot_work_is_a_sentence_before_anything_runs(home: Path, tmp_path: Path, spoil, said: str) -> None:  # type: ignore[no-untyped-def]
    for name in ("colours.py", "colours"):
        (shutil.copytree if (home / name).is_dir() else shutil.copy)(home / name, tmp_path / name)
    spoil(tmp_path)
    file = next(tmp_path.glob("*.py"))
    words = ["compare", "--methods", "", "--benchmarks", str(file), "--testbed", str(SMALL_BED), "--store"]
    ran = harness(*words, str(tmp_path / "store"), "--out", str(tmp_path / "out"), cwd=tmp_path)
    assert ran.status == 2 and said in ran.stderr, ran.stderr
    assert not list((tmp_path / "store").glob("items/*"))
