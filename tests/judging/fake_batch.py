"""A service of our own with a batch API over real HTTP: it runs batches by the answers of a chat server, and fails as
it is told."""

import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from fake import QUICK, ROOT, asked, completion, refusal, under_way

from harness.contracts.settings import Chat
from harness.judging.journal import Journal
from harness.judging.llm import Llm

BATCHES = QUICK.model_copy(update={"ask_batch": 2, "ask_attempts": 3})
PRICE = (30.0, 60.0)
FULL = (100 * 30 + 10 * 60) / 1e6  # USD of one completion of ours
DROPPED = 0, b""  # for a response: none, the connection is cut


class Desk(ThreadingHTTPServer):
    """Runs each batch when it is looked at for the `looks`-th time; tests change what it does by its fields.

    `did` counts how often each question was answered, by batch or call; `billed` is what that costs. `faults` maps
    "POST /files" and the like to responses that come first; `shaped` makes an output file of its lines.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, answers: Callable[[str], Any]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.looks, self.lock = answers, 1, threading.Lock()
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.did, self.billed, self.seen = Counter[str](), 0.0, Counter[str]()
        self.faults: dict[str, list[Any]] = {}
        self.after: Callable[[str], Any] = lambda what: None  # a response in place of ours, once the work is done
        self.shaped: Callable[[list[bytes]], list[bytes]] = lambda lines: lines
        self.ends, self.errors = "completed", None
        self.run_share = 1.0

    def answer(self, text: str, share: float) -> tuple[int, bytes]:
        """Answer one question, for money."""
        said = self.answers(text)
        if not isinstance(said, str):
            return said[0], said[-1]
        self.did[text] += 1
        self.billed += FULL * share
        return 200, completion(said)

    def run(self, batch: dict[str, Any]) -> None:
        """Run a batch to its end."""
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        batch |= {"status": self.ends, "errors": self.errors}
        if self.ends == "failed":
            return
        done, failed = list[bytes](), list[bytes]()
        for line in lines[: round(len(lines) * self.run_share)]:
            status, body = self.answer(text_of(line["body"]), 0.5)
            (done if status == 200 else failed).append(told(line["custom_id"], status, body))
        for line in lines[round(len(lines) * self.run_share) :]:
            error = {"code": "batch_expired", "message": "it could not be executed in time"}
            row = {"custom_id": line["custom_id"], "response": None, "error": error}
            failed += [json.dumps(row).encode()] if self.ends == "expired" else []
        for name, rows in (("output_file_id", self.shaped(done)), ("error_file_id", failed)):
            if rows:
                self.files[file := f"file-{len(self.files)}"] = b"\n".join(rows) + b"\n"
                batch[name] = file
        batch["request_counts"] = {"total": len(lines), "completed": len(done), "failed": len(failed)}

    def handle_error(self, *_: object) -> None:
        pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Desk

    def do_GET(self) -> None:
        self.respond("GET", b"")

    def do_POST(self) -> None:
        self.respond("POST", self.rfile.read(int(self.headers["content-length"])))

    def respond(self, verb: str, data: bytes) -> None:
        path = self.path.removeprefix("/v1").partition("?")[0]
        what = f"{verb} {re.sub(r'(file|batch)-[0-9]+', 'ID', path)}"
        with self.server.lock:
            self.server.seen[what] += 1
            faults = self.server.faults.get(what, [])
            status, body = faults.pop(0) if faults else self.work(what, path, data)
        status, body = self.server.after(what) or (status, body)
        if (status, body) == DROPPED:
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def work(self, what: str, path: str, data: bytes) -> tuple[int, bytes]:
        desk, name = self.server, next(iter(re.findall(r"(?:file|batch)-[0-9]+", path)), "")
        if what == "POST /chat/completions":
            return desk.answer(text_of(json.loads(data)), 1.0)
        if what == "POST /files":
            assert b'name="purpose"\r\n\r\nbatch\r\n' in data
            lines = [line for line in data.splitlines() if line.startswith(b'{"body"')]
            desk.files[file := f"file-{len(desk.files)}"] = b"\n".join(lines)
            return ok({"id": file, "object": "file", "purpose": "batch"})
        if what == "POST /batches":
            given = json.loads(data)
            assert (given["endpoint"], given["completion_window"]) == ("/v1/chat/completions", "24h")
            batch = {"id": f"batch-{len(desk.batches)}", "status": "validating", "looks": 0, **given}
            desk.batches[batch["id"]] = batch
            return ok(batch)
        if what == "GET /batches":
            return ok({"object": "list", "data": list(desk.batches.values())[::-1], "has_more": False})
        if name not in (desk.batches if "batches" in path else desk.files):
            return refusal(404)[0], refusal(404)[-1]
        if what == "GET /batches/ID":
            batch = desk.batches[name]
            batch["looks"] += 1
            if batch["looks"] == desk.looks:
                desk.run(batch)
            return ok(batch)
        assert what == "GET /files/ID/content"
        return 200, desk.files[name]

    def log_message(self, *_: object) -> None:
        pass


def ok(value: Any) -> tuple[int, bytes]:
    return 200, json.dumps(value).encode()


def text_of(body: dict[str, Any]) -> str:
    content = body["messages"][0]["content"]
    return content if isinstance(content, str) else str(content[0]["text"])


def told(key: str, status: int, body: bytes) -> bytes:
    """A line of a file of replies."""
    return json.dumps(
        {"id": "r", "custom_id": key, "response": {"status_code": status, "body": json.loads(body)}, "error": None}
    ).encode()


@contextmanager
def desk(answers: Callable[[str], Any] = lambda text: grade(text)) -> Iterator[Desk]:
    """A service under way, its address and a key in the environment."""
    with under_way(Desk(answers)) as server:
        yield server


def grade(text: str) -> str:
    """The grade of "Grade response N."."""
    return f"0.{int(re.findall(r'[0-9]+', text)[0]) + 1}"


def judge(folder: Path, **runtime: Any) -> Llm:
    return Llm("gpt-4-0613", Chat(), BATCHES.model_copy(update=runtime), Journal(folder), PRICE, folder)


def replies(llm: Llm, count: int) -> list[Any]:
    """Ask so many questions, and what the replies are; None where there is none."""
    llm.ask_all([asked(number) for number in range(count)])
    said = [llm.reply(asked(number)) for number in range(count)]
    return [one if isinstance(one, str) else None for one in said]


def clean(count: int) -> list[str]:
    return [grade(asked(number).prompt) for number in range(count)]


ASKER = """
import sys; sys.path.insert(0, {tests!r})
from pathlib import Path
from harness.judging import batch
batch.FIRST_POLL_S = batch.MAX_POLL_S = 0.05
from fake_batch import judge, replies
print(replies(judge(Path({folder!r})), {count}))
"""


def asker(folder: Path, count: int, failpoint: str = "") -> "subprocess.Popen[str]":
    """A process that asks so many questions, and dies at a failpoint."""
    program = ASKER.format(tests=str(ROOT / "tests" / "judging"), folder=str(folder), count=count)
    environment = os.environ | ({"HARNESS_FAILPOINT": failpoint} if failpoint else {})
    command = [sys.executable, "-c", program]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)
