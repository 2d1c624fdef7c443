"""What the server bills stays within the budget: whatever it says it counted, however many ask, whoever is killed."""

import json
import random
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake import HANG, QUICK, Server, asked, asker, llm, refusal, serving, wait_for

from harness.contracts.judge import Ask
from harness.contracts.settings import Chat, Runtime
from harness.judging import prices
from harness.judging.journal import Journal
from harness.judging.llm import Llm
from harness.judging.replies import Usage
from harness.system.errors import HarnessError, UsageError

PRICE = (30.0, 60.0)
LIES: list[Any] = [
    None, {}, [], "100", 7, {"total_tokens": 1}, {"prompt_tokens": None, "completion_tokens": None},
    {"prompt_tokens": -100, "completion_tokens": -100, "total_tokens": -200},
    {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    {"prompt_tokens": float("nan"), "completion_tokens": float("nan")},
    {"prompt_tokens": float("inf"), "completion_tokens": float("-inf")},
    {"prompt_tokens": 10**30, "completion_tokens": -(10**30)},
    {"prompt_tokens": "100", "completion_tokens": ["10"]},
    {"prompt_tokens": True, "completion_tokens": False},
    {"prompt_tokens": 0.5, "completion_tokens": 0.5},
    {"input_tokens": 100, "output_tokens": 10},
]  # fmt: skip


class Biller:
    """Counts as it likes, within a token per byte and the limit on the reply, and bills by that. Says what it likes."""

    def __init__(self, seed: int, lies: list[Any], faults: float = 0.0) -> None:
        self.random, self.lies, self.faults = random.Random(seed), lies, faults
        self.lock, self.billed = threading.Lock(), 0.0

    def __call__(self, body: dict[str, Any], times: int) -> Any:
        with self.lock:
            size = len(body["messages"][0]["content"].encode())
            prompt = self.random.randint(size // 4, size + prices.OVERHEAD_TOKENS)
            said = "0.5" if self.random.random() < 0.5 else "word " * self.random.randint(1, body["max_tokens"] // 2)
            completion = self.random.randint(max(1, len(said) // 5), body["max_tokens"])
            self.billed += prices.usd((prompt, completion), PRICE)
            honest = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
            usage = self.random.choice([honest, {"total_tokens": prompt + completion}, *self.lies])
            fault = self.random.random() < self.faults
            kind = self.random.choice([refusal(500), refusal(502), refusal(408), refusal(400), HANG, b'{"choi'])
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        return kind if fault else json.dumps({"model": "m", "choices": [choice], "usage": usage}).encode()


def long(number: int) -> Ask:
    """A question of 20 to 4,000 bytes, in several scripts."""
    text = f"Grade response {number}. " + "Ist das richtig? 好吗？ " * (number * 7 % 120)
    return replace(asked(number), prompt=text, max_tokens=[16, 64, 256][number % 3])


def spend(folder: Path, budget: float, concurrency: int, runtime: Runtime = QUICK) -> str:
    """Ask until the money is spent; what the end was."""
    judge = llm(folder, runtime.model_copy(update={"budget": budget, "ask_concurrency": concurrency}))
    judge.afford = lambda asks: None  # type: ignore[method-assign]  # what is left are the reservations
    try:
        judge.ask_all([long(number) for number in range(200)])
    except HarnessError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("seed", range(5))
def test_no_server_bills_more_than_the_budget(tmp_path: Path, seed: int) -> None:
    biller, budget = Biller(seed, LIES), 0.5 + seed / 4
    with serving(biller):
        for _ in range(2):  # and the same command again has nothing left
            assert f"of the budget of {budget:.2f} USD" in spend(tmp_path, budget, 1 + seed % 4 * 5)
    assert 0.1 * budget < biller.billed <= budget


def test_an_honest_server_may_use_up_most_of_the_budget(tmp_path: Path) -> None:
    biller = Biller(0, [])
    biller.random.choice = lambda kinds: kinds[0]  # type: ignore[method-assign]
    with serving(biller):
        spend(tmp_path, 1.0, 4)
    assert 0.8 < biller.billed <= 1.0


def test_what_may_have_been_billed_without_a_reply_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.judging.llm.BACKOFF_S", 0.01)
    biller = Biller(1, LIES, faults=0.4)
    with serving(biller):
        assert "of the budget" in spend(tmp_path, 1.0, 8, QUICK.model_copy(update={"ask_attempts": 2}))
    assert 0.05 < biller.billed <= 1.0


def test_what_a_cancelled_call_may_cost_counts(tmp_path: Path) -> None:
    with serving(lambda body, times: HANG):
        judge = llm(tmp_path, QUICK.model_copy(update={"ask_deadline_s": 0.3, "budget": 5.0}))
        judge.ask_all([asked(1)])
        assert judge.journal.spent >= judge.cost(asked(1)) > 0 and not judge.journal.waiting()


@pytest.mark.heavy
def test_processes_that_are_killed_spend_within_one_budget(tmp_path: Path) -> None:
    biller = Biller(2, LIES)
    with serving(biller) as server:
        for share in (5, 15):
            children = [asker(tmp_path, 150, budget=1.0) for _ in range(2)]
            wait_for(lambda share=share: sum(server.asked.values()) >= share, 60)  # type: ignore[misc]
            for child in children:
                child.send_signal(signal.SIGKILL)
                child.wait()
        children = [asker(tmp_path, 150, budget=1.0) for _ in range(2)]
        said = [child.communicate(timeout=120)[1] for child in children]
    assert all("of the budget of 1.00 USD" in text for text in said)
    assert 0.1 < biller.billed <= 1.0


def dear(body: dict[str, Any], times: int) -> Any:
    """Honest, but it puts 25,000 tokens of its own before every question: 0.75 USD."""
    choice = {"message": {"role": "assistant", "content": "0.5"}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 25_000, "completion_tokens": 2}}).encode()


def cheap_call_before(folder: Path) -> None:
    with serving(lambda body, times: "0.5"):
        llm(folder).reply(asked(999))


def calls_of_a_dear_server(folder: Path) -> Server:
    cheap_call_before(folder)
    with serving(dear) as server:
        assert "the next question may cost 0." in spend(folder, 1.0, 8)
    return server


def test_what_calls_cost_is_seen_on_one_before_eight_are_under_way(tmp_path: Path) -> None:
    assert sum(calls_of_a_dear_server(tmp_path).asked.values()) == 1


def test_the_next_run_knows_what_calls_cost_beyond_their_bound(tmp_path: Path) -> None:
    calls_of_a_dear_server(tmp_path)
    with serving(dear) as server:
        assert "the next question may cost 0." in spend(tmp_path, 1.4, 8)
    assert not server.asked


def test_while_one_is_sounding_out_nobody_else_asks(tmp_path: Path) -> None:
    one, other = Journal(tmp_path), Journal(tmp_path)
    ticket = one.reserve(0.1, 1.0, alone=True)
    assert ticket and other.reserve(0.1, 1.0) is None and other.waiting()
    one.settle(ticket, 0.1)
    assert other.reserve(0.1, 1.0)


def test_the_dead_are_not_waited_for_whatever_the_clock_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process died in a call under a clock that was a year ahead: what it reserved is spent, and others go on."""
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert Journal(tmp_path).reserve(0.5, 1.0, alone=True)
    monkeypatch.setattr("time.time", lambda: 1e9)
    after = Journal(tmp_path)
    assert not after.waiting() and after.spent == 0.5 and after.reserve(0.5, 1.0)
    assert len(list((tmp_path / "locks").glob("life-*"))) == 1


@asynccontextmanager
async def side_by_side(judge: Llm) -> AsyncIterator[bool]:
    yield False


def test_mutants_spend_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One charges what the server says, one asks side by side from the first."""
    with monkeypatch.context() as changed, serving(biller := Biller(3, LIES)):
        changed.setattr(prices, "charged", lambda body, usage, _: (usage.prompt or 0, usage.completion or 0))
        spend(tmp_path / "charged", 1.0, 8)
        assert biller.billed > 1.0
    monkeypatch.setattr(Llm, "_turn", side_by_side)
    cheap_call_before(tmp_path / "alone")
    with serving(dear) as server:
        spend(tmp_path / "alone", 1.0, 8)
    assert 0.75 * sum(server.asked.values()) > 1.0


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (Usage(100, 10), (100, 10)), (Usage(), (656, 50)), (Usage(100), (100, 50)), (Usage(None, 10), (656, 10)),
        (Usage(20, 10), (656, 10)), (Usage(90, 10), (100, 10)), (Usage(100, 0), (100, 0)),
        (Usage(100, 0, visible=9), (100, 50)), (Usage(100, 3, visible=40), (100, 50)),
        (Usage(100, 5, visible=40), (100, 10)),
        (Usage(100, 10, 160), (100, 60)), (Usage(None, None, 1000), (656, 344)), (Usage(5000, 90), (5000, 90)),
    ],
)  # fmt: skip
def test_the_larger_of_both_counts_is_charged(usage: Usage, tokens: tuple[int, int]) -> None:
    """400 bytes were sent, and 50 tokens were allowed for the reply."""
    body = {"model": "m", "max_tokens": 50, "messages": [{"content": "x" * 400}]}
    assert prices.charged(body, usage, 50) == tokens


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"n": 4}, "n cannot be set"), ({"web_search_options": {}}, "web_search_options cannot"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction cannot"),
        ({"stream": True}, "stream cannot"), ({"max_tokens": -1}, "whole number"),
        ({"max_completion_tokens": 1.5}, "whole number"), ({"top_p": float("nan")}, "JSON"),
    ],
)  # fmt: skip
def test_parameters_that_would_make_calls_dearer_are_refused(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Chat(parameters=parameters)


@pytest.mark.parametrize(
    ("model", "chat", "said"),
    [
        ("tiny", Chat(), r"--set writing\.price=\[INPUT,OUTPUT\]"),
        ("gpt-4-0613", Chat(parameters={"max_tokens": None}), "a limit on replies"),
        ("gpt-4-0613", Chat(parameters={"service_tier": "priority"}), r"--set writing\.price=\[INPUT,OUTPUT\]"),
    ],
)
def test_a_budget_that_could_not_hold_is_refused(tmp_path: Path, model: str, chat: Chat, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Llm(model, chat, Runtime(budget=1), Journal(tmp_path), prices.PRICES.get(model))


def test_a_schema_that_goes_along_is_reserved_too(tmp_path: Path) -> None:
    """A server puts it before the model, and bills it."""
    schema = {"type": "json_schema", "json_schema": {"name": "grade", "schema": {"description": "é" * 4000}}}
    billed: list[float] = []

    def bill(body: dict[str, Any], times: int) -> Any:
        prompt = len(json.dumps(body["response_format"])) + len(body["messages"][0]["content"])
        billed.append(prices.usd((prompt, 2), PRICE))
        choice = {"message": {"role": "assistant", "content": "0.5"}, "finish_reason": "stop"}
        return json.dumps({"choices": [choice], "usage": {"prompt_tokens": prompt, "completion_tokens": 2}}).encode()

    with serving(bill):
        judge = llm(tmp_path, QUICK.model_copy(update={"budget": 0.5}), parameters={"response_format": schema})
        with pytest.raises(HarnessError, match="next question may cost"):
            judge.ask_all([asked(1)])
        assert not billed
        richer = llm(tmp_path, QUICK.model_copy(update={"budget": 1.0}), parameters={"response_format": schema})
        assert richer.reply(asked(1)) == "0.5"
    assert sum(billed) <= richer.journal.spent <= 1.0


def test_the_dearest_image_is_reserved(tmp_path: Path) -> None:
    body = {"model": "gpt-4o-mini-2024-07-18", "max_tokens": 1, "messages": [{"content": "", "image": "digest"}]}
    assert prices.bound(body, 1)[0] == prices.OVERHEAD_TOKENS + 48_169
    assert prices.bound({**body, "model": "mine"}, 1)[0] == prices.OVERHEAD_TOKENS + 20_000
