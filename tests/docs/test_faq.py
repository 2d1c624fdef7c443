"""Every sentence that the FAQ explains is one that the product says."""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import harness
from harness.comparison.face import Wanted
from harness.system.errors import HarnessError
from reports.gate import gate
from reports.runs import opened
from tests.fake_run import FakeRun

FAQ = (Path(__file__).parents[2] / "docs" / "faq.md").read_text(encoding="utf-8")
SENTENCES = re.findall(r"^### `(.+)`$", FAQ, re.MULTILINE)


def planned(folder: Path, methods: str = "dpo", **words: object) -> None:
    Wanted.of(methods, **{"out": folder / "out", "store": folder / "store", **words}).plan()  # type: ignore[arg-type]


def records(folder: Path, **more: object) -> str:
    said = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "It."}]
    row = {"id": "1", "image": "a.png", "conversations": said, **more}
    (folder / "my.jsonl").write_text(json.dumps(row) + "\n")
    return str(folder / "my.jsonl")


def main(folder: Path) -> None:
    """As in a worker that imports the script which compares."""
    process = sys.modules["multiprocessing"].current_process()
    process._inheriting = True
    try:
        harness.compare("sft", store=folder)
    finally:
        del process._inheriting


def gated(folder: Path) -> None:
    given = FakeRun()
    runs = [given.write(folder / "a"), replace(given, judge="oracle:2").write(folder / "b")]
    with opened(runs) as (before, after):
        gate(before, after, None, after.profile())


MET: list[Callable[[Path], object]] = [
    lambda here: planned(here, "nfst"),
    lambda here: planned(here, set=["beta=1"]),
    lambda here: planned(here, set=["sft.kl=forward"]),
    lambda here: planned(here, set=["training.batch=3"]),
    lambda here: planned(here, limit=0),
    lambda here: planned(here, "nsft,nsft"),
    lambda here: planned(here, data=str(here / "none.json")),
    lambda here: planned(here, data=records(here, score=3)),
    lambda here: planned(here, images="photos"),
    lambda here: planned(here, "nsft", data=records(here)),
    lambda here: planned(here, "nsft", writer="openai:gpt-4o"),
    lambda here: planned(here, testbed="llava-1.5-7b"),
    lambda here: planned(here, set=["runtime.reference=adapter_off"]),
    lambda here: planned(here, set=["runtime.report_to=mlflow"]),
    main,
    lambda here: harness.load(here / "none"),
    gated,
]


def test_there_is_a_case_for_every_sentence() -> None:
    assert len(SENTENCES) == len(MET) >= 15


@pytest.mark.parametrize("number", range(len(MET)))
def test_the_product_says_so(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    monkeypatch.setitem(sys.modules, "mlflow", None)  # as where it is not installed
    with pytest.raises(HarnessError) as caught:
        MET[number](tmp_path)
    pattern = ".+".join(map(re.escape, SENTENCES[number].split("…")))
    assert re.search(pattern, str(caught.value), re.DOTALL), caught.value
