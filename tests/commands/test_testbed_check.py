"""`harness doctor --testbed` of official files: a line per part, the cure where one is wrong, nobody paid."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness.mini
from harness.commands.testbed_check import Finding, examine
from harness.comparison.request import request
from harness.contracts.testbed_file import read_testbed
from harness.mini.benchsets import write_benchmark
from harness.mini.sources import write_source
from harness.sources._chosen import named


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A HARNESS_DATA with mini's models, one source and one benchmark in the official layouts."""
    for model, mine in (("llava-1.5-7b-hf", "bases/0"), ("clip-vit-large-patch14-336", "clip")):
        shutil.copytree(Path(harness.mini.__file__).parent / mine, tmp_path / "models" / model)
    for folder in ("sources", "benchmarks"):
        (tmp_path / folder).mkdir()
    write_source("llava150k", "alignment", 0, 4, tmp_path / "sources/llava150k")
    write_benchmark("pope", 0, 4, tmp_path / "benchmarks/pope")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_DATA", str(tmp_path))
        patch.setenv("OPENAI_API_KEY", "sk-a-key-that-is-long")
        yield tmp_path


def findings(benchmarks: str = "pope", methods: str = "sft,dpo") -> dict[str, Finding]:
    """What the doctor finds, by the first words of the line."""
    bed, asked, _ = request(methods, "llava150k", "", "llava-1.5-7b", 1, benchmarks, None, None, None, 1)
    return {finding.what.split("/")[0].strip(): finding for finding in examine(bed, asked)}


def test_what_is_there_is_looked_at_and_found_good(data: Path) -> None:
    found = findings()
    bad = {what: str(finding) for what, finding in found.items() if not finding.good}
    assert bad.keys() == {f"data {name}" for name in named() if name != "llava150k"}, bad
    assert found["benchmark pope"].said == "the first 5 items have prompts and readable pictures"
    assert "it was not asked" in found["judge"].said


def test_each_wrong_part_is_one_line_with_its_cure(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / "models/llava-1.5-7b-hf/model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    shutil.rmtree(data / "models/clip-vit-large-patch14-336")
    next((data / "sources/llava150k").rglob("*.png")).parent.rename(data / "gone")
    for file in (data / "benchmarks/pope").rglob("*.json*"):
        file.write_text(json.dumps([{}]))
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    found = findings()
    wrong = {what for what, finding in found.items() if not finding.good}
    assert {"model", "clip", "data llava150k", "benchmark pope", "judge", "writer"} <= wrong
    for what in wrong:
        assert len(str(found[what]).splitlines()) == 1 and "unexpected" not in found[what].said, str(found[what])
    assert "hf download" in found["clip"].said and "OPENAI_API_KEY" in found["judge"].said


def test_a_data_folder_that_is_not_named_is_the_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    bed = read_testbed("llava-1.5-7b")
    _, asked, _ = request("sft", "llava150k", "", "llava-1.5-7b", 1, "", None, None, None, 1)
    assert [str(finding) for finding in examine(bed, asked)] == [
        "wrong  data: $HARNESS_DATA is not set; set it to the folder that holds models/, sources/ and benchmarks/."
    ]
