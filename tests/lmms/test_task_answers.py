"""Published responses to a task of lmms-eval, scored by its own objects: its samples files, and one's own records."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lmms_eval.api.task import ConfigurableTask
from lmms_eval.evaluator import evaluate
from lmms_eval.loggers.evaluation_tracker import EvaluationTracker
from lmms_eval.utils import load_yaml_config
from typer.testing import CliRunner

from harness.cli import app
from harness.comparison.published import Rescored, rescore
from harness.system.errors import UsageError
from tests.benchmarks.layouts import Files
from tests.lmms import stock
from tests.lmms.stock import Own
from tests.lmms.test_task import SAID, Fixed, column


def lines(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


def score(name: str, questions: Path, answers: str, **more: Any) -> Rescored:
    return rescore(f"lmms:{name}", [answers], [str(questions)], [], **more)


@pytest.mark.parametrize("name", ["ai2d", "mmmu_val"])
def test_the_samples_that_lmms_eval_logs_come_out_as_its_own_figure(name: str, tmp_path: Path) -> None:
    folder = stock.write(name, tmp_path / name)
    config = load_yaml_config(str(column(name).task.file)) | {"dataset_path": str(folder)}
    config |= {"dataset_kwargs": {"cache_dir": str(tmp_path / "cache")}}
    how = SimpleNamespace(process_with_media=False, output_path=str(tmp_path), reasoning_tags=None)
    said = [SAID[name][n % 5] for n in range(12)]
    found = evaluate(Fixed(said), {name: ConfigurableTask(config=config)}, bootstrap_iters=0, cli_args=how)
    tracker = EvaluationTracker(output_path=str(tmp_path))
    tracker.general_config_tracker.model_name_sanitized, tracker.date_id = "x", "today"
    tracker.save_results_samples(name, found["samples"][name])
    done = score(name, folder, str(tmp_path / "x" / f"today_samples_{name}.jsonl"))
    [metric] = column(name).metrics
    theirs = next(value for key, value in found["results"][name].items() if key.split(",")[0] in metric.id)
    assert done.metrics[metric.id] == pytest.approx(theirs, abs=1e-12) and 0 < theirs < 1
    assert (done.n, done.unscored, done.notes) == (12, 0, ())


def test_what_export_writes_is_read_back(tmp_path: Path) -> None:
    folder, made = stock.write("ai2d", tmp_path / "ai2d"), column("ai2d")
    items = list(made.items(folder, Files()))
    [(name, text)] = made.answers(items, {item.id: "A" for item in items}).items()
    (tmp_path / name).write_text(text)
    assert score("ai2d", folder, str(tmp_path / name)).metrics["lmms:ai2d/exact_match"] == pytest.approx(3 / 12)


def test_a_file_of_rows_is_data_enough(own: Own, tmp_path: Path) -> None:
    file = (own.data / "test.parquet").rename(tmp_path / "rows.parquet")
    answers = lines(tmp_path / "said.jsonl", [{"doc_id": n, "filtered_resps": "red"} for n in range(12)])
    assert score("mine", file, answers).metrics["lmms:mine/right"] == pytest.approx(0.25)
    with pytest.raises(UsageError, match=r"rows\.npz is not there"):
        list(column("mine").items(tmp_path / "rows.npz", Files()))


def test_a_response_is_read_as_it_came_and_a_filter_reads_it_once(own: Own, tmp_path: Path) -> None:
    own.declare(metadata='generation_kwargs: {until: [";"]}')
    rows = [{"doc_id": n, "resps": ["red; or blue"], "filtered_resps": "blue", "filter": "a"} for n in range(12)]
    answers = lines(tmp_path / "said.jsonl", [*rows, {**rows[0], "filter": "b"}])
    assert score("mine", own.data, answers).metrics["lmms:mine/right"] == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([{"doc_id": 0, "resps": ["red"], "target": "blue"}], "with the answer 'blue', and document 0 here has 'red'"),
        ([{"doc_id": 0, "resps": [["red", "blue"]]}], r"should be a text and is \['red', 'blue'\]"),
        ([{"doc_id": 0}], "should be a text and is None"),
        ([{"doc_id": 99, "resps": ["red"]}], "1 ids in the answers only: doc_id 99"),
        ([{"text": "red"}], "record 1 of .* has no id"),
        ([{"id": "x"}], "record 1 of .* has no text and no response"),
        (["red"], "record 1 of .* has no fields"),
        ([{"doc_id": 0, "resps": ["red"]}], "11 ids without a response"),
        ([{"doc_id": [0], "resps": ["red"]}], r"has no id: \[0\]"),
    ],
)
def test_answers_that_do_not_fit_are_told(rows: list[Any], why: str, own: Own, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=why):
        score("mine", own.data, lines(tmp_path / "said.jsonl", rows))


def test_a_part_of_the_documents_has_no_figure_of_the_whole_set_only_means(own: Own, tmp_path: Path) -> None:
    answers = lines(tmp_path / "said.jsonl", [{"doc_id": 0, "resps": ["red"]}])
    done = score("mine", own.data, answers, allow_partial=True)
    assert (done.metrics["lmms:mine/right"], done.n, done.unscored) == (1.0, 1, 11)


def test_a_judge_reads_what_the_task_asks_it(tmp_path: Path) -> None:
    pytest.importorskip("Levenshtein", reason="MathVista's task compares words by it")
    folder = stock.write("mathvista_testmini", tmp_path / "set")
    answers = lines(tmp_path / "said.jsonl", [{"id": str(n + 1), "text": "well, 3"} for n in range(12)])
    replies = {f"lmms:mathvista_testmini_cot/{n + 1}": "3" for n in range(12)}
    (tmp_path / "replies.json").write_text(json.dumps(replies))
    words = ["score", "lmms:mathvista_testmini_cot", "--questions", str(folder), "--answers", answers, "--json"]
    ran = CliRunner().invoke(app, [*words, "--judge", f"script:{tmp_path / 'replies.json'}"])
    assert ran.exit_code == 0, ran.output
    done = json.loads(ran.stdout)
    assert done["metrics"]["lmms:mathvista_testmini_cot/llm_as_judge_eval"] == pytest.approx(33.33) and done["n"] == 12
    ran = CliRunner().invoke(app, words)
    assert "needs a judge and none was given" in str(ran.exception)
