"""Tasks of lmms-eval as benchmarks: figures are those of its own evaluator, and what does not fit is refused."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from lmms_eval.api.model import lmms as Model
from lmms_eval.api.task import ConfigurableTask
from lmms_eval.evaluator import evaluate
from lmms_eval.utils import load_yaml_config

from benchmarks import _lmms_yaml
from harness.checking.plugin import check_plugin
from harness.comparison.plan import plan
from harness.comparison.preflight import check
from harness.comparison.request import request
from harness.contracts import borrowed, plugins
from harness.contracts.benchmark import Benchmark, Unit, totals
from harness.contracts.records import Item, Response, Score, Unscored
from harness.system.errors import UsageError
from reports.gate import default_policy
from reports.items import moved
from tests.benchmarks.layouts import Files
from tests.lmms import stock
from tests.lmms.stock import Own

ROOT = Path(__file__).parents[2]


class Fixed(Model):  # type: ignore[misc]
    """Says what it was given, document by document."""

    is_simple = True

    def __init__(self, said: Sequence[str]) -> None:
        super().__init__()
        self.said = said

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        return [self.said[request.args[3]] for request in requests]

    def loglikelihood(self, requests: Sequence[Any]) -> Any:
        raise NotImplementedError

    def generate_until_multi_round(self, requests: Sequence[Any]) -> Any:
        raise NotImplementedError


def column(name: str, **options: Any) -> Any:
    made: Benchmark = plugins.make("benchmarks", f"lmms:{name}", Benchmark, options)
    return made


def scored(benchmark: Benchmark, items: Sequence[Item], said: Sequence[str]) -> list[Score | Unscored]:
    return [benchmark.score(item, Response(item.id, text, 1), None) for item, text in zip(items, said, strict=True)]


def units(benchmark: Benchmark, items: Sequence[Item], said: Sequence[str]) -> list[Unit]:
    scores = zip(items, scored(benchmark, items, said), strict=True)
    return benchmark.units([(item, score) for item, score in scores if isinstance(score, Score)])


SAID = {
    "ai2d": ["A", "B. green", "the third", "D.", "C. blue"],
    "mmmu_val": ["A", "B. green", "(C)", "The answer is D.", "C"],
    "gqa": ["red", "Green.", "a blue one", "white", "blue"],
}


@pytest.mark.parametrize("name", ["ai2d", "mmmu_val", pytest.param("gqa", marks=pytest.mark.heavy)])
def test_the_figure_is_that_of_lmms_evals_own_evaluator(name: str, tmp_path: Path) -> None:
    folder, made = stock.write(name, tmp_path / name), column(name)
    items = list(made.items(folder, Files()))
    said = [SAID[name][n % 5] for n in range(len(items))]
    config = load_yaml_config(str(made.task.file)) | {"dataset_path": str(folder)}
    config |= {"dataset_kwargs": {"cache_dir": str(tmp_path / "cache")}, "process_docs": None}  # GQA's are on the hub
    told = SimpleNamespace(process_with_media=False, output_path=str(tmp_path), reasoning_tags=None)
    theirs = evaluate(
        Fixed(said), {name: ConfigurableTask(config=config)}, bootstrap_iters=0, cli_args=told, log_samples=False
    )["results"][name]
    metric = made.metrics[0].id
    ours = made.compute(totals(units(made, items, said)))[metric]
    [value] = [value for key, value in theirs.items() if key.split(",")[0] == metric.split("/")[1]]
    assert ours == pytest.approx(value, abs=1e-12) and 0 < ours < 1
    assert made.compute(totals(units(made, items, said)))[f"lmms:{name}/drawn"] == 0


def test_items_are_what_lmms_eval_would_ask(tmp_path: Path) -> None:
    rows = stock.mmmu(4)
    made = column("mmmu_val")
    first, *rest = made.items(stock.write("mmmu_val", tmp_path / "a", rows), Files())
    assert first.id == "validation_Art_0" and first.facts["answer"] == "A"
    assert first.prompt == (
        "<image 1> Which colour is it?\nA. red\nB. green\nC. blue\nD. white\n\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert first.image == Files().of(rows[0]["image_1"]["bytes"])  # the very file, not a copy of its pixels
    assert len(rest) == 3 and made.max_new_tokens == 128


def test_documents_without_ids_have_those_of_their_content(tmp_path: Path) -> None:
    rows, made = stock.ai2d(4), column("ai2d")
    ids = [item.id for item in made.items(stock.write("ai2d", tmp_path / "a", rows), Files())]
    turned = [item.id for item in made.items(stock.write("ai2d", tmp_path / "b", rows[::-1]), Files())]
    twice = [item.id for item in made.items(stock.write("ai2d", tmp_path / "c", [*rows[:2], rows[0]]), Files())]
    assert turned == ids[::-1] and len(set(ids)) == 4
    assert twice == [*ids[:2], f"{ids[0]}-2"]


def test_a_figure_of_the_whole_set_has_no_replicates_and_no_parts(tmp_path: Path) -> None:
    made = column("mmmu_val")
    items = list(made.items(stock.write("mmmu_val", tmp_path / "a"), Files()))
    found = units(made, items, ["A"] * 12)
    of, sums = "lmms:mmmu_val/mmmu_acc", totals(found)
    assert made.metrics[0].whole and made.compute(sums)[of] == pytest.approx(0.25)
    assert math.isnan(made.compute(totals(found[1:]))[of]) and math.isnan(made.compute(totals(found[:-1]))[of])
    both = made.compute({name: np.array([value, value]) for name, value in sums.items()})
    assert np.isnan(both[of]).all() and both[of].shape == (2,)
    assert moved(made, found, units(made, items, ["B"] * 12)) == {}  # no item is better or worse


def test_an_option_drawn_at_random_is_told_and_drawn_alike_in_any_order(tmp_path: Path) -> None:
    made = column("mmmu_val")
    items = list(made.items(stock.write("mmmu_val", tmp_path / "a"), Files()))
    one, other = (units(made, order, ["no idea"] * 12) for order in (items, items[::-1]))
    assert made.compute(totals(one)) == made.compute(totals(other))
    assert made.compute(totals(one))["lmms:mmmu_val/drawn"] == 1


@pytest.mark.parametrize("name", ["ai2d", "mmmu_val"])
def test_it_keeps_a_benchmarks_contract(name: str, tmp_path: Path) -> None:
    said = list(check_plugin(f"lmms:{name}", {}, stock.write(name, tmp_path / name)))
    assert said[-1].endswith("metrics from sums, one by one and for arrays")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("mathvista_testmini", "is a group of lmms-eval's; name one of its tasks: lmms:mathvista_testmini_cot"),
        ("mmbench_en_dev", "its own judge gives gpt_eval_score, over the network"),
        ("videomme", "it shows videos"),
        ("vqav2_test", "it gives a file to hand in and no figure"),
        ("mmvetv2", "2 of its files declare a task of this name"),
        ("mmmuval", "Near it: lmms:mmmu_val"),
    ],
)
def test_a_stock_task_that_cannot_be_a_column_says_why(name: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        column(name)


def test_a_group_stands_for_its_tasks_each_with_the_folder() -> None:
    three = [f"lmms:mathvista_testmini_{of}=./set" for of in ("cot", "solution", "format")]
    assert list(borrowed.spread("benchmarks", " pope, lmms:mathvista_testmini=./set,lmms:ai2d")) == [
        "pope", *three, "lmms:ai2d",
    ]  # fmt: skip
    with pytest.raises(
        UsageError, match=r"group of 4\..* it gives a file .* Name the others: lmms:mathvista_testmini_cot,"
    ):
        list(borrowed.spread("benchmarks", "lmms:mathvista"))
    with pytest.raises(UsageError, match=r"lmms:mmlu is a group of 4\..* has no task mmlu_stem_tasks.* And 3 more\.$"):
        list(borrowed.spread("benchmarks", "lmms:mmlu"))


@pytest.mark.parametrize(
    ("field", "line", "why"),
    [
        ("output_type", "output_type: multiple_choice", "ranks options by likelihood"),
        ("output_type", "output_type: loglikelihood", "ranks answers by likelihood"),
        ("output_type", "output_type: generate_until_multi_round", "asks in several turns"),
        ("metadata", "num_fewshot: 5", "shows 5 answered examples first"),
        ("metadata", "repeats: 8", "asks 8 times"),
        ("metadata", "full_docs: true", "all documents at hand"),
        ("metadata", "process_results_use_image: true", "scores with pictures"),
        ("metadata", "generation_kwargs: {do_sample: true, temperature: 0.7}", "samples at temperature 0.7"),
        ("metadata", "generation_kwargs: {num_beams: 4}", "searches 4 beams"),
        ("metadata", "dataset_kwargs: {video: true}", "shows videos"),
        ("test_split", "training_split: train", "no test and no validation split"),
        ("  - {", "  - {metric: gpt_score, aggregation: mean}", "its own judge gives gpt_score"),
        ("  - {", "  - {metric: submission}", "a file to hand in"),
    ],
)
def test_a_task_is_refused_by_its_yaml(field: str, line: str, why: str, own: Own) -> None:
    own.declare(**{field: line})
    with pytest.raises(UsageError, match=f"lmms:mine cannot be a column: .*{why}"):
        column("mine")


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("def visual(doc): return [doc['image']] * 2", "document 0, shows 2 pictures; a prompt here has one"),
        ("def visual(doc): return ['clip.mp4']", r"document 0, shows a str \(a video, a sound\?\)"),
        ("def visual(doc): return doc['image']", "document 0, shows a PngImageFile"),
        ("def text(doc): return [doc['question']]", "its prompt is a list, no text"),
        ("def text(doc): return doc['caption']", "the set-up of lmms-eval's task fails .KeyError: 'caption'"),
        ("import socket\ndef visual(doc): socket.create_connection(('::1', 9))", "goes for the network in document 0"),
        ("from datasets import load_dataset\ndef visual(doc): load_dataset('other/set')", "reads a second data set"),
    ],
)
def test_a_task_is_refused_by_its_documents(code: str, why: str, own: Own) -> None:
    own.declare(code)
    with pytest.raises(UsageError, match=why):
        list(column("mine").items(own.data, Files()))


def test_a_judge_of_its_own_is_found_out_though_the_task_would_score_on(own: Own) -> None:
    own.declare(
        "def score(doc, results):\n"
        "    import requests\n"
        "    try: return {'right': requests.post('http://127.0.0.1:9/v1', timeout=1).json()}\n"
        "    except Exception: return {'right': 0.0}\n"
    )
    made = column("mine")
    [item, *_] = made.items(own.data, Files())
    with pytest.raises(UsageError, match="lmms:mine asks a judge of its own over the network"):
        made.score(item, Response(item.id, "red", 1), None)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("    if doc['answer'] == 'blue': raise LookupError('no such answer')", "fails: LookupError: no such answer"),
        ("    if doc['answer'] == 'blue': return {'right': float('nan')}", "gives nan for right, which is no number"),
        ("    if doc['answer'] == 'blue': return {'right': None}", "gives None for right, which is no number"),
    ],
)
def test_a_document_that_the_task_cannot_score_is_unscored(code: str, reason: str, own: Own) -> None:
    own.declare(f"def score(doc, results):\n{code}\n    return {{'right': float(results[0] == doc['answer'])}}\n")
    made = column("mine")
    items = list(made.items(own.data, Files()))
    found = scored(made, items, ["red"] * 12)
    lost = [score for score in found if isinstance(score, Unscored)]
    assert [score.id for score in lost] == [item.id for item in items if item.facts["answer"] == "blue"]
    assert all(reason in score.reason for score in lost)
    assert made.compute(totals(units(made, items, ["red"] * 12)))["lmms:mine/right"] == pytest.approx(3 / 9)


def test_an_aggregation_that_fails_is_a_sentence(own: Own) -> None:
    own.declare("def total(rows): return rows[0]['points']", **{
        "  - {": "  - {metric: right, aggregation: !function utils.total, higher_is_better: true}"
    })  # fmt: skip
    made = column("mine")
    items = list(made.items(own.data, Files()))
    with pytest.raises(UsageError, match=r"lmms:mine: the aggregation of right of lmms-eval's task fails .TypeError"):
        units(made, items, ["red"] * 12)


def test_a_response_ends_before_the_tasks_stop_strings(own: Own) -> None:
    own.declare(metadata='generation_kwargs: {until: [";"]}')
    made = column("mine")
    [item, *_] = made.items(own.data, Files())
    right, wrong = scored(made, [item, item], ["red; or green", "red or green"])
    assert isinstance(right, Score) and isinstance(wrong, Score)
    assert (right.parts["right/sum"], wrong.parts["right/sum"]) == (1, 0)


def test_files_that_are_not_there_are_told_with_the_command(own: Own) -> None:
    with pytest.raises(UsageError, match=r"is not there; a clone of the hub's data set somebody/mine, .* Fetch"):
        list(column("mine").items(own.data / "nowhere", Files()))
    (own.data / "test.parquet").rename(own.data / "train.parquet")
    with pytest.raises(UsageError, match="has no split test, only train"):
        list(column("mine").items(own.data, Files()))
    (own.data / "train.parquet").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(UsageError, match="hf download somebody/mine"):
        list(column("mine").items(own.data, Files()))


def test_rows_may_be_json_where_there_are_no_pictures(own: Own) -> None:
    own.declare(doc_to_visual="doc_to_choice:")
    (own.data / "test.parquet").unlink()
    (own.data / "test.jsonl").write_text('{"question": "1?", "answer": "red"}\n{"question": "2?", "answer": "blue"}\n')
    made = column("mine")
    items = list(made.items(own.data, Files()))
    assert [(item.image, item.prompt) for item in items] == [(None, "1?"), (None, "2?")]
    assert made.compute(totals(units(made, items, ["red", "red"])))["lmms:mine/right"] == 0.5


def test_a_hub_data_set_is_pinned_and_gives_the_same_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` takes a folder of the working directory for a hub dataset of that name, which needs no network."""
    clone = stock.write("ai2d", tmp_path / "lmms-lab-encoder" / "ai2d")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lmms_eval.api.task._resolve_hf_datasets_cache_dir", lambda: str(tmp_path / "cache"))
    hub = column("ai2d", hub=f"lmms-lab-encoder/ai2d@{'0' * 40}")
    assert list(hub.items(tmp_path / "nowhere", Files())) == list(column("ai2d").items(clone, Files()))
    with pytest.raises(UsageError, match="40-hex commit"):
        list(column("ai2d", hub="lmms-lab-encoder/ai2d").items(clone, Files()))


def keys(folder: Path) -> dict[str, str]:
    """The keys of a comparison with the own task's column, by title, as far as they lead to that."""
    words = (None, None, None, 1)
    bed, asked, _ = request("", "llava150k", "", "mini", 1, f"gqa,lmms:mine={folder}", *words)
    return {step.title: step.key for step in plan(asked, bed, rows=check(asked, bed)).steps if step.title != "report"}


@pytest.mark.parametrize("change", ["yaml", "code", "data", "version"])
def test_a_changed_task_is_another_key_and_no_other_column_moves(
    change: str, own: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = keys(own.data)
    if change == "yaml":
        own.declare(metadata="generation_kwargs: {max_new_tokens: 7}")
    elif change == "code":
        own.declare("def text(doc): return doc['question'] + ' In a word.'")
    elif change == "data":
        own.rows(more="column")
    else:
        monkeypatch.setattr(_lmms_yaml, "version", lambda: "0.7.4")
    after = keys(own.data)
    assert {title for title in before if before[title] != after[title]} == {
        "items lmms:mine", "generate baseline lmms:mine seed 0", "score baseline lmms:mine seed 0",
    }  # fmt: skip
    assert keys(own.data) == after


def test_a_task_that_changed_since_it_was_planned_is_not_run(own: Own) -> None:
    planned = column("mine", content=column("mine").task.content, lmms_eval="0.7.3")
    list(planned.items(own.data, Files()))
    own.declare("X = 1")
    with pytest.raises(UsageError, match=r"lmms:mine: content is .* here, and was .* when this was planned"):
        list(planned.items(own.data, Files()))


def test_what_a_comparison_writes_down(own: Own) -> None:
    bed, asked, _ = request("", "llava150k", "", "mini", 1, f"lmms:mine={own.data}", None, None, None, 1)
    assert asked.benchmarks == ("lmms:mine",)
    assert bed.benchmarks["lmms:mine"] == {
        "lmms_eval": "0.7.3", "version": "1.5", "content": column("mine").task.content,
    }  # fmt: skip
    assert plugins.own_folder("benchmarks", "lmms:mine") == own.data
    assert plugins.foreign("benchmarks", ["gqa", "lmms:mine", "lmms:other", "other"]) == {"lmms:other", "other"}
    assert default_policy({"lmms:mine": column("mine")}).margins == {}  # nobody knows how far its scale goes


def test_without_lmms_eval_one_sentence_has_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "lmms_eval", lambda: "")
    _lmms_yaml.home.cache_clear()
    try:
        with pytest.raises(UsageError, match=r"not installed: pip install .* pip install --no-deps lmms-eval==0.7.3"):
            _lmms_yaml.home()
        assert plugins.foreign("benchmarks", ["lmms:never_asked_for"]) == {"lmms:never_asked_for"}
    finally:
        _lmms_yaml.home.cache_clear()


@pytest.mark.heavy
def test_nothing_of_lmms_eval_is_imported_where_nobody_asks_for_it_nor_to_list_its_tasks() -> None:
    told = subprocess.run(
        [sys.executable, "-c", LISTED],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "200"},
    ).stdout.splitlines()
    assert json.loads(told[-1]) == [False, False]
    listed = "\n".join(told)
    assert "lmms:ai2d" in listed and "lmms-lab-encoder/ai2d" in listed and "its own judge gives" in listed


LISTED = """
import json, sys
from harness.comparison.request import request
request("", "llava150k", "", "mini", 1, "gqa", None, None, None, 1)
asked = "benchmarks._lmms_task" in sys.modules
from harness.commands.terminal import show_benchmarks
show_benchmarks("lmms:")
print(json.dumps([asked, "lmms_eval" in sys.modules]))
"""
