"""A chat server of our own over real HTTP, that fails as it is told, and asks about things that can be judged."""

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

from harness.contracts.judge import Ask
from harness.contracts.settings import Chat, Runtime
from harness.judging.journal import Journal
from harness.judging.llm import Llm

ROOT = Path(__file__).parents[2]
CANARY = "sk-test-CANARY-0123456789abcdef"
QUICK = Runtime(ask_timeout_s=10, ask_deadline_s=30, ask_attempts=4, ask_concurrency=32)
Service = TypeVar("Service", bound=ThreadingHTTPServer)
Answers = Callable[
    [dict[str, Any], int], Any
]  # (request, its how-manieth) -> text, (status, headers, body or its pieces), bytes
HANG = b"hang"
RAW = 0  # for a status: the body is all there is, its own status line and headers included


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = self.server.answer(body)
        if said == HANG:
            self.server.released.wait(2)
            self.close_connection = True
            return
        status, headers, data = (200, {}, said) if isinstance(said, bytes) else said
        whole = isinstance(data, bytes)
        if status == RAW:
            self.wfile.write(data)
            self.close_connection = True
            return
        self.send_response(status)
        size = {"content-length": str(len(data))} if whole else {"connection": "close"}
        for name, value in {"content-type": "application/json", **size, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        for piece in [data] if whole else data:
            self.wfile.write(piece)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Counts what it is asked; `billed` holds the USD of each completion at (30, 60) per million."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, answers: Answers) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.lock, self.released = answers, threading.Lock(), threading.Event()
        self.asked: Counter[str] = Counter()
        self.billed: list[float] = []

    def answer(self, body: dict[str, Any]) -> Any:
        text = json.dumps(body["messages"])
        with self.lock:
            self.asked[text] += 1
            times = self.asked[text]
        said = self.answers(body, times)
        if not isinstance(said, str):
            return said
        with self.lock:
            self.billed.append((100 * 30 + 10 * 60) / 1e6)
        return completion(said, body["model"])

    def handle_error(self, *_: object) -> None:
        pass  # clients that hang up


def completion(text: str, model: str = "m") -> bytes:
    message = {"role": "assistant", "content": text}
    return json.dumps({
        "id": "x", "object": "chat.completion", "created": 1, "model": f"{model}-day1", "system_fingerprint": "fp_1",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }).encode()  # fmt: skip


def refusal(status: int, code: str = "", **headers: str) -> tuple[int, dict[str, str], bytes]:
    error = {"message": f"refused with {code or status}", "type": "x", "code": code or None}
    return status, headers, json.dumps({"error": error}).encode()


@contextmanager
def serving(answers: Answers, key: str = CANARY) -> Iterator[Server]:
    """A server under way, its address and a key in the environment."""
    with under_way(Server(answers), key) as server:
        try:
            yield server
        finally:
            server.released.set()


@contextmanager
def under_way(server: Service, key: str = CANARY) -> Iterator[Service]:
    """Any server of ours, until this ends; its address and a key in the environment."""
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        with mock.patch.dict(os.environ, {"OPENAI_BASE_URL": address, "OPENAI_API_KEY": key}):
            yield server
    finally:
        server.shutdown()
        server.server_close()


def asked(number: int, **more: Any) -> Ask:
    return Ask(f"toy/{number}", "toy", None, f"Grade response {number}.", {}, 16, **more)


def llm(folder: Path, runtime: Runtime = QUICK, **chat: Any) -> Llm:
    return Llm("gpt-4-0613", Chat(**chat), runtime, Journal(folder), (30.0, 60.0), folder)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


ASKER = """
import sys; sys.path.insert(0, {tests!r})
from pathlib import Path
from fake import QUICK, llm, asked
from harness.system.errors import HarnessError
judge = llm(Path({folder!r}), QUICK.model_copy(update={{"budget": {budget}, "ask_concurrency": 8}}))
judge.afford = lambda asks: None  # what is left are the reservations
try:
    judge.ask_all([asked(n) for n in range({count})])
except HarnessError as error:
    sys.exit(str(error))
"""


def asker(folder: Path, count: int, budget: float | None = None) -> "subprocess.Popen[str]":
    program = ASKER.format(tests=str(ROOT / "tests" / "judging"), folder=str(folder), budget=budget, count=count)
    return subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.PIPE, text=True)
