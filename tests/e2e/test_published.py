"""A model that somebody else trained is a row: asked, scored, tested as the others, and said to be no method's."""

import json
from pathlib import Path

import pytest

from harness.comparison.face import Wanted
from harness.comparison.request import other_rows
from harness.system.errors import UsageError
from reports.manifest import Manifest
from tests.e2e.conftest import ROOT, SMALL_BED, harness

BASES = ROOT / "harness" / "mini" / "bases"
ASKED = ["--testbed", str(SMALL_BED), "--benchmarks", "pope", "--limit", "12", "--no-page", "--workers", "1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The baseline, another base by its own name, and the baseline once more under another."""
    home = tmp_path_factory.mktemp("published")
    rows = f"other={BASES / '1'},twin={BASES / '0'}"
    ran = harness(
        "compare", "--methods", "", *ASKED, "--rows", rows, "--store", str(home / "s"), "--out", str(home / "o")
    )
    assert ran.status == 0, ran.stderr
    assert "other †" in ran.stdout
    assert "† published, not trained here: its data, base and" in " ".join(ran.stdout.split())  # of any width
    return home / "o"


def test_it_is_scored_as_the_baseline_is(run: Path) -> None:
    told = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
    values = {(line["method"], line["metric"]): line["value"] for line in told}
    rows = {row: {metric: value for (of, metric), value in values.items() if of == row} for row, _ in values}
    assert rows["twin"] == rows["baseline"] != rows["other"]


def test_the_same_model_generates_once(run: Path) -> None:
    manifest = Manifest.read(run / "manifest.json")
    responses = {cell.row: cell.responses for cell in manifest.cells}
    assert responses["twin"] == responses["baseline"] != responses["other"]
    assert manifest.published.keys() == {"other", "twin"} and not manifest.trained
    assert manifest.models == {"0": manifest.published["twin"]}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("sft=BASES/1", "the row sft is named twice"),
        ("baseline=BASES/1", "baseline is the name of a row of ours"),
        ("a=BASES/1,a=BASES/2", "the row a is named twice"),
        ("a=BASES/nothing", "no model folder"),
        ("a=someone/x@" + "0" * 40, "hf download someone/x --revision"),
        ("odd name=BASES/1", "name the row in front"),
    ],
)
def test_what_cannot_be_a_row_is_a_sentence_before_any_work(rows: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        Wanted.of("sft", rows=rows.replace("BASES", str(BASES)), benchmarks="pope", store=tmp_path).plan()
    assert not list(tmp_path.glob("*/*"))


def test_a_row_is_named_as_its_model() -> None:
    commit = "0" * 40
    models, answered = other_rows(f"./a/seva-7b, owner/csr@{commit},mine=./x,openai:gpt-4o")
    assert [name for name, _ in models] == ["seva-7b", "csr", "mine"] and answered == (("gpt-4o", "openai:gpt-4o"),)
