"""A comparison with an LLM as judge and writer, as a user runs it, against a server that gives the key away."""

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fake import CANARY, Server, asked, completion, llm, refusal, serving

from harness.contracts.records import Unscored
from harness.judging.chat_api import no_access, redact
from harness.system.errors import HarnessError

ROOT = Path(__file__).parents[2]
SECRETS = (CANARY.encode(), base64.b64encode(CANARY.encode()))
LOUD = f"key {CANARY} {base64.b64encode(CANARY.encode()).decode()}"
TURNS = json.dumps({"turns": [{"question": "Is there a whale?", "answer": "No."}], "note": LOUD})


@dataclass
class Service:
    """Answers as judge and writer and repeats the key in every place; a question with "counting" in it first fails."""

    healed: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, body: dict[str, Any], times: int) -> Any:
        text = body["messages"][0]["content"]
        if times == 1 and len(text) % 3 == 0:
            return 429, {"x-request-id": CANARY}, json.dumps({"error": {"message": f"slow down, {LOUD}"}}).encode()
        if "codebook" in text:
            return 200, {"x-request-id": CANARY}, completion(TURNS, LOUD)
        if "How many" in text.rpartition("Question: ")[2] and not self.healed:
            return 500, {"x-request-id": CANARY}, LOUD.encode()
        return 200, {"x-request-id": CANARY}, completion(f"{LOUD}\nRating: {len(text) % 7}", LOUD)


@dataclass(frozen=True)
class Ran:
    status: int
    said: str
    asked: int


class Place:
    """Where the comparison lies, and everything that was written about it."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder, self.server = folder, server
        small = (ROOT / "tests" / "e2e" / "small.yaml").read_text().replace("oracle", "openai:gpt-4-0613")
        small = small.replace("../../harness", str(ROOT / "harness")).replace("examples: 24", "examples: 8")
        (folder / "small.yaml").write_text(small)
        self.written: list[bytes] = []

    def compare(self, *more: str) -> Ran:
        before = sum(self.server.asked.values())
        command = [sys.executable, "-m", "harness.cli", "compare", "--methods", "nsft", "--benchmarks", "mmhal"]
        command += [
            "--testbed",
            str(self.folder / "small.yaml"),
            "--store",
            str(self.folder / "store"),
            "--workers",
            "2",
        ]
        command += ["--out", str(self.folder / "out"), "--set", "runtime.ask_attempts=3", *more]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "OPENAI_LOG": "debug", "PYTHONFAULTHANDLER": "1"}
        done = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, cwd=self.folder)
        watch = threading.Thread(target=self.listing, args=(done,))
        watch.start()
        said, _ = done.communicate(timeout=300)
        watch.join()
        self.written.append(said)
        return Ran(done.returncode, said.decode(), sum(self.server.asked.values()) - before)

    def listing(self, process: "subprocess.Popen[bytes]") -> None:
        """Sample the process list while the command runs."""
        while process.poll() is None:
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.written.append(file.read_bytes())
                except OSError:
                    continue
            threading.Event().wait(0.3)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The comparison with a judge that leaves questions open, again when it is healed, and again."""
    folder, service = tmp_path_factory.mktemp("canary"), Service()
    with serving(service) as server:
        place = Place(folder, server)
        first = place.compare("--budget", "20")
        service.healed = True
        yield place, first, place.compare("--budget", "20"), place.compare()


@pytest.mark.heavy
def test_open_questions_withhold_the_cell_and_exit_with_3(runs: Any) -> None:
    _, first, _, _ = runs
    assert first.status == 3, first.said
    assert "n/a (judge" in first.said and "questions without an answer" in first.said and "HTTP 500" in first.said


@pytest.mark.heavy
def test_the_same_command_asks_the_open_questions_only(runs: Any) -> None:
    _, first, second, third = runs
    assert second.status == 0, second.said
    assert "n/a" not in second.said and "MMHal" in second.said
    assert 0 < second.asked < first.asked / 3
    assert third.status == 0 and third.asked == 0 and "\nnothing to do (" in third.said


@pytest.mark.heavy
def test_the_key_is_in_no_byte_written(runs: Any) -> None:
    place, *_ = runs
    files = [file for file in place.folder.rglob("*") if file.is_file()]
    assert any(file.name == "replies.jsonl" and b"***" in file.read_bytes() for file in files)
    for content in (*place.written, *(file.read_bytes() for file in files)):
        assert not any(secret in content for secret in SECRETS), content[:5000]
    assert any(b"request_id: ***" in content for content in place.written)  # the log was on


@pytest.mark.heavy
def test_the_score_stage_keeps_judge_and_replies(runs: Any) -> None:
    place, *_ = runs
    told = [json.loads(file.read_text()) for file in place.folder.glob("store/score/*/judge.json")]
    assert len(told) == 2
    for judge in told:
        assert (judge["name"], judge["temperature"], judge["runs"]) == ("openai:gpt-4-0613", 0.0, 1)
        assert list(judge["snapshots"]) == ["key *** ***-day1 fp_1"]
    replies = [json.loads(line) for file in place.folder.glob("store/score/*/replies.jsonl") for line in file.open()]
    assert all(reply["id"].startswith("mmhal/") and "Rating: " in reply["text"] for reply in replies)


@pytest.mark.heavy
def test_verdicts_in_the_journal_need_no_server(runs: Any) -> None:
    """The store has lost its scores; whatever is to be asked has its reply, so nobody is called, not even to probe."""
    place, *_ = runs
    for kind in ("score", "report"):
        shutil.rmtree(place.folder / "store" / kind)
    ran = place.compare()
    assert ran.status == 0 and ran.asked == 0 and "nothing to do" not in ran.said, ran.said


@pytest.mark.heavy
def test_a_key_in_the_wrong_place_is_not_repeated(runs: Any) -> None:
    place, *_ = runs
    ran = place.compare("--set", f"judging.runs={CANARY}")  # whose error repeats what was given
    assert ran.status == 2 and "***" in ran.said and CANARY not in ran.said
    ran = place.compare("--set", f"judging.api_key={CANARY}")
    assert ran.status == 2 and 'no judging field "api_key"' in ran.said and CANARY not in ran.said


@pytest.mark.parametrize("answer", [refusal(401, LOUD), (401, {}, LOUD.encode()), (403, {}, b"{" + LOUD.encode())])
def test_a_refusal_that_repeats_the_key_is_told_without_it(tmp_path: Path, answer: Any) -> None:
    with serving(lambda body, times: answer), pytest.raises(HarnessError) as caught:
        llm(tmp_path).reply(asked(1))
    error: BaseException | None = caught.value
    while error:  # whatever a traceback would show
        assert CANARY not in str(error) + repr(error)
        error = error.__context__
    with serving(lambda body, times: refusal(400, LOUD)):
        reply = llm(tmp_path).reply(asked(1))
        assert isinstance(reply, Unscored) and "key *** ***" in reply.reason


@pytest.mark.parametrize(
    ("key", "said"), [("", "needs OPENAI_API_KEY"), (f"{CANARY}\nx", "no key"), ("schlüssel", "no key")]
)
def test_a_key_that_cannot_be_one_is_named_and_not_shown(key: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", key)
    assert said in no_access() and CANARY not in no_access()


def test_a_line_end_behind_the_key_does_no_harm(tmp_path: Path) -> None:
    with serving(lambda body, times: "fine", key=f"{CANARY}\n"):
        assert llm(tmp_path).reply(asked(1)) == "fine"
        assert redact(f"<{CANARY}>") == "<***>"
