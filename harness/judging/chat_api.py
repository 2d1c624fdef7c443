"""One call of an OpenAI-compatible chat API over the network, and what each way of failing means.

The key is read from the environment and leaves this module in a request's header only, to no host but the one that the
user named: whatever a server says passes through `redact` before anybody can write it down.
"""

import asyncio
import logging
import math
import os
import time
import zlib
from collections.abc import Awaitable
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from harness.judging.replies import SERVER, Answer, Failure, plain, read, refused
from harness.system.secret import KEY, key, redact

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

UNREACHED = "no connection"
MAX_BODY = 4 * 2**20  # of a reply, unpacked; the longest that a model writes is a tenth of it
MAX_REDIRECTS = 3
MAX_WAIT_S = 120.0  # that a server can ask for with Retry-After
UNSENT = ("ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "ProxyError")


def no_access() -> str:
    """What is missing for calls, with the cure; empty where nothing is."""
    server = os.environ.get(SERVER)
    if not key() and not server:
        return f"needs {KEY} in the environment (or {SERVER}: the address of a server of your own)"
    if not key().isascii() or len(key().split()) > 1:
        return f"cannot use {KEY}: it holds characters that no key has; set it anew"
    if server and not _is_address(server):
        return f"cannot use {SERVER}: it is no address like http://HOST:PORT/v1; set it anew"
    return ""


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text.strip())
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def client(timeout_s: float, most: int = 0) -> "AsyncOpenAI":
    """A client that retries nothing by itself and goes to no other host; its log has no key.

    It reads bodies of up to `most` bytes, or of `MAX_BODY`.
    """
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient, OpenAIError

    class Unreadable(OpenAIError):
        """A body that is not read to its end."""

    class Bounded(DefaultAsyncHttpxClient):
        """Reads every response, errors too, within its bytes."""

        async def send(self, request: Any, **how: Any) -> Any:
            """The response, read to its end, redirects to the same host followed; Unreadable beyond its bytes."""
            response = await super().send(request, **{**how, "stream": True, "follow_redirects": False})
            for _ in range(MAX_REDIRECTS):
                onward = response.next_request
                if onward is None or onward.method != request.method or _origin(onward.url) != _origin(request.url):
                    break
                await response.aclose()
                request = onward
                response = await super().send(request, **{**how, "stream": True, "follow_redirects": False})
            try:
                body = await _bounded(response, most or MAX_BODY)
            except ValueError as error:
                raise Unreadable(str(error)) from None
            finally:
                await response.aclose()
            about = ("content-", "transfer-encoding", "trailer")  # the body as it was
            headers = [one for one in response.headers.multi_items() if not one[0].lower().startswith(about)]
            return type(response)(response.status_code, headers=headers, content=body, request=request)

    logging.setLogRecordFactory(_redacted)
    headers = {"Accept-Encoding": "identity"}
    http = Bounded(timeout=timeout_s)
    return AsyncOpenAI(
        api_key=key() or "none", max_retries=0, timeout=timeout_s, http_client=http, default_headers=headers
    )


def _origin(url: Any) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


async def _bounded(response: Any, most: int) -> bytes:
    """The response's body, unpacked as far as it is read; ValueError with the end of a sentence where that fails."""
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity", "gzip", "x-gzip", "deflate"):
        raise ValueError(f"is packed as {plain(coding)}, which was not asked for")
    packed = zlib.decompressobj(wbits=47) if coding not in ("", "identity") else None
    body, size = bytearray(), 0
    async for chunk in response.aiter_raw():
        size += len(chunk)
        try:
            body += packed.decompress(chunk, most + 1 - len(body)) if packed else chunk
        except zlib.error:
            raise ValueError(f"is not the {coding} that it says") from None
        if max(size, len(body)) > most:
            raise ValueError(f"is longer than {most >> 20} MiB")
    if packed and not packed.eof:
        raise ValueError("is cut")
    return bytes(body)


def _redacted(*args: Any, **kwargs: Any) -> logging.LogRecord:
    record = logging.LogRecord(*args, **kwargs)
    record.msg, record.args = redact(record.getMessage()), ()
    return record


async def call(client: "AsyncOpenAI", body: dict[str, Any], timeout_s: float, cut: bool = False) -> Answer | Failure:
    """Ask once; no exception for anything that a server or network can do, and no word of the key.

    `cut`: whether a reply may end at its token limit.
    """
    fields = {name: value for name, value in body.items() if name not in ("model", "messages")}
    made = client.chat.completions.with_raw_response.create
    said = await sent(made(model=body["model"], messages=body["messages"], extra_body=fields), timeout_s)
    return said if isinstance(said, Failure) else unlocked(read(said, cut))


def unlocked(outcome: Answer | Failure) -> Answer | Failure:
    """The outcome without the key."""
    if isinstance(outcome, Failure):
        return replace(outcome, reason=redact(outcome.reason))
    text, model, fingerprint = map(redact, (outcome.text, outcome.model, outcome.fingerprint))
    return replace(outcome, text=text, model=model, fingerprint=fingerprint)


async def sent(request: Awaitable[Any], timeout_s: float) -> bytes | Failure:
    """The body of the response to a request of the client's, or what keeps it from being one; no word of the key."""
    outcome = await _sent(request, timeout_s)
    return replace(outcome, reason=redact(outcome.reason)) if isinstance(outcome, Failure) else outcome


async def _sent(request: Awaitable[Any], timeout_s: float) -> bytes | Failure:
    from openai import APIConnectionError, APIStatusError, OpenAIError

    try:
        async with asyncio.timeout(timeout_s):  # of the whole call; the client's own are per read
            reply = await request
    except TimeoutError:
        return Failure(f"no reply within {timeout_s:g} s", paid=True)
    except APIStatusError as error:
        return _refused(error)
    except APIConnectionError as error:  # time-outs of the client among them
        name = type(error.__cause__).__name__
        if name in UNSENT:
            return Failure(UNREACHED, sent=False)
        late = f"no reply within {timeout_s:g} s"
        return Failure(late if "Timeout" in name else "the connection broke off", paid=True)
    except OpenAIError as error:
        return Failure(f"the reply {plain(str(error))}", paid=True)
    except (ValueError, RecursionError):  # of the client itself
        return Failure("the reply cannot be read", paid=True)
    response = reply.http_response
    if response.status_code not in (200, 201):
        return Failure(f"HTTP {response.status_code}, which is no reply", paid=True)
    return bytes(response.content)


def _refused(error: "APIStatusError") -> Failure:
    """What an HTTP status other than success means."""
    headers = error.response.headers
    after = _retry_after(headers.get("retry-after", ""), headers.get("date", ""))
    return refused(error.status_code, error.message, error.code, after)


def _retry_after(header: str, date: str = "") -> float:
    """Seconds that a Retry-After header (seconds or a date) asks for, at most `MAX_WAIT_S`; 0 where it says nothing.

    A date is read by the server's own clock (`date`, the response's Date header): ours may be years behind it.
    """
    try:
        seconds = float(header)
    except ValueError:
        until, now = _moment(header), _moment(date)
        seconds = 0.0 if until is None else until - (time.time() if now is None else now)
    return 0.0 if math.isnan(seconds) else min(max(0.0, seconds), MAX_WAIT_S)


def _moment(date: str) -> float | None:
    """Seconds since 1970 of an HTTP date; None of anything else."""
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
