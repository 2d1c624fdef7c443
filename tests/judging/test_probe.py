"""A wrong key or address is found before the build, by one cheap call; nobody is called who will be asked nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake import CANARY, QUICK, completion, llm, refusal, serving

from harness.comparison.bill import check_access
from harness.comparison.compare import compare
from harness.comparison.plan import plan
from harness.comparison.progress import Silent
from harness.comparison.request import validated
from harness.comparison.sweep import choose
from harness.contracts.settings import MethodSpec, Runtime, Testbed
from harness.contracts.steps import Request
from harness.contracts.testbed_file import read_testbed
from harness.judging import llm as asking
from harness.sources._chosen import source
from harness.store.store import Store
from harness.system.errors import HarnessError
from reports.totals import RULE

SMALL = Path(__file__).parents[1] / "e2e" / "small.yaml"
BED = validated(read_testbed(str(SMALL)), {"writer": "openai:gpt-4-0613", "crosscheck": False})
NSFT = Request((MethodSpec(name="nsft"),), source("llava150k"), examples=4, limit=4, benchmarks=("pope",))


def run(store: Path, bed: Testbed = BED, runtime: Runtime = QUICK) -> None:
    compare(NSFT, bed, runtime, Store(store), store / "out", Silent(), page=False)


def made(store: Path) -> list[Path]:
    """Whatever any stage has left: folders of kinds of stages, but not the store's own."""
    return [file for file in store.glob("[a-z]*/*") if file.is_dir()]


def cut(body: dict[str, Any], times: int) -> bytes:
    """What a model says that may say one token."""
    return completion("read").replace(b'"stop"', b'"length"')


@pytest.mark.parametrize(
    ("answer", "cure"),
    [
        (refusal(401, "invalid_api_key"), "OPENAI_API_KEY"),
        (refusal(403), "OPENAI_API_KEY may do"),
        (refusal(404, "model_not_found"), "the model's name"),
        (refusal(429, "insufficient_quota"), "quota"),
        (refusal(400, "unsupported_value"), "the writing settings"),
        ((200, {}, b'{"error": {"code": "invalid_api_key", "message": "no"}}'), "OPENAI_API_KEY"),
    ],
)
def test_what_no_call_cures_stops_before_the_first_stage(tmp_path: Path, answer: Any, cure: str) -> None:
    with serving(lambda body, times: answer) as server, pytest.raises(HarnessError, match=cure) as caught:
        run(tmp_path)
    assert caught.value.exit_status == 3 and sum(server.asked.values()) == 1 and not made(tmp_path)


def test_a_server_that_is_not_there_stops_before_the_first_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "BACKOFF_S", 0.01)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(HarnessError, match=r"no connection.*OPENAI_BASE_URL"):
        run(tmp_path)
    assert not made(tmp_path)


def test_a_page_to_log_in_is_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "BACKOFF_S", 0.01)
    with serving(lambda body, times: b"<html>Log in</html>"), pytest.raises(HarnessError, match="web page"):
        run(tmp_path)
    assert not made(tmp_path)


def test_a_sweep_is_probed_too(tmp_path: Path) -> None:
    request = replace(NSFT, benchmarks=tuple(name for names in RULE.values() for name in names))
    with serving(lambda body, times: refusal(401)) as server, pytest.raises(HarnessError, match="OPENAI_API_KEY"):
        choose(request, BED, Runtime(), Store(tmp_path), (1e-4,), Silent())
    assert sum(server.asked.values()) == 1 and not made(tmp_path)


@pytest.mark.parametrize("answer", [cut, lambda *_: "ready", lambda *_: refusal(500), lambda *_: refusal(429)])
def test_a_server_that_is_there_is_asked_once_for_one_token_each_time(tmp_path: Path, answer: Any) -> None:
    bodies: list[dict[str, Any]] = []
    with serving(lambda body, times: bodies.append(body) or answer(body, times)):
        for _ in range(2):  # a key may have been revoked in between
            llm(tmp_path).probe()
    assert [body["max_tokens"] for body in bodies] == [1, 1]
    journal = llm(tmp_path).journal
    assert journal.spent < 0.03 and not journal.replies
    assert CANARY not in (tmp_path / "replies.jsonl").read_text()


def test_a_probe_spends_within_the_budget_and_leaves_the_rest_to_the_questions(tmp_path: Path) -> None:
    with serving(lambda body, times: "ready") as server:
        llm(tmp_path, QUICK.model_copy(update={"budget": 0.001})).probe()
    assert not server.asked


def test_nobody_is_called_who_will_be_asked_nothing(tmp_path: Path) -> None:
    """A method without a writer, benchmarks without a judge; an oracle; a plan that is done."""
    store, sft = Store(tmp_path), replace(NSFT, methods=(MethodSpec(name="sft"),))
    oracle = read_testbed(str(SMALL))
    with serving(lambda body, times: refusal(401)) as server:
        for request, bed in ((sft, BED), (NSFT, oracle)):
            planned = plan(request, bed)
            check_access(planned, planned.steps, store, QUICK)
        check_access(plan(NSFT, BED), [], store, QUICK)
        assert not server.asked
        planned = plan(NSFT, BED)
        with pytest.raises(HarnessError):  # the same check with the build to come
            check_access(planned, planned.steps, store, QUICK)
        assert server.asked
