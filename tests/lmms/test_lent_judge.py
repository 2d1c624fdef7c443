"""A task that asks an LLM asks a judge of ours: what it asks, what comes of the replies, and what of none."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lmms_eval.api.task import ConfigurableTask
from lmms_eval.evaluator import evaluate
from lmms_eval.llm_judge import Request
from lmms_eval.llm_judge import Response as Told
from lmms_eval.utils import load_yaml_config

from harness.checking.plugin import check_plugin
from harness.comparison.bill import Note
from harness.contracts.benchmark import totals
from harness.contracts.judge import Ask, Listed
from harness.contracts.judge_kind import Hired
from harness.contracts.records import Item, Response, Score, Unscored
from harness.scoring.verdicts import combined, score_runs
from harness.system.errors import UsageError
from tests.benchmarks.layouts import Files, Fixed
from tests.lmms import stock
from tests.lmms.stock import Own
from tests.lmms.test_task import Fixed as Model
from tests.lmms.test_task import column

COT = "lmms:mathvista_testmini_cot"


class Judge(Hired):
    """Replies to each question by what stands in it, and knows what it was asked."""

    name = "told"

    def __init__(self, say: Callable[[Ask], str | Unscored], runs: int = 1) -> None:
        self.say, self.runs, self.asks = say, runs, list[Ask]()

    def reply(self, ask: Ask) -> str | Unscored:
        self.asks.append(ask)
        return self.say(ask)


def read(ask: Ask) -> str:
    """The last word of the response that stands at the prompt's end."""
    return ask.prompt.removesuffix("\n\nExtracted answer: ").split()[-1].rstrip(".")


def mathvista(folder: Path) -> tuple[Any, list[Item]]:
    pytest.importorskip("Levenshtein", reason="MathVista's task compares words by it")
    made = column("mathvista_testmini_cot")
    return made, list(made.items(stock.write("mathvista_testmini", folder), Files()))


def figure(made: Any, items: list[Item], judge: Hired, say: Callable[[int], str]) -> float:
    said = {item.id: Response(item.id, say(n), 1) for n, item in enumerate(items)}
    scores = combined(score_runs(made, items, said, judge))
    pairs = [(item, score) for item, score in zip(items, scores, strict=True) if isinstance(score, Score)]
    once, again = (float(made.compute(totals(made.units(pairs)))[f"{COT}/llm_as_judge_eval"]) for _ in "12")
    assert once == again or math.isnan(once)
    return once


def told(number: int) -> str:
    """Plain answers, which nobody needs to read, and such as a judge must."""
    return ["red", "1", "I see that it is blue.", "There are 3.", "no idea", "5.0"][number % 6]


def test_mathvista_comes_out_as_lmms_evals_own_evaluator_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, items = mathvista(tmp_path / "set")
    judge = Judge(read)
    ours = figure(made, items, judge, told)

    class Server:
        def evaluate(self, request: Request) -> Told:
            return Told(read(Ask("", "", None, request.messages[0]["content"])), "")

    config = load_yaml_config(str(made.task.file)) | {"dataset_path": str(tmp_path / "set")}
    config["dataset_kwargs"] = {"cache_dir": str(tmp_path / "cache")}
    task = ConfigurableTask(config=config)
    process = task.config.process_results.__globals__["mathvista_evaluator"]
    monkeypatch.setattr(process, "server", Server(), raising=False)
    how = SimpleNamespace(process_with_media=False, output_path=str(tmp_path), reasoning_tags=None)
    model = Model([told(n) for n in range(12)])
    name = made.task.name
    found = evaluate(model, {name: task}, bootstrap_iters=0, cli_args=how, log_samples=False)["results"][name]
    assert ours == found["llm_as_judge_eval,none"] == pytest.approx(100 * 6 / 12)
    assert len(judge.asks) == 8 and {ask.max_tokens for ask in judge.asks} == {256}
    assert judge.asks[0].id == f"{COT}/3" and "I see that it is blue." in judge.asks[0].prompt


def test_a_question_without_a_reply_is_no_verdict(tmp_path: Path) -> None:
    made, items = mathvista(tmp_path)
    lost = made.score(items[0], Response("1", "I see red", 3), Fixed(Unscored("", "the line is dead")))
    assert lost == Unscored("1", "the line is dead")
    assert "needs a judge and none was given" in made.score(items[0], Response("1", "I see red", 3), None).reason
    assert isinstance(made.score(items[0], Response("1", "red", 1), None), Score)  # which nobody needs to read


def test_what_it_would_ask_is_noted_for_the_bill_and_the_judge_asked_side_by_side(tmp_path: Path) -> None:
    made, items = mathvista(tmp_path)
    note = Note()
    made.score(items[0], Response("1", "I see red", 3), note)
    assert [ask.id for ask in note.asks] == [f"{COT}/1"]
    panel = SimpleNamespace(name="panel", known=lambda ask: False)
    listed = Listed(panel)  # type: ignore[arg-type]
    assert isinstance(made.score(items[0], Response("1", "I see red", 3), listed), Unscored) and len(listed.asks) == 1


def test_a_figure_of_the_whole_set_is_the_mean_of_the_judges_runs(tmp_path: Path) -> None:
    made, items = mathvista(tmp_path)
    judge = Judge(lambda ask: "red" if ask.run == 0 else "3", runs=2)
    once = [figure(made, items, Judge(lambda ask, says=says: says), lambda n: "hm") for says in ("red", "3")]
    assert once[0] != once[1] and figure(made, items, judge, lambda n: "hm") == pytest.approx(sum(once) / 2)


ASKING = """
from lmms_eval.llm_judge import Request, ServerConfig, get_server
server = get_server("azure", ServerConfig("gpt", max_tokens=9, system_prompt="Be kind."))
def ask(content, **more):
    try: return server.evaluate(Request(messages=[{"role": "user", "content": content}], **more)).content
    except Exception: return "failed"
"""


def asking(own: Own, score: str) -> tuple[Any, list[Item]]:
    own.declare(f"{ASKING}\ndef score(doc, results):\n    {score}\n")
    made = column("mine")
    return made, list(made.items(own.data, Files()))


def test_each_question_has_a_name_and_its_whole_text(own: Own) -> None:
    made, [item, *_] = asking(own, "return {'right': float(ask('one') + ask([{'type': 'text', 'text': 'two'}]))}")
    judge = Judge(lambda ask: ask.id[-1])
    score = made.score(item, Response(item.id, "red", 1), judge)
    assert [ask.prompt for ask in judge.asks] == ["Be kind.\n\none", "Be kind.\n\ntwo"]
    assert judge.asks[1].id == f"lmms:mine/{item.id}/2" and judge.asks[0].max_tokens == 9
    assert score.parts["right/sum"] == float(item.id[-1] + "2")


@pytest.mark.parametrize(
    ("score", "why"),
    [
        ("return {'right': float(ask('so?') == ask('so?'))}", "cannot read the reply 'hm'"),
        ("return {'right': ask([{'type': 'image_url'}])}", "shows its judge a picture"),
        ("return {'right': ask('so?', images=[b''])}", "shows its judge a picture"),
    ],
)
def test_what_comes_to_nothing_is_told(score: str, why: str, own: Own) -> None:
    """The task's own code would take each for an answer."""
    made, [item, *_] = asking(own, score)
    lost = made.score(item, Response(item.id, "red", 1), Fixed("hm"))
    assert isinstance(lost, Unscored) and why in lost.reason


def test_a_judge_of_all_documents_at_once_is_refused(own: Own) -> None:
    code = f"{ASKING}\ndef total(rows): return 0.0 if ask('all') == 'failed' else 1.0"
    own.declare(code, **{"  - {": "  - {metric: right, aggregation: !function utils.total, higher_is_better: true}"})
    made = column("mine")
    items = list(made.items(own.data, Files()))
    scores = [(item, made.score(item, Response(item.id, "red", 1), Fixed("hm"))) for item in items]
    with pytest.raises(UsageError, match="goes for the network in the aggregation of right"):
        made.units(scores)


def test_it_keeps_a_benchmarks_contract_and_is_told_of(tmp_path: Path) -> None:
    made, _ = mathvista(tmp_path)
    assert made.judged and not column("mmmu_val").judged
    *_, last = check_plugin(COT, {}, tmp_path)
    assert last.endswith("metrics from sums, one by one and for arrays")


@pytest.mark.heavy
def test_a_comparison_of_the_group_has_a_column_for_each_task(tmp_path: Path) -> None:
    from tests.e2e.conftest import SMALL_BED, harness

    pytest.importorskip("Levenshtein", reason="MathVista's task compares words by it")
    stock.write("mathvista_testmini", tmp_path / "set", count=24)
    stock.write("mmmu_val", tmp_path / "mmmu", count=24)
    replies = {f"lmms:mathvista_testmini_{of}/{n + 1}": "A" for of in ("cot", "format", "solution") for n in range(24)}
    (tmp_path / "replies.json").write_text(json.dumps(replies))
    columns = f"lmms:mmmu_val={tmp_path / 'mmmu'},lmms:mathvista_testmini={tmp_path / 'set'}"
    words = ["compare", "--methods", "sft", "--benchmarks", columns, "--testbed", str(SMALL_BED)]
    words += ["--judge", f"script:{tmp_path / 'replies.json'}"]
    ran = harness(*words, "--store", str(tmp_path / "store"), "--out", str(tmp_path / "out"), cwd=tmp_path)
    assert ran.status == 0, ran.stderr
    lines = [line.split(",") for line in (tmp_path / "out" / "table.csv").read_text().splitlines()]
    found = {row[3] for row in lines[1:]}
    assert found == {"lmms:mmmu_val", *(f"lmms:mathvista_testmini_{of}" for of in ("cot", "format", "solution"))}
