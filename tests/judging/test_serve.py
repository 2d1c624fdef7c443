"""The judge's client against a server that we did not write: `transformers serve` with a tiny model."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from benchmarks._judging import ask
from harness.contracts.judge import Ask, Judge, answered
from harness.contracts.records import Item, Unscored
from harness.contracts.settings import Chat, Runtime
from harness.judging.journal import Journal
from harness.judging.llm import Llm

BASE = Path(__file__).parents[2] / "harness" / "mini" / "bases" / "0"
SAYS = ("0", "1", "a dog", "7")  # good, good, prose, out of range
PATIENT = Runtime(ask_timeout_s=60, ask_deadline_s=120, ask_attempts=2, ask_concurrency=4)


class Model:
    """A judge that says what it says, and remembers to which question."""

    name = "script:SAYS"

    def __init__(self) -> None:
        self.said: dict[str, str] = {}

    def reply(self, question: Ask) -> str:
        return self.said.setdefault(question.prompt, SAYS[int(question.id.split("/")[1])])


def grades(judge: Judge, count: int = len(SAYS)) -> list[float | Unscored]:
    """One item per reply of SAYS, or of the first, each a grade of 0 or 1."""
    items = [Item(str(n), None, f"Grade response {n}.", str(n), {}) for n in range(count)]
    parse = {"0": 0.0, "1": 1.0}.get
    return [ask(judge, "toy", item, item.prompt, {}, parse, "0 or 1", max_tokens=8) for item in items]


def write_model(said: dict[str, str], folder: Path) -> None:
    """A tiny Llama that has learnt to say exactly that."""
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    torch.manual_seed(0)
    ends = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes, **ends))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    rows = []
    for prompt, reply in said.items():
        given = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], return_dict=True)["input_ids"]
        spoken = [*tokenizer(reply, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        rows.append((torch.tensor([given + spoken]), torch.tensor([[-100] * len(given) + spoken])))
    for _ in range(60):
        optimizer.zero_grad()
        for ids, labels in rows:
            model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float | Unscored]]:
    """The model's folder and the verdicts that its replies are."""
    model, folder = Model(), tmp_path_factory.mktemp("model")
    verdicts = grades(model)
    write_model(model.said, folder)
    return folder, verdicts


@pytest.fixture
def address(spoken: tuple[Path, list[float | Unscored]], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """`transformers serve` under way, its address in the environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("transformers"), "serve", spoken[0], "--device", "cpu"]
    server = subprocess.Popen([*command, "--host", "127.0.0.1", "--port", str(port)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            assert server.poll() is None
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except (urllib.error.URLError, TimeoutError):
                time.sleep(0.2)
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{port}/v1")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def test_verdicts_are_what_the_model_said_and_are_asked_for_once(
    spoken: tuple[Path, list[float | Unscored]], address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, verdicts = spoken
    judge = Llm(str(folder), Chat(), PATIENT, Journal(tmp_path), None, tmp_path)
    found = answered(judge, grades)
    assert [type(verdict) for verdict in found] == [float, float, Unscored, Unscored]
    assert found == verdicts
    assert all(one["tokens"][0] > 0 and one["finish"] == "stop" for one in judge.used.values())
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")  # nobody is there, and nobody is asked
    again = Llm(str(folder), Chat(), PATIENT, Journal(tmp_path), None, tmp_path)
    assert grades(again, 2) == verdicts[:2]
