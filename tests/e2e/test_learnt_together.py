"""Joint training as a user runs it on the embedded testbed: beside a row's records what the bases were tuned on."""

import json
from pathlib import Path

import pytest

from reports.manifest import Manifest
from tests.e2e.conftest import SMALL_BED, harness

ASKED = (
    "compare", "--methods", "sft,sft:joint=null", "--set", "sft.joint={data: mix665k, examples: 5}", "--testbed",
    str(SMALL_BED), "--benchmarks", "pope", "--limit", "4", "--examples", "4",
)  # fmt: skip
ALARM = "NOT THE METHOD ALONE: together with their records learnt Cont. SFT mix665k; sft:joint=null nothing else"


@pytest.mark.heavy
def test_rows_that_learn_other_data_too_say_so_everywhere(tmp_path: Path) -> None:
    places = ("--store", str(tmp_path / "store"), "--out", str(tmp_path / "out"))
    ran = harness(*ASKED, "--page", *places)
    assert ran.status == 0, ran.stderr
    manifest = Manifest.read(tmp_path / "out" / "manifest.json")
    steps = {}
    for made in manifest.trained:
        [train] = [name for name in made.stages if name.startswith("train/")]
        summary = json.loads((tmp_path / "store" / train / "summary.json").read_text())
        steps[made.row] = summary["records"], summary["joint_records"], summary["steps"]
    assert steps == {"sft": (9, 5, 3), "sft:joint=null": (4, 0, 1)}
    page = (tmp_path / "out" / "report.html").read_text()
    assert f'class="alarm">{ALARM}' in page and ALARM in " ".join((ran.stdout + ran.stderr).split())
    assert "Cont. SFT learnt 5 examples of mix665k together with its records, per seed, 0 left out" in page
    sent = harness("export", str(tmp_path / "out"), "--records", "sft", "--out", str(tmp_path / "sent"))
    assert sent.status == 0 and "not here: the examples of mix665k, which were learnt together" in sent.stdout
    assert manifest.shared["pope"].pictures > 0
    assert "nothing to do" in harness("plan", *ASKED[1:], *places[:2]).stdout
