"""Batches of an OpenAI-compatible service: a file of requests goes up, a batch is made, files of replies come down.

A batch has an id at the service; until it is known, the batch is found by the file that was sent up for it. Whatever a
service says is read as strictly as a reply is, and each line of its files by itself: a line that is none, or is about
nothing that was asked, answers nothing.
"""

import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.judging.chat_api import client, sent, unlocked
from harness.judging.replies import Answer, Failure, completed, parsed, plain, refused
from harness.system.jsonl import dumps

if TYPE_CHECKING:
    from openai import AsyncOpenAI

URL = "/v1/chat/completions"
WINDOW = "24h"  # the only one there is
MAX_REQUESTS, MAX_BYTES = 50_000, 150 * 2**20  # of a batch's file; services take 200 MB
MAX_PAGES = 100  # of the list of batches, a hundred each
MAX_FILE = 2**30  # of replies
UNDER_WAY = ("validating", "in_progress", "finalizing", "cancelling")
ENDED = ("completed", "failed", "expired", "cancelled")
UNDONE = ("batch_expired", "batch_cancelled")  # why a request was never begun, in a line of the file of errors
TOO_MANY = "token_limit_exceeded"  # for the queue of this account
ID = re.compile(r"[\w.:-]{1,200}")  # it goes into addresses


@dataclass(frozen=True, slots=True)
class State:
    """A batch as its service tells it: `status` one of `UNDER_WAY` or `ENDED`; `done` of its requests have ended.

    `files` hold the replies; `why` and `code` say what a batch that failed failed of.
    """

    id: str
    status: str
    done: int
    files: tuple[str, ...]
    why: str
    code: str


def line(key: str, body: Mapping[str, Any]) -> bytes:
    """One request of a batch's file."""
    return (dumps({"custom_id": key, "method": "POST", "url": URL, "body": body}) + "\n").encode()


class Service:
    """What its client asks of a service; every method gives a `Failure` for whatever server and network can do."""

    def __init__(self, server: "AsyncOpenAI", files: "AsyncOpenAI", timeout_s: float) -> None:
        self.server, self.files, self.timeout_s = server, files, timeout_s

    async def put(self, name: str, lines: bytes) -> str | Failure:
        """The id of a file of requests."""
        raw = self.files.files.with_raw_response
        told = await self._told(raw.create(file=(name, lines), purpose="batch"), 10 * self.timeout_s)
        return told if isinstance(told, Failure) else _id(told)

    async def begin(self, file: str) -> str | Failure:
        """The id of a batch of that file."""
        raw = self.server.batches.with_raw_response
        told = await self._told(raw.create(input_file_id=file, endpoint=URL, completion_window=WINDOW))  # type: ignore[arg-type]
        return told if isinstance(told, Failure) else _id(told)

    async def find(self, file: str) -> str | Failure:
        """The id of the batch that was made of that file; "" where the service has none."""
        after: dict[str, Any] = {}
        for _ in range(MAX_PAGES):
            told = await self._told(self.files.batches.with_raw_response.list(limit=100, **after))
            if isinstance(told, Failure):
                return told
            rows = told.get("data")
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                return _foreign("the list of batches is none")
            for row in rows:
                if row.get("input_file_id") == file:
                    return _id(row)
            if told.get("has_more") is not True or not rows or isinstance(last := _id(rows[-1]), Failure):
                return ""
            after = {"after": last}
        return _foreign("the list of batches has no end")

    async def look(self, batch: str) -> State | Failure:
        """How far a batch is."""
        told = await self._told(self.server.batches.with_raw_response.retrieve(batch))
        return told if isinstance(told, Failure) else _state(told)

    async def get(self, file: str) -> bytes | Failure:
        """A file of replies."""
        return await sent(self.files.files.with_raw_response.content(file), 10 * self.timeout_s)

    async def _told(self, request: Any, timeout_s: float = 0.0) -> dict[str, Any] | Failure:
        said = await sent(request, timeout_s or self.timeout_s)
        if isinstance(said, Failure):
            return said
        try:
            told = parsed(said)
        except ValueError as error:
            return _foreign(f"the reply {error}")
        return told if isinstance(told, dict) else _foreign("the reply is no object")


@asynccontextmanager
async def service(server: "AsyncOpenAI", timeout_s: float) -> AsyncIterator[Service]:
    """The service of a client; files come through another, which reads longer bodies."""
    async with client(timeout_s, MAX_FILE) as files:
        yield Service(server, files, timeout_s)


def outcomes(file: bytes, keys: Iterable[str]) -> dict[str, list[Answer | Failure]]:
    """What a file of replies says of these questions, in its order; more than one thing of one that it has twice."""
    wanted, found = set(keys), dict[str, list[Answer | Failure]]()
    for row in file.split(b"\n"):
        try:
            told = parsed(row) if row.strip() else None
        except ValueError:
            continue
        if isinstance(told, dict) and isinstance(key := told.get("custom_id"), str) and key in wanted:
            found.setdefault(key, []).append(unlocked(_outcome(told)))
    return found


def _outcome(told: dict[str, Any]) -> Answer | Failure:
    """What one line says: a response with its HTTP status, or why there is none."""
    response, error = told.get("response"), told.get("error")
    if isinstance(response, dict):
        status, body = response.get("status_code"), response.get("body")
        if status in (200, 201) and not isinstance(status, bool):
            return completed(body)
        error = body.get("error") if isinstance(body, dict) else None
        if isinstance(status, int) and 300 <= status < 600:
            message, code = _message(error)
            return refused(status, message, code)
        return _foreign("the line of the reply has no HTTP status")
    message, code = _message(error)
    return Failure(f"the batch has no reply: {message}", paid=code not in UNDONE)


def _message(error: Any) -> tuple[str, str]:
    told = error if isinstance(error, dict) else {}
    message, code = told.get("message"), told.get("code")
    return message if isinstance(message, str) else "it does not say why", code if isinstance(code, str) else ""


def _state(told: dict[str, Any]) -> State | Failure:
    status, name = told.get("status"), _id(told)
    if isinstance(name, Failure):
        return name
    if status not in (*UNDER_WAY, *ENDED):
        known = plain(status) if isinstance(status, str) else "none"
        return _foreign(f"it has the status {known}, which the API does not have", retry=False)
    counts, errors = told.get("request_counts"), told.get("errors")
    counted = [counts.get(one) for one in ("completed", "failed")] if isinstance(counts, dict) else []
    done = sum(one for one in counted if isinstance(one, int) and 0 <= one <= MAX_REQUESTS)
    given = [told.get(one) for one in ("output_file_id", "error_file_id")]
    files = tuple(one for one in given if isinstance(one, str) and ID.fullmatch(one))
    if len(files) != sum(one is not None for one in given):
        return _foreign("it names a file that can be none", retry=False)
    rows = errors.get("data") if isinstance(errors, dict) else None
    why, code = _message(rows[0] if isinstance(rows, list) and rows else None)
    return State(name, status, done, files, plain(why), code)


def _id(told: Mapping[str, Any]) -> str | Failure:
    name = told.get("id")
    return name if isinstance(name, str) and ID.fullmatch(name) else _foreign("the reply has no id")


def _foreign(what: str, retry: bool = True) -> Failure:
    return Failure(what, paid=True, retry=retry, foreign=True)
