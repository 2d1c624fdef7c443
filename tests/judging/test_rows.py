"""`--rows openai:MODEL`: a row that a chat API answers, asked as the models are and paid once."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from fake import CANARY, completion, serving

from harness.comparison.bill import bills
from harness.comparison.compare import Finished, compare
from harness.comparison.plan import plan
from harness.comparison.progress import Silent
from harness.comparison.request import other_rows, request
from harness.contracts.records import Item, Response, Unscored
from harness.contracts.settings import Runtime
from harness.judging.replies import Answer, Failure, read
from harness.stages.answer import question, response
from harness.store.store import MANIFEST, Store
from harness.system.errors import HarnessError, UsageError
from harness.system.jsonl import read_jsonl
from reports.manifest import Manifest

SMALL = str(Path(__file__).parents[1] / "e2e" / "small.yaml")
RUNTIME = Runtime(workers=1, ask_attempts=1)


def run(home: Path, *sets: str, rows: str = "gpt=openai:gpt-9", budget: float | None = None) -> Finished:
    """The baseline and that row on three scenes of POPE."""
    bed, asked, _ = request("", "llava150k", "", SMALL, 1, "pope", None, 3, list(sets), 1, published=rows)
    bed, runtime = bed.model_copy(update={"crosscheck": False}), RUNTIME.model_copy(update={"budget": budget})
    return compare(asked, bed, runtime, Store(home / "store"), home / "out", Silent(), page=False)


def said(done: Finished, home: Path) -> tuple[list[Item], list[Response]]:
    cell = next(cell for cell in done.plan.cells if cell.row == "gpt")
    store = Store(home / "store")
    items, responses = (store.path(step.stage) for step in (cell.items, cell.responses))
    return [*read_jsonl(Item, items / "items.jsonl")], [*read_jsonl(Response, responses / "responses.jsonl")]


def test_words_of_a_row_name_a_model_or_who_answers(tmp_path: Path) -> None:
    models, answered = other_rows(f"openai:org/gpt-9,mine=openai:gpt-9, seva={tmp_path}")
    assert answered == (("gpt-9", "openai:org/gpt-9"), ("mine", "openai:gpt-9")) and models == (
        ("seva", str(tmp_path)),
    )


def test_one_step_answers_a_benchmark_whatever_the_seed() -> None:
    bed, asked, _ = request("dpo", "llava150k", "", "mini", 2, "pope,gqa", 8, 4, [], 1, published="openai:gpt-9")
    steps = [step for step in plan(asked, bed).steps if step.stage.kind == "answer"]
    assert [step.title for step in steps] == ["answer gpt-9 pope", "answer gpt-9 gqa"]
    assert all(step.resources.gpus == 0 and "gpt-9" in step.resources.asks for step in steps)


def test_how_a_row_is_asked_is_in_its_key_and_in_no_other() -> None:
    def keys(*sets: str) -> dict[str, str]:
        words = ("dpo", "llava150k", "", "mini", 1, "pope", 8, 4, list(sets), 1)
        bed, asked, _ = request(*words, published="openai:gpt-9")
        return {step.title: step.key for step in plan(asked, bed).steps}

    one, other = keys(), keys("answering.temperature=null", "answering.parameters={reasoning_effort: low}")
    moved = {title for title in one if one[title] != other[title]}
    assert moved == {title for title in one if title == "report" or "gpt-9" in title}


def test_a_reply_that_is_cut_is_an_answer_where_it_may_be() -> None:
    cut = completion("A cat and").replace(b'"stop"', b'"length"')
    assert isinstance(read(cut), Failure)
    whole = read(cut, cut=True)
    assert isinstance(whole, Answer) and whole.finish == "length"
    assert response("a", whole.text, {"finish": "length", "tokens": (100, 10)}) == Response(
        "a", "A cat and", 10, 100, ended=False
    )


def test_no_reply_is_no_response() -> None:
    made = response("a", Unscored("a", "no connection"), {})
    assert made.unanswered == "no connection" and not made.text and not made.ids


def test_nothing_that_only_a_judge_may_know_is_asked() -> None:
    assert question(Item("a", None, "Is there a cat?", "a", {"label": "yes"}), 9).facts == {}


def test_a_row_is_asked_with_its_picture_scored_and_paid_once(tmp_path: Path) -> None:
    bodies: list[dict[str, Any]] = []

    def answer(body: dict[str, Any], times: int) -> str:
        bodies.append(body)
        return "<think>hm</think> Yes"

    with serving(answer) as server:
        done = run(tmp_path, rows="gpt=openai:gpt-9")
        calls = sum(server.asked.values())
        assert run(tmp_path).ran == 0 and sum(server.asked.values()) == calls
    items, responses = said(done, tmp_path)
    assert {one.text for one in responses} == {"Yes"} and not done.failed
    text, shown = bodies[-1]["messages"][0]["content"]
    assert text["text"] in {item.prompt for item in items} and bodies[-1]["temperature"] == 0
    picture = base64.b64decode(shown["image_url"]["url"].partition(",")[2])
    assert picture.startswith(b"\x89PNG")
    table = (tmp_path / "out" / "table.csv").read_text()
    assert "gpt †" in table and Manifest.read(tmp_path / "out" / MANIFEST).published == {"gpt": "openai:gpt-9"}
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and CANARY.encode() in file.read_bytes()]


def test_a_server_that_refuses_is_known_before_anything_runs(tmp_path: Path) -> None:
    error = json.dumps({"error": {"message": "no such model", "code": "model_not_found"}}).encode()
    with serving(lambda body, times: (404, {}, error)), pytest.raises(HarnessError, match="see to the model's name"):
        run(tmp_path)
    assert not (tmp_path / "store" / "generate").exists()


def test_a_row_without_a_key_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match='--rows gpt: "openai:gpt-9" needs OPENAI_API_KEY'):
        run(tmp_path)


def test_a_budget_counts_the_calls_of_a_row(tmp_path: Path) -> None:
    with serving(lambda body, times: "Yes") as server:
        with pytest.raises(UsageError, match=r"--budget 0\.0001 is not enough \(row openai:gpt-9"):
            run(tmp_path, "answering.price=[30, 60]", budget=0.0001)
        assert not server.asked
        bed, asked, _ = request(
            "", "llava150k", "", SMALL, 1, "pope", None, 3, ["answering.price=[30, 60]"], 1, published="openai:gpt-9"
        )
        [bill] = bills(planned := plan(asked, bed), planned.steps, Store(tmp_path / "store"), RUNTIME)
        assert bill.role == "row" and bill.calls > 0 and bill.usd is not None and bill.usd > 0.0001
