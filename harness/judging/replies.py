"""What a chat API's reply is: an answer with a verdict in it, or a failure with its reason. Never anything between.

The bytes of a reply come from a stranger. They may be any JSON or none, and a reply that is well formed may still say
that it is no answer: it was cut, filtered, refused, or calls a tool. Each of these is a `Failure`; what may have been
paid for says so, and what the server counted goes along.
"""

import json
import math
from dataclasses import dataclass, field
from typing import Any

from harness.contracts.judge import spoken
from harness.system.secret import KEY, redact

# Why a model stopped that had said all it wanted: OpenAI's word, and those of TGI and Anthropic.
WHOLE = ("stop", "eos_token", "end_turn", "stop_sequence")
CUT = "length"
ENDED = {
    CUT: "was cut at its token limit (finish_reason length); give it more with max_tokens",
    "content_filter": "was withheld by a content filter",
    "tool_calls": "calls a tool instead of answering",
    "function_call": "calls a function instead of answering",
}
REASONING_PARTS = ("thinking", "redacted_thinking", "reasoning")
SERVER = "OPENAI_BASE_URL"
CURES = {
    401: f"see to {KEY}",
    402: "see to the account's balance",
    403: f"see to what {KEY} may do",
    404: f"see to the model's name and {SERVER}",
    405: f"see to {SERVER}",
}
CODES = {
    "insufficient_quota": "see to the account's quota",
    "billing_hard_limit_reached": "see to the account's quota",
    "billing_not_active": "see to the account's quota",
    "invalid_api_key": CURES[401],
    "model_not_found": CURES[404],
}
NAMES = ("model", "system_fingerprint")
RETRIED = (408, 409, 425, 429)
UNPAID = (401, 402, 403, 404, 405, 429)  # providers bill for others: a filter's 400, a 408, a 500 after the work
MOST_TOKENS = 2**21  # no model has a longer context; a count above it is no count


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a server says it counted, None where it says nothing that can be true; `visible` are bytes of text.

    `completion` includes reasoning, wherever the server counts it.
    """

    prompt: int | None = None
    completion: int | None = None
    total: int | None = None
    visible: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole reply in words, which model says it is, why it ended, and what the server counted."""

    text: str
    model: str
    fingerprint: str
    finish: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class Failure:
    """A call without an answer: why, whether it may have been paid for, and whether and when to try again.

    `cure` is what the user must do where no other call would fare better. `usage` is there where a chat completion
    came that is no answer; `sent` is False where the request cannot have reached the model, `foreign` True where what
    came is nothing that a chat API says. `status` is HTTP's, 0 where there was none.
    """

    reason: str
    paid: bool = False
    retry: bool = True
    after_s: float = 0.0
    cure: str = ""
    usage: Usage | None = None
    sent: bool = True
    foreign: bool = False
    status: int = 0


def read(body: bytes, cut: bool = False) -> Answer | Failure:
    """What the body of an HTTP 200 is; with `cut`, one that ends at its limit is an answer too. Raises nothing."""
    try:
        return completed(parsed(body), cut)
    except ValueError as error:
        return Failure(f"the reply {error}", paid=True, foreign=True)


def completed(value: Any, cut: bool = False) -> Answer | Failure:
    """The same of a body's value."""
    if not isinstance(value, dict):
        return Failure(f"the reply is {_kind(value)}, no chat completion", paid=True, foreign=True)
    if value.get("error"):
        return _error(value["error"])
    choices = value.get("choices")
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        return Failure("the reply is no chat completion: it has no choices", paid=True, foreign=True)
    said = [_Said(choice, cut) for choice in choices]
    usage = _usage(value.get("usage"), sum(one.visible for one in said))
    if len(said) > 1:
        return Failure(f"the reply has {len(said)} choices where one was asked for", True, False, usage=usage)
    if said[0].problem:
        return Failure(f"the reply {said[0].problem}", True, said[0].retry, usage=usage)
    model, fingerprint = (str(one) if isinstance(one, str) else "" for one in map(value.get, NAMES))
    return Answer(said[0].text, model, fingerprint, said[0].finish, usage)


def refused(status: int, told: str, code: Any, after_s: float = 0.0) -> Failure:
    """What an HTTP status other than success means; `code` is the error's own."""
    cure = CURES.get(status) or (CODES.get(code, "") if isinstance(code, str) else "")
    if 300 <= status < 400:
        cure = f"see to {SERVER}: it sends its callers to another address"
    paid, reason = status not in UNPAID and status >= 400, f"HTTP {status}: {plain(told)}"
    return Failure(reason, paid, not cure and (status in RETRIED or status >= 500), after_s, cure, status=status)


def plain(text: str) -> str:
    """One line of what a server says, without the key or anything that a terminal obeys, at most 200 characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in redact(text)[:1000]).split())[:200]


@dataclass
class _Said:
    """One choice of a completion: its text, or the problem that makes it no answer ("was cut ...")."""

    choice: dict[str, Any]
    cut: bool = False
    text: str = ""
    visible: int = 0
    problem: str = ""
    retry: bool = False
    finish: str = ""
    parts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        message = self.choice.get("message")
        self.visible = _visible(message)
        if not isinstance(message, dict):
            self._fails(f"has {_kind(message)} for a message", retry=True)
            return
        self._check_message(message)
        self._check_end(self.choice.get("finish_reason"))
        self._read(message.get("content"))
        self.text = "".join(self.parts)
        if not self.problem and not spoken(self.text):
            self._fails("has no text" if not self.text.strip() else "has no answer behind its reasoning", retry=True)

    def _fails(self, problem: str, retry: bool = False) -> None:
        if not self.problem:
            self.problem, self.retry = problem, retry

    def _check_message(self, message: dict[str, Any]) -> None:
        refusal = message.get("refusal")
        if refusal:
            self._fails(f"is a refusal: {_words(refusal)}")
        if message.get("tool_calls"):
            self._fails(ENDED["tool_calls"])
        if message.get("function_call"):
            self._fails(ENDED["function_call"])
        if message.get("role", "assistant") not in ("assistant", None):
            self._fails(f"is by {_words(message['role'])}, not by the assistant", retry=True)

    def _check_end(self, finish: Any) -> None:
        if isinstance(finish, str) and (finish in WHOLE or (self.cut and finish == CUT)):
            self.finish = finish
        elif isinstance(finish, str) and finish in ENDED:
            self._fails(ENDED[finish])
        else:
            self._fails(f"does not say that it is whole (finish_reason {_words(finish)})", retry=True)

    def _read(self, content: Any) -> None:
        """Text as it is, or the text of its parts; reasoning is left out."""
        for part in content if isinstance(content, list) else [content] if content is not None else []:
            kind = part.get("type") if isinstance(part, dict) else None
            if isinstance(part, str):
                self.parts.append(part)
            elif kind in ("text", "output_text") and isinstance(part.get("text"), str):
                self.parts.append(part["text"])
            elif kind == "refusal":
                self._fails(f"is a refusal: {_words(part.get('refusal'))}")
            elif kind not in REASONING_PARTS:
                self._fails(f"holds {_words(kind) if kind else _kind(part)} where text belongs", retry=True)


def parsed(body: bytes) -> Any:
    """The body's value; ValueError with the end of a sentence where it has none that is one thing."""
    try:
        text = body.decode("utf-8-sig").strip()
        return json.loads(text, object_pairs_hook=_once, parse_int=_whole_number)
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except json.JSONDecodeError:
        pass
    if text.startswith("data:"):
        raise ValueError("is a stream, which was not asked for")
    raise ValueError("is a web page, not JSON" if text.startswith("<") else "is not JSON" if text else "is empty")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("says one thing twice (a key of its JSON is repeated)")
    return found


def _whole_number(digits: str) -> float:
    return int(digits) if len(digits) < 19 else math.inf


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _words(value: Any) -> str:
    """A text as it is; of anything else what it is."""
    return plain(value) if isinstance(value, str) else _kind(value)


def _visible(message: Any) -> int:
    """Bytes of everything that a message says, reasoning included: the server has counted it too."""
    size, left = 0, [message]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left += [part for name, part in value.items() if name not in ("role", "type", "id")]
        elif isinstance(value, list):
            left += value
        elif isinstance(value, str):
            size += len(value.encode("utf-8", "replace"))
    return size


def _error(error: Any) -> Failure:
    """An error under HTTP 200; some servers put the status into its code."""
    told = error if isinstance(error, dict) else {"message": error}
    code, message = told.get("code") or told.get("type"), _words(told.get("message"))
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    meant = refused(status, message, code)
    return Failure(f"the reply is an error: {message}", True, meant.retry, cure=meant.cure)


def _usage(told: Any, visible: int) -> Usage:
    counts = told if isinstance(told, dict) else {}
    prompt, completion, total = (_count(counts.get(f"{name}_tokens")) for name in ("prompt", "completion", "total"))
    details = counts.get("completion_tokens_details")
    reasoning = _count(details.get("reasoning_tokens")) if isinstance(details, dict) else None
    if completion is not None and reasoning is not None and reasoning > completion:  # counted beside the reply
        completion += reasoning
    return Usage(prompt, completion, total, visible)


def _count(value: Any) -> int | None:
    """The number of tokens, where it is one."""
    whole = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return int(value) if whole and value == int(value) and 0 <= value <= MOST_TOKENS else None
