"""Responses as lmms-eval logs samples: its own readers read them, and find in them what its tasks said of them."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import datasets
import pytest
from lmms_eval.baselines.loader import load_baseline
from lmms_eval.tui import server
from typer.testing import CliRunner

from benchmarks import _lmms_samples as writing
from benchmarks._lmms import second_opinion
from benchmarks._lmms_stock import STOCK
from harness.cli import app
from harness.contracts import plugins
from harness.contracts.benchmark import Benchmark
from harness.contracts.records import Response, Score, Unscored
from harness.mini.benchsets import write_benchmark
from harness.system.errors import HarnessError
from tests.benchmarks.layouts import Files, Fixed, perfect
from tests.fake_run import FakeRun
from tests.lmms.test_crosscheck import OPTIONS, SCORED

DATE = "20260301_120000"


def answered(name: str, folder: Path) -> writing.Answered:
    """A benchmark's items; every third response is wrong."""
    benchmark: Benchmark = plugins.make("benchmarks", name, Benchmark, OPTIONS.get(name, {}))
    write_benchmark(name, 0, 12, folder)
    items = list(benchmark.items(folder, Files()))
    texts = {one.id: "zebra" if n % 3 == 2 else perfect(name, one) for n, one in enumerate(items)}
    said = {id: Response(id, text, len(text.split())) for id, text in texts.items()}
    scores: dict[str, Score | Unscored] = {one.id: benchmark.score(one, said[one.id], Fixed()) for one in items}
    return writing.Answered(name, benchmark, items, said, scores)


def lines(folder: Path, task: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{DATE}_samples_{task}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", SCORED)
def test_results_are_the_second_opinion_and_samples_what_was_said(name: str, tmp_path: Path) -> None:
    one = answered(name, tmp_path / "data")
    told = writing.write_samples(tmp_path / "x", "dpo", DATE, [one])
    results = json.loads((tmp_path / "x" / "dpo" / f"{DATE}_results.json").read_text())
    texts = {id: response.text for id, response in one.said.items()}
    opinions = [row for row in second_opinion(name, one.benchmark, one.items, texts, one.scores) if "value" in row]
    assert opinions and told[0].startswith(f"{name}: ")
    for row in opinions:
        [stock] = [stock for stock in STOCK[name] if Path(stock.yaml).stem == row["task"]]
        value = results["results"][row["task"]][f"{row['task_metric']},none"]
        assert value * stock.pairs[row["task_metric"]][1] == pytest.approx(row["value"])
    for stock in STOCK[name]:
        mine = [item for item in one.items if stock.keep(item)]
        found = lines(tmp_path / "x" / "dpo", Path(stock.yaml).stem)
        assert [(row["doc_id"], row["input"], row["filtered_resps"]) for row in found] == [
            (number, item.prompt, texts[item.id]) for number, item in enumerate(mine)
        ]
        assert all(len(row["doc_hash"]) == 64 for row in found)
        assert f"({len(mine)})" in told[0]


def test_its_baseline_loader_reads_each_items_score(tmp_path: Path) -> None:
    one = answered("pope", tmp_path / "data")
    writing.write_samples(tmp_path / "x", "dpo", DATE, [one])
    mine = [item for item in one.items if item.facts["split"] == "random"]
    right = {n: float(one.said[item.id].text.lower() == item.facts["label"]) for n, item in enumerate(mine)}
    file = tmp_path / "x" / "dpo" / f"{DATE}_samples_pope_random.jsonl"
    scores, results = load_baseline(str(file), "pope_random")
    assert scores == right and 0 < sum(right.values()) < len(mine)
    assert results is not None and "pope_random" in results["results"]


def test_its_log_viewer_lists_the_run_and_its_samples(tmp_path: Path) -> None:
    one = answered("gqa", tmp_path / "data")
    writing.write_samples(tmp_path / "x", "dpo", DATE, [one])
    [run] = asyncio.run(server.list_log_runs(str(tmp_path / "x")))
    assert (run.model_name, run.date, run.tasks) == ("dpo", DATE, ["gqa"])
    assert run.n_samples == {"gqa": {"original": len(one.items), "effective": len(one.items)}}
    assert run.total_evaluation_time_seconds is None  # writing them is no evaluation
    page = asyncio.run(server.get_log_run_samples(run.run_id, "gqa", str(tmp_path / "x"), 1, 2))
    assert (page.total, len(page.samples), page.samples[0]["doc_id"]) == (len(one.items), 2, 1)
    assert run.run_id == quote(f"dpo/{DATE}_results.json", safe="")


def test_datasets_reads_a_file_whole(tmp_path: Path) -> None:
    one = answered("mmvet", tmp_path / "data")
    writing.write_samples(tmp_path / "x", "dpo", DATE, [one])
    files = str(tmp_path / "x" / "dpo" / f"{DATE}_samples_mmvet.jsonl")
    rows = datasets.load_dataset("json", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert rows["filtered_resps"][:] == [response.text for response in one.said.values()]


def test_a_task_that_fails_costs_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = answered("gqa", tmp_path / "a"), answered("pope", tmp_path / "b")
    monkeypatch.setitem(STOCK, "gqa", ())
    whole = writing.replayed
    monkeypatch.setattr(
        writing, "replayed", lambda stock, *rest: 1 / 0 if "pop." in stock.yaml else whole(stock, *rest)
    )
    told = writing.write_samples(tmp_path / "x", "dpo", DATE, [one, other])
    assert told[0] == "gqa: no task of lmms-eval is set beside it"
    assert "pope_random (" in told[1] and "pope_pop: the stock task fails: ZeroDivisionError" in told[1]
    assert not list(tmp_path.glob("x/dpo/*pope_pop*"))


def test_what_it_could_not_write_is_no_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It logs its own faults and goes on."""
    monkeypatch.setattr(writing.EvaluationTracker, "save_results_samples", lambda *_: None)
    with pytest.raises(HarnessError, match=r"samples_gqa\.jsonl; is the disk full"):
        writing.write_samples(tmp_path / "x", "dpo", DATE, [answered("gqa", tmp_path / "data")])


def exported(run: Path, out: Path, *words: str) -> Any:
    asked = ["export", str(run), "--responses", "nsft", "--format", "lmms-eval", "--out", str(out), *words]
    return CliRunner().invoke(app, asked)


def test_the_command_writes_them_with_a_card(tmp_path: Path) -> None:
    run = FakeRun(said={"nsft": "Yes."}).write(tmp_path)
    ran = exported(run, tmp_path / "x")
    assert ran.exit_code == 0, ran.output
    assert "gqa: gqa (4)" in ran.output and "mmhal: no task of lmms-eval is set beside it" in ran.output
    [file] = tmp_path.glob("x/nsft/*_samples_gqa.jsonl")
    assert [json.loads(line)["filtered_resps"] for line in file.read_text().splitlines()] == ["Yes."] * 4
    card = (tmp_path / "x" / "README.md").read_text()
    assert "as `lmms-eval --log_samples` writes them" in card and "`doc_id` counts" in card


def test_where_it_writes_nothing_there_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = FakeRun().write(tmp_path)
    ran = exported(run, tmp_path / "x", "--benchmarks", "mmhal")
    assert "nothing of it can be written" in str(ran.exception) and not (tmp_path / "x").exists()
    monkeypatch.setattr("harness.comparison.answers.plugins", SimpleNamespace(lmms_eval=lambda: ""))
    ran = exported(run, tmp_path / "y")
    assert "pip install --no-deps lmms-eval==0.7.3" in str(ran.exception) and not (tmp_path / "y").exists()
