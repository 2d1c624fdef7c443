"""Questions that go as a batch: half the price, the same replies under the same keys, and nothing is paid twice."""

import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake import asked, completion, refusal, wait_for
from fake_batch import DROPPED, FULL, asker, clean, desk, grade, judge, ok, replies, told

from harness.contracts.judge import answered, verdict
from harness.contracts.records import Image, Unscored
from harness.judging import batch_api
from harness.judging.journal import Journal
from harness.judging.llm import Llm
from harness.system.errors import Denied

SIX = clean(6)
HALF = FULL / 2


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for a service of our own."""
    for name in ("FIRST_POLL_S", "MAX_POLL_S"):
        monkeypatch.setattr(f"harness.judging.batch.{name}", 0.01)


def settled(folder: Path) -> float:
    """USD by the journal, where no question is open any more."""
    journal = Journal(folder)
    assert not journal.open and not journal.carried
    return journal.spent


def test_a_batch_gives_what_calls_give_under_the_same_keys_for_half_the_price(tmp_path: Path) -> None:
    with desk() as there:
        assert replies(judge(tmp_path / "calls", ask_batch=0), 6) == SIX
        assert "POST /batches" not in there.seen and there.billed == pytest.approx(6 * FULL)
        assert replies(judge(tmp_path / "batch"), 6) == SIX
        assert there.seen["POST /batches"] == 1 and there.seen["POST /chat/completions"] == 6
    calls, batch = (Journal(tmp_path / name) for name in ("calls", "batch"))
    told = [{key: {**reply, "usd": 0, "at": 0} for key, reply in one.replies.items()} for one in (calls, batch)]
    assert told[0] == told[1]
    assert settled(tmp_path / "calls") == pytest.approx(6 * FULL)
    assert settled(tmp_path / "batch") == pytest.approx(6 * HALF)


def test_what_is_known_is_not_sent_and_few_are_called_for(tmp_path: Path) -> None:
    with desk() as there:
        replies(judge(tmp_path), 4)
        assert replies(judge(tmp_path, ask_batch=3), 6) == SIX
    assert there.seen["POST /batches"] == 1 and there.seen["POST /chat/completions"] == 2


def test_the_request_is_what_a_call_sends(tmp_path: Path) -> None:
    with desk() as there:
        replies(judge(tmp_path), 2)
    lines = [json.loads(line) for line in there.files["file-0"].splitlines()]
    llm = judge(tmp_path)
    assert [line["custom_id"] for line in lines] == [llm.key(asked(number)) for number in range(2)]
    assert [line["body"] for line in lines] == [llm.body(asked(number)) for number in range(2)]
    assert {(line["method"], line["url"]) for line in lines} == {("POST", "/v1/chat/completions")}


def test_a_picture_that_cannot_be_sent_is_its_question_s_reason(tmp_path: Path) -> None:
    gone = replace(asked(9), image=Image(str(tmp_path / "gone.png"), "0" * 64), see=True)
    llm = judge(tmp_path)
    llm.chat = llm.chat.model_copy(update={"images": True})
    with desk():
        llm.ask_all([*map(asked, range(3)), gone])
        assert isinstance(llm.reply(gone), Unscored)
        assert [llm.reply(asked(number)) for number in range(3)] == clean(3)


def test_its_progress_is_told(tmp_path: Path) -> None:
    ticks: list[tuple[int, int]] = []
    llm = judge(tmp_path)
    llm.tick = lambda done, total: ticks.append((done, total))
    with desk() as there:
        there.looks = 3

        def half(what: str) -> Any:
            counts = {"completed": 2, "failed": 1}
            under_way = there.seen[what] < there.looks
            return ok({"id": "batch-0", "status": "in_progress", "request_counts": counts}) if under_way else None

        there.after = lambda what: half(what) if what == "GET /batches/ID" else None
        assert replies(llm, 6) == SIX
    assert ticks == [(3, 6), (6, 6)]


# Files of replies.


def foreign(lines: list[bytes]) -> list[bytes]:
    """Lines about nothing that was asked, and lines that are none."""
    junk = [b"", b"\xff\xfe\x00", b"{", b"[]", b"null", b"[" * 9000, b'{"custom_id": 7}', b'{"custom_id": {"a": []}}']
    stray = told("0" * 32, 200, completion("0.99"))
    return [*junk, stray, *lines, b'{"custom_id": "' + b"x" * 70_000 + b'"}', stray]


def shuffled(lines: list[bytes]) -> list[bytes]:
    return random.Random(1).sample(lines, len(lines))


def of(line: bytes, **changes: Any) -> bytes:
    return json.dumps({**json.loads(line), **changes}).encode()


@pytest.mark.parametrize("shaped", [shuffled, foreign, lambda lines: [line + b"\r" for line in lines]])
def test_the_order_and_company_of_lines_do_not_matter(shaped: Callable[..., list[bytes]], tmp_path: Path) -> None:
    with desk() as there:
        there.shaped = shaped
        assert replies(judge(tmp_path), 6) == SIX
    assert settled(tmp_path) == pytest.approx(6 * HALF) and max(there.did.values()) == 1


def test_of_two_answers_to_one_question_the_first_counts_and_both_are_paid(tmp_path: Path) -> None:
    def twice(lines: list[bytes]) -> list[bytes]:
        return [*lines, told(json.loads(lines[2])["custom_id"], 200, completion("0.99"))]

    with desk() as there:
        there.shaped = twice
        assert replies(judge(tmp_path), 6) == SIX
    assert settled(tmp_path) == pytest.approx(7 * HALF)


HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "missing": lambda line: b"",
    "cut": lambda line: line[:-9],
    "not UTF-8": lambda line: line.replace(b"0.1", b"\xff"),
    "one key twice": lambda line: line[:-1] + b', "custom_id": "x"}',
    "no response": lambda line: of(line, response=None),
    "a response that is a text": lambda line: of(line, response="0.1"),
    "a status that is a text": lambda line: of(line, response={"status_code": "200", "body": {}}),
    "a status that is true": lambda line: of(line, response={"status_code": True, "body": {}}),
    "a body that is null": lambda line: of(line, response={"status_code": 200, "body": None}),
    "a body that is an error": lambda line: of(line, response={"status_code": 200, "body": {"error": {"code": 500}}}),
    "a status of 500": lambda line: of(line, response={"status_code": 500, "body": {"error": {"message": "busy"}}}),
    "an error that is a list": lambda line: of(line, response=None, error=[1]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_line_that_says_nothing_is_asked_again_and_counts_as_paid(name: str, tmp_path: Path) -> None:
    spoilt = [True]
    with desk() as there:
        there.shaped = lambda lines: [HOSTILE[name](lines[0]), *lines[1:]] if spoilt.pop() else lines
        spoilt.insert(0, False)
        assert replies(judge(tmp_path), 6) == SIX
    assert there.seen["POST /batches"] == 1 and there.seen["POST /chat/completions"] == 1  # one alone is called for
    assert there.billed - 1e-9 <= settled(tmp_path) and there.did.total() == 7


def test_what_never_gets_a_reply_is_named_and_asked_three_times(tmp_path: Path) -> None:
    with desk() as there:
        there.shaped = lambda lines: []
        llm = judge(tmp_path)
        assert replies(llm, 4) == [None] * 4
    assert there.seen["POST /batches"] == 3 and len(llm.lost) == 4
    assert all("batch-2 (completed) has no reply to it" in why for why in llm.lost)
    assert there.billed <= settled(tmp_path)


def test_a_refusal_of_one_question_is_its_own(tmp_path: Path) -> None:
    with desk(lambda text: refusal(400, "bad") if "response 2" in text else grade(text)) as there:
        llm = judge(tmp_path)
        said = replies(llm, 6)
    assert said == [*SIX[:2], None, *SIX[3:]] and there.seen["POST /batches"] == 1
    assert llm.lost == ["openai:gpt-4-0613: HTTP 400: refused with bad"]


def test_a_refusal_that_no_other_question_escapes_ends_the_run_with_everything_kept(tmp_path: Path) -> None:
    poor = desk(lambda text: refusal(429, "insufficient_quota") if "response 5" in text else grade(text))
    with poor, pytest.raises(Denied, match="see to the account's quota"):
        replies(judge(tmp_path), 6)
    assert len(Journal(tmp_path).replies) == 5 and settled(tmp_path) == pytest.approx(5 * HALF)


def test_a_file_that_is_gone_was_paid_for_and_is_asked_again(tmp_path: Path) -> None:
    with desk() as there:
        there.faults["GET /files/ID/content"] = [(404, b"{}")]
        assert replies(judge(tmp_path), 6) == SIX
    assert there.did.total() == 12 and there.billed <= settled(tmp_path)


def test_what_an_expired_batch_has_done_counts_as_paid_where_its_file_is_gone(tmp_path: Path) -> None:
    with desk() as there:
        there.ends, there.run_share = "expired", 0.5
        there.faults["GET /files/ID/content"] = [(404, b"{}")]
        llm = judge(tmp_path, ask_attempts=1)
        assert replies(llm, 6) == [None] * 6
    reserved = 3 * llm.cost(asked(1)) / 2
    assert there.billed <= settled(tmp_path) == pytest.approx(reserved)


def test_a_file_without_end_is_not_read_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_api, "MAX_FILE", 1 << 20)
    with desk() as there:
        there.shaped = lambda lines: [*lines, b" " * (1 << 21)]
        llm = judge(tmp_path)
        assert replies(llm, 2) == [None, None] and there.seen["POST /batches"] == 3
    assert there.billed <= settled(tmp_path)


# How a batch ends.


def test_what_an_expired_batch_has_not_begun_is_not_paid_and_goes_again(tmp_path: Path) -> None:
    with desk() as there:
        there.ends, there.run_share = "expired", 0.5

        def later(what: str) -> None:
            if there.seen["POST /batches"] == 2:
                there.ends, there.run_share = "completed", 1.0

        there.after = later
        assert replies(judge(tmp_path), 6) == SIX
    assert there.seen["POST /batches"] == 2 and max(there.did.values()) == 1
    assert settled(tmp_path) == pytest.approx(6 * HALF) == pytest.approx(there.billed)


def test_a_batch_that_somebody_cancels_is_not_sent_again_unasked(tmp_path: Path) -> None:
    with desk() as there:
        there.ends, there.run_share = "cancelled", 0.5
        with pytest.raises(Denied, match=r"batch-0 was cancelled\. Every reply is kept"):
            replies(judge(tmp_path), 6)
        assert settled(tmp_path) == pytest.approx(3 * HALF)
        there.ends, there.run_share = "completed", 1.0
        assert replies(judge(tmp_path), 6) == SIX
    assert max(there.did.values()) == 1


def test_a_batch_that_fails_ends_the_run_in_the_service_s_words(tmp_path: Path) -> None:
    with desk() as there:
        there.ends, there.errors = "failed", {"data": [{"code": "x", "message": "line 3: \x1b[31mno such model"}]}
        with pytest.raises(Denied, match=r"batch-0 failed: line 3:  ?\[31mno such model"):
            replies(judge(tmp_path), 6)
    assert settled(tmp_path) == 0


def test_what_is_too_much_for_the_queue_goes_in_halves(tmp_path: Path) -> None:
    with desk() as there:
        run, errors = there.run, {"data": [{"code": "token_limit_exceeded", "message": "too much"}]}

        def picky(batch: dict[str, Any]) -> None:
            much = len(there.files[batch["input_file_id"]].splitlines()) > 3
            there.ends, there.errors = ("failed", errors) if much else ("completed", None)
            run(batch)

        there.run = picky  # type: ignore[method-assign]
        assert replies(judge(tmp_path), 6) == SIX
    assert there.seen["POST /batches"] == 3 and settled(tmp_path) == pytest.approx(6 * HALF)


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        ({"id": "batch-0", "status": "sleeping"}, "it has the status sleeping, which the API does not have"),
        ({"id": "batch-0", "status": ["completed"]}, "it has the status none"),
        ({"id": "batch-0", "status": "completed", "output_file_id": "../../v1/files"}, "it names a file"),
    ],
)
def test_a_batch_that_cannot_be_is_refused_by_name_and_left(batch: Any, said: str, tmp_path: Path) -> None:
    with desk() as there:
        there.faults["GET /batches/ID"] = [ok(batch)]
        with pytest.raises(Denied, match=f"batch batch-0 with 6 questions: {re.escape(said)}"):
            replies(judge(tmp_path), 6)
        assert replies(judge(tmp_path), 6) == SIX
    assert there.seen["POST /batches"] == 1


# What goes wrong on the way.


@pytest.mark.parametrize("what", ["POST /files", "POST /batches"])
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((404, b"{}"), r"may have no batch API: ask one by one \(--set runtime.ask_batch=0\)"),
        (refusal(401)[::2], "see to OPENAI_API_KEY"),
        (refusal(400, "no")[::2], "no batch was made: HTTP 400: .*refused with no"),
    ],
)
def test_a_batch_that_is_not_taken_is_not_paid(what: str, answer: Any, said: str, tmp_path: Path) -> None:
    with desk() as there:
        there.faults[what] = [answer]
        with pytest.raises(Denied, match=said):
            replies(judge(tmp_path), 6)
    assert settled(tmp_path) == 0 and not there.did


BROKEN = [(500, b"{}"), DROPPED, (200, b"<html>"), (200, b'{"id": "../up"}')]


@pytest.mark.parametrize("what", ["POST /files", "POST /batches", "GET /batches/ID", "GET /files/ID/content"])
def test_what_breaks_on_the_way_is_tried_again(what: str, tmp_path: Path) -> None:
    for number, fault in enumerate(BROKEN[: 2 if what.endswith("content") else 4]):
        with desk() as there:
            there.faults[what] = [fault]
            assert replies(judge(tmp_path / str(number)), 6) == SIX
        assert settled(tmp_path / str(number)) == pytest.approx(6 * HALF) and max(there.did.values()) == 1


def test_a_batch_whose_making_nobody_answered_is_found_again(tmp_path: Path) -> None:
    with desk() as there:
        there.after = lambda what: DROPPED if what == "POST /batches" else None
        assert replies(judge(tmp_path), 6) == SIX
    assert len(there.batches) == 1 and there.seen["GET /batches"] == 1


def test_a_batch_that_the_service_lists_late_is_not_made_twice(tmp_path: Path) -> None:
    with desk() as there:
        late = {"POST /batches": [DROPPED], "GET /batches": [ok({"data": [], "has_more": False})] * 2}
        there.after = lambda what: late[what].pop(0) if late.get(what) else None
        assert replies(judge(tmp_path), 6) == SIX
    assert not any(late.values()) and len(there.batches) == 1
    assert settled(tmp_path) == pytest.approx(there.billed)


def test_it_is_found_on_a_later_page(tmp_path: Path) -> None:
    with desk() as there:
        pages = [ok({"data": [{"id": f"batch-9{page}"}], "has_more": True}) for page in range(3)]
        there.after = lambda what: DROPPED if what == "POST /batches" else None
        there.faults["GET /batches"] = pages
        assert replies(judge(tmp_path), 6) == SIX
    assert len(there.batches) == 1 and there.seen["GET /batches"] == 4


def test_while_nobody_can_say_whether_it_is_there_nothing_is_sent(tmp_path: Path) -> None:
    with desk() as there:
        there.after = lambda what: DROPPED if what in ("POST /batches", "GET /batches") else None
        for _ in range(2):
            with pytest.raises(Denied, match="nobody knows whether a batch is under way"):
                replies(judge(tmp_path), 6)
        assert len(there.batches) == 1 and Journal(tmp_path).spent > 0
        there.after = lambda what: None
        assert replies(judge(tmp_path), 6) == SIX
    assert max(there.did.values()) == 1


def stuck(folder: Path) -> None:
    """A batch is under way; who sent it is gone."""
    with desk() as there:
        there.faults["GET /batches/ID"] = [refusal(401)[::2]]
        with pytest.raises(Denied):
            replies(judge(folder), 6)


def test_a_batch_of_another_account_is_asked_for_and_not_paid_again(tmp_path: Path) -> None:
    stuck(tmp_path)
    with desk() as there:
        with pytest.raises(Denied, match=r"batch batch-0 with 6 questions: HTTP 404.*ask one by one"):
            replies(judge(tmp_path), 6)
        assert not there.did
        assert replies(judge(tmp_path, ask_batch=0), 6) == SIX
    reserved = 6 * judge(tmp_path).cost(asked(1)) / 2
    assert settled(tmp_path) == pytest.approx(reserved + 6 * FULL)


def test_a_batch_at_another_host_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck(tmp_path)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:9/v1")
    with pytest.raises(Denied, match=r"6 questions are in a batch at 127\.0\.0\.1, not at localhost\. .* set OPENAI_"):
        replies(judge(tmp_path), 6)


def test_a_batch_under_way_is_waited_for_by_whoever_calls(tmp_path: Path) -> None:
    with desk() as there:
        there.faults["GET /batches/ID"] = [refusal(401)[::2]]
        with pytest.raises(Denied):
            replies(judge(tmp_path), 4)
        assert replies(judge(tmp_path, ask_batch=0), 6) == SIX
    assert there.seen["POST /chat/completions"] == 2 and max(there.did.values()) == 1


# Kills.

STEPS = [
    *(f"journal.{name}" for name in ("batched:1", "noted_file:1", "noted_id:1", "answered:1", "written:4")),
    *(pytest.param(f"journal.{name}", marks=pytest.mark.heavy) for name in ("answered:4", "written:1", "forced:1")),
]


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_the_same_command_pays_once(step: str, tmp_path: Path) -> None:
    with desk() as there:
        child = asker(tmp_path, 6, step)
        child.communicate(timeout=60)
        assert child.returncode == 137
        assert replies(judge(tmp_path), 6) == SIX
    assert len(there.batches) == 1 and max(there.did.values()) == 1
    assert settled(tmp_path) == pytest.approx(there.billed) == pytest.approx(6 * HALF)


def killed_before_the_batch_is_noted(folder: Path) -> Any:
    """Its service has the batch, and the process dies before it hears of that; what comes of the same command."""
    with desk() as there:
        child = asker(folder, 6)

        def die(what: str) -> None:
            if what == "POST /batches" and child.poll() is None:
                child.kill()
                child.wait()

        there.after = die
        child.communicate(timeout=60)
        assert child.returncode == -9 and len(there.batches) == 1
        assert replies(judge(folder), 6) == SIX
    return there


def test_killed_before_the_id_is_heard_the_batch_is_found(tmp_path: Path) -> None:
    there = killed_before_the_batch_is_noted(tmp_path)
    assert len(there.batches) == 1 and max(there.did.values()) == 1


@pytest.mark.heavy
def test_a_mutant_that_does_not_look_for_it_pays_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def blind(self: Any, file: str) -> str:
        return ""

    monkeypatch.setattr(batch_api.Service, "find", blind)
    there = killed_before_the_batch_is_noted(tmp_path)
    there.run(there.batches["batch-0"])
    assert max(there.did.values()) == 2


def test_two_processes_share_one_batch(tmp_path: Path) -> None:
    with desk() as there:
        there.looks = 20
        one = asker(tmp_path, 6)
        wait_for(lambda: len(there.batches) == 1)
        other = asker(tmp_path, 6)
        for child in (one, other):
            said, why = child.communicate(timeout=60)
            assert said.strip() == str(SIX), why
    assert len(there.batches) == 1 and max(there.did.values()) == 1 and settled(tmp_path) == pytest.approx(6 * HALF)


@pytest.mark.heavy
def test_one_that_dies_waiting_is_followed_by_one_that_waited_for_it(tmp_path: Path) -> None:
    with desk() as there:
        there.looks = 10**9
        one, other = asker(tmp_path, 6), None
        wait_for(lambda: there.seen["GET /batches/ID"] > 1)
        other = asker(tmp_path, 6)
        one.kill()
        one.communicate()
        there.looks = there.seen["GET /batches/ID"] + 5
        assert other.communicate(timeout=60)[0].strip() == str(SIX)
    assert len(there.batches) == 1 and max(there.did.values()) == 1


# Money.


def test_under_a_budget_one_call_shows_what_they_cost_and_batches_take_what_there_is(tmp_path: Path) -> None:
    bound = judge(tmp_path).cost(asked(1)) / 2
    with desk() as there:
        assert replies(judge(tmp_path, budget=bound * 3 + FULL, ask_batch=1), 6) == SIX
    assert there.seen["POST /chat/completions"] == 1
    assert 1 < there.seen["POST /batches"] < 5
    assert settled(tmp_path) == pytest.approx(there.billed) == pytest.approx(FULL + 5 * HALF)


def test_a_budget_is_not_exceeded_and_says_what_the_next_may_cost(tmp_path: Path) -> None:
    llm = judge(tmp_path, budget=0.03)
    llm.afford = lambda asks: None  # type: ignore[method-assign]
    with (
        desk() as there,
        pytest.raises(Denied, match=r"0\.0\d of the budget of 0\.03 USD are spent, the next"),
    ):
        replies(llm, 40)
    assert there.billed <= settled(tmp_path) <= 0.03


def test_the_estimate_before_the_first_call_knows_the_half_price(tmp_path: Path) -> None:
    calls, batch = judge(tmp_path, ask_batch=0), judge(tmp_path)
    assert batch.usd(asked(1)) == pytest.approx(calls.usd(asked(1)) / 2)  # type: ignore[operator]
    whole = calls.usd(asked(1)) * 6  # type: ignore[operator]
    with desk(), pytest.raises(Denied, match=f"about {whole:.2f}"):
        judge(tmp_path, ask_batch=0, budget=whole * 0.7).ask_all([asked(number) for number in range(6)])
    judge(tmp_path, budget=whole * 0.7).afford([asked(number) for number in range(6)])


def test_mutants_that_forget_what_a_batch_reserved_exceed_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One reserves nothing for a batch; its service bills within the bound all the same."""
    monkeypatch.setattr(Llm, "most", lambda self, ask: 0.0)
    llm = judge(tmp_path, budget=0.03)
    llm.afford = lambda asks: None  # type: ignore[method-assign]
    with desk() as there:
        replies(llm, 40)
    assert there.billed > 0.03


def test_a_second_try_at_a_verdict_goes_as_a_batch_too(tmp_path: Path) -> None:
    def talks(text: str) -> str:
        return grade(text) if "could not be read" in text else "Well."

    def number(text: str) -> float | None:
        return float(text) if text.startswith("0.") else None

    with desk(talks) as there:
        found = answered(judge(tmp_path), lambda who: [verdict(who, asked(n), number, "a number") for n in range(4)])
    assert found == [float(one) for one in clean(4)] and there.seen["POST /batches"] == 2
