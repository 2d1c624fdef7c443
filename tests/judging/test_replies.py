"""An HTTP 200 of any shape is an answer or a failure with its reason; never a crash, never a verdict that is none."""

import json
from pathlib import Path
from typing import Any

import pytest
from fake import QUICK, asked, completion, llm, serving

from harness.contracts import judge
from harness.contracts.judge import spoken
from harness.contracts.records import Unscored
from harness.judging import replies
from harness.system.errors import HarnessError

ONCE = QUICK.model_copy(update={"ask_attempts": 1})
DEEP = b"[" * 100_000


def shaped(message: Any, finish: Any = "stop", **more: Any) -> bytes:
    """A chat completion of one choice."""
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return json.dumps({"id": "x", "object": "chat.completion", "model": "m", "choices": [choice]} | more).encode()


def says(content: Any, finish: Any = "stop", **more: Any) -> bytes:
    return shaped({"role": "assistant", "content": content, **more}, finish)


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


CALL = [{"id": "1", "type": "function", "function": {"name": "grade", "arguments": "0.5"}}]
GOOD: dict[str, tuple[bytes, str]] = {
    "plain": (says("0.5"), "0.5"),
    "no usage": (says("0.5"), "0.5"),
    "parts": (says([text("0."), text("5")]), "0.5"),
    "parts of responses": (says([{"type": "output_text", "text": "0.5"}]), "0.5"),
    "reasoning as a part": (says([{"type": "thinking", "thinking": [text("1.0?")]}, text("0.5")]), "0.5"),
    "reasoning as a field": (says("0.5", reasoning_content="Is it 1.0?", reasoning=None), "0.5"),
    "reasoning in the text": (says("<think>\nIs it 1.0?\n</think>\n\n0.5"), "0.5"),
    "reasoning opened by the prompt": (says("Is it 1.0?</think>0.5"), "0.5"),
    "reasoning of gpt-oss": (says("<|channel|>analysis<|message|>1.0?<|end|><|channel|>final<|message|>0.5"), "0.5"),
    "nothing but nulls beside it": (says("0.5", refusal=None, tool_calls=None, function_call=None, audio=None), "0.5"),
    "no tools called": (says("0.5", tool_calls=[], refusal=""), "0.5"),
    "another word for stop": (says("0.5", "eos_token"), "0.5"),
    "no role": (shaped({"content": "0.5"}), "0.5"),
    "a byte order mark": (b"\xef\xbb\xbf" + says("0.5"), "0.5"),
    "names that are no text": (shaped({"content": "0.5"}, model=7, system_fingerprint=["x"], id=None), "0.5"),
    "a lone surrogate": (says("0.5 \ud800"), "0.5 \ufffd"),
    "a count that is no JSON": (completion("0.5").replace(b'"prompt_tokens": 100', b'"prompt_tokens": NaN'), "0.5"),
}
BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "blank": (b" \n", "is empty"),
    "a web page": (b"<!DOCTYPE html><title>Log in</title>", "web page"),
    "a stream": (b'data: {"choices": [{"delta": {"content": "0.5"}}]}\n\ndata: [DONE]\n', "stream"),
    "cut": (completion("0.5")[:-40], "not JSON"),
    "two values": (completion("0.5") * 2, "not JSON"),
    "null": (b"null", "null"),
    "a number": (b"0.5", "a number"),
    "a text": (b'"0.5"', "a text"),
    "a list": (b"[" + completion("0.5") + b"]", "a list"),
    "nested": (DEEP, "nested too deeply"),
    "nested further in": (b'{"choices": [{"message": {"content": ' + DEEP, "nested too deeply"),
    "a key twice": (b'{"choices": [], ' + completion("0.5")[1:], "twice"),
    "content twice": (says("0.5").replace(b'"content"', b'"content": "1.0", "content"'), "twice"),
    "bytes that are no text": (completion("0.5").replace(b'"0.5"', b'"0.5\xff"'), "UTF-8"),
    "UTF-16": (completion("0.5").decode().encode("utf-16"), "UTF-8"),
    "an error": (b'{"error": {"message": "overloaded", "type": "server_error"}}', "error: overloaded"),
    "an error as text": (b'{"error": "overloaded"}', "error: overloaded"),
    "an error with choices": (shaped({"content": "0.5"}, error={"message": "cut off"}), "error: cut off"),
    "an object": (b"{}", "no choices"),
    "choices null": (b'{"choices": null}', "no choices"),
    "choices empty": (b'{"choices": []}', "no choices"),
    "choices an object": (b'{"choices": {"0": {"message": {"content": "0.5"}}}}', "no choices"),
    "a choice null": (b'{"choices": [null]}', "no choices"),
    "two choices": (json.dumps({"choices": 2 * json.loads(says("0.5"))["choices"]}).encode(), "2 choices"),
    "message missing": (b'{"choices": [{"finish_reason": "stop"}]}', "null for a message"),
    "message null": (shaped(None), "null for a message"),
    "message a text": (shaped("0.5"), "a text for a message"),
    "message a list": (shaped(["0.5"]), "a list for a message"),
    "text of the old API": (b'{"choices": [{"text": "0.5", "finish_reason": "stop"}]}', "null for a message"),
    "content missing": (shaped({"role": "assistant"}), "no text"),
    "content null": (says(None), "no text"),
    "content empty": (says(""), "no text"),
    "content blank": (says(" \n "), "no text"),
    "content a number": (says(0.5), "a number where text belongs"),
    "content true": (says(True), "true or false where"),
    "content an object": (says({"text": "0.5"}), "an object where"),
    "content a list of numbers": (says([0.5]), "a number where"),
    "content a list of lists": (says([["0.5"]]), "a list where"),
    "content an empty list": (says([]), "no text"),
    "content a picture": (says([text("0.5"), {"type": "image_url", "image_url": {"url": "x"}}]), "image_url where"),
    "text that is an object": (says([{"type": "text", "text": {"value": "0.5"}}]), "text where text belongs"),
    "a refusal": (says(None, refusal="I cannot grade this."), "refusal: I cannot grade this."),
    "a refusal beside text": (says("0.5", refusal="I cannot."), "refusal"),
    "a refusal as a part": (says([{"type": "refusal", "refusal": "No."}]), "refusal: No."),
    "a refusal that is an object": (says(None, refusal={"why": "x"}), "refusal"),
    "cut at its limit": (says("0.5", "length"), "token limit"),
    "filtered": (says("0.5", "content_filter"), "content filter"),
    "a tool": (says(None, "tool_calls", tool_calls=CALL), "tool"),
    "a tool beside text": (says("0.5", tool_calls=CALL), "tool"),
    "a function": (says("0.5", "function_call", function_call={"name": "f"}), "function"),
    "no status": (b'{"choices": [{"message": {"content": "0.5"}}]}', "finish_reason null"),
    "status null": (says("0.5", None), "finish_reason null"),
    "status a number": (says("0.5", 1), "finish_reason a number"),
    "a status that nobody knows": (says("0.5", "insufficient_system_resource"), "insufficient_system_resource"),
    "by the user": (shaped({"role": "user", "content": "0.5"}), "by user"),
    "reasoning alone": (says(None, reasoning_content="1.0"), "no text"),
    "reasoning that does not end": (says("<think>It is 1.0"), "no answer behind its reasoning"),
    "reasoning that begins again": (says("<think>a</think>0.5<think>1.0"), "no answer behind"),
    "reasoning without an answer": (says("<think>1.0</think> "), "no answer behind"),
    "reasoning of gpt-oss alone": (says("<|channel|>analysis<|message|>1.0"), "no answer behind"),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_what_is_an_answer_is_read(tmp_path: Path, name: str) -> None:
    body, said = GOOD[name]
    with serving(lambda request, times: body) as server:
        assert llm(tmp_path, ONCE).reply(asked(1)) == said
        assert llm(tmp_path, ONCE).reply(asked(1)) == said
    assert sum(server.asked.values()) == 1


@pytest.mark.parametrize("name", BAD)
def test_what_is_none_has_its_reason_is_charged_and_is_asked_again(tmp_path: Path, name: str) -> None:
    body, reason = BAD[name]
    sent = [body, says("0.5")]
    with serving(lambda request, times: sent[times - 1]):
        first = llm(tmp_path, ONCE)
        failed = first.reply(asked(1))
        assert isinstance(failed, Unscored) and reason in failed.reason and "\n" not in failed.reason
        assert first.journal.spent > 0 and not first.journal.replies
        assert llm(tmp_path, ONCE).reply(asked(1)) == "0.5"


@pytest.mark.parametrize(("code", "cure"), [("insufficient_quota", "quota"), (401, "OPENAI_API_KEY"), (402, "balance")])
def test_an_error_that_no_call_cures_stops_the_run_also_under_200(tmp_path: Path, code: Any, cure: str) -> None:
    body = json.dumps({"error": {"message": "no", "code": code}}).encode()
    with serving(lambda request, times: body) as server, pytest.raises(HarnessError, match=cure):
        llm(tmp_path).reply(asked(1))
    assert sum(server.asked.values()) == 1


def test_what_will_not_change_is_not_asked_for_again_in_the_same_run(tmp_path: Path) -> None:
    with serving(lambda request, times: says("0.5", "length")) as server:
        llm(tmp_path).reply(asked(1))
    assert sum(server.asked.values()) == 1


def test_a_cut_reply_that_an_older_version_kept_is_no_answer(tmp_path: Path) -> None:
    with serving(lambda request, times: says("0.5")) as server:
        one = llm(tmp_path)
        ticket = one.journal.reserve(0.1, None)
        assert ticket
        one.journal.settle(ticket, 0.1, one.key(asked(1)), {"text": "0.", "finish": "length"})
        assert one.reply(asked(1)) == "0.5"
    assert sum(server.asked.values()) == 1


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("0.5", "0.5"), ("  0.5\n", "0.5"), ("<THINK>1</THINK>\n0.5", "0.5"), ("[THINK]1[/THINK]0.5", "0.5"),
        ("◁think▷1◁/think▷0.5", "0.5"), ("<thinking>1</thinking>0.5", "0.5"), ("<think></think>0.5", "0.5"),
        ("<think>a</think>b<think>c</think>0.5", "0.5"), ("2 < 3 and [think] nothing", ""), ("a < b > c", "a < b > c"),
        ("<think>", ""), ("</think>", ""), ("", ""),
    ],
)  # fmt: skip
def test_reasoning_is_over_where_its_last_mark_closes(reply: str, said: str) -> None:
    assert spoken(reply) == said


def test_without_the_status_a_cut_reply_would_be_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant reads the text of whatever comes."""
    bad = [body for body, _ in BAD.values()]
    assert not any(isinstance(replies.read(body), replies.Answer) for body in bad)
    monkeypatch.setattr(replies._Said, "_fails", lambda *_, **__: None)
    assert sum(isinstance(replies.read(body), replies.Answer) for body in bad) > 15


def test_without_its_marks_reasoning_would_be_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    body = says("<think>0.0</think>0.5")
    with monkeypatch.context() as changed:
        changed.setattr(judge, "CLOSE", judge.re.compile("never"))
        changed.setattr(judge, "OPEN", judge.re.compile("never"))
        assert spoken(json.loads(body)["choices"][0]["message"]["content"]) != "0.5"
