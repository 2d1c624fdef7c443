"""One call of an OpenAI-compatible chat API, and what each way of failing means.

The key is read from the environment and leaves this module in a request's header only: whatever a server says passes
through `redact` before anybody can write it down.
"""

import asyncio
import base64
import logging
import os
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

KEY, SERVER = "OPENAI_API_KEY", "OPENAI_BASE_URL"
QUOTA_CODES = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
UNREACHED = "no connection"
CURES = {401: f"see to {KEY}", 403: f"see to what {KEY} may do", 404: f"see to the model's name and {SERVER}"}
RETRIED = (408, 409, 425, 429)
SECRET_LENGTH = 12  # shorter keys are placeholders for servers that want none


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said, which one it says it is, and the tokens it counted (None where it did not)."""

    text: str
    model: str
    fingerprint: str
    finish: str
    tokens: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Failure:
    """A call without a reply: why, whether it may have been paid for, and whether and when to try again.

    `cure` is what the user must do where no other call would fare better.
    """

    reason: str
    paid: bool = False
    retry: bool = True
    after_s: float = 0.0
    cure: str = ""


def key() -> str:
    """The key in the environment, or ""."""
    return os.environ.get(KEY, "").strip()


def no_access() -> str:
    """What is missing for calls, with the cure; empty where nothing is."""
    if not key() and not os.environ.get(SERVER):
        return f"needs {KEY} in the environment (or {SERVER}: the address of a server of your own)"
    if not key().isascii() or len(key().split()) > 1:
        return f"cannot use {KEY}: it holds characters that no key has; set it anew"
    return ""


def redact(text: str) -> str:
    """The text without the key, plain or in base64, and without lone surrogates, which no file can hold."""
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if len(key()) >= SECRET_LENGTH:
        for secret in (key(), base64.b64encode(key().encode()).decode()):
            text = text.replace(secret, "***")
    return text


def client(timeout_s: float) -> "AsyncOpenAI":
    """A client that retries nothing by itself; the log loses the key as well."""
    from openai import AsyncOpenAI

    logging.setLogRecordFactory(_redacted)
    return AsyncOpenAI(api_key=key() or "none", max_retries=0, timeout=timeout_s)


def _redacted(*args: Any, **kwargs: Any) -> logging.LogRecord:
    record = logging.LogRecord(*args, **kwargs)
    record.msg, record.args = redact(record.getMessage()), ()
    return record


async def call(client: "AsyncOpenAI", body: dict[str, Any], timeout_s: float) -> Answer | Failure:
    """Ask once; no exception for anything that a server or network can do."""
    from openai import APIConnectionError, APIStatusError, APITimeoutError, OpenAIError
    from openai.types.chat import ChatCompletion

    try:
        async with asyncio.timeout(timeout_s):  # of the whole call; the client's own are per read
            said = await client.chat.completions.create(**body)
    except (TimeoutError, APITimeoutError):
        return Failure(f"no reply within {timeout_s:g} s", paid=True)
    except APIStatusError as error:
        return _refused(error)
    except APIConnectionError as error:
        if type(error.__cause__).__name__.startswith("Connect"):
            return Failure(UNREACHED)
        return Failure("the connection broke off", paid=True)
    except (OpenAIError, ValueError):
        return Failure("the reply is not JSON", paid=True)
    if not isinstance(said, ChatCompletion) or not said.choices:
        return Failure("the reply is not a chat completion", paid=True)
    usage = said.usage
    tokens = (usage.prompt_tokens or 0, usage.completion_tokens or 0) if usage else None
    message = said.choices[0].message
    text = (message.content or message.refusal or "") if message else ""
    parts = (text, said.model or "", said.system_fingerprint or "", said.choices[0].finish_reason or "")
    text, model, fingerprint, finish = map(redact, parts)
    return Answer(text, model, fingerprint, finish, tokens)


def _refused(error: "APIStatusError") -> Failure:
    """What an HTTP status other than success means."""
    status = error.status_code
    reason = f"HTTP {status}: {' '.join(redact(error.message).split())[:200]}"
    if status in CURES or error.code in QUOTA_CODES:
        return Failure(reason, retry=False, cure=CURES.get(status, "see to the account's quota"))
    retry = status in RETRIED or status >= 500
    return Failure(reason, retry=retry, after_s=_retry_after(error.response.headers.get("retry-after", "")))


def _retry_after(header: str) -> float:
    """Seconds that a Retry-After header (seconds or a date) asks for; 0 where it says nothing."""
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return 0.0
