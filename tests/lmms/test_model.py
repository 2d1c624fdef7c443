"""A checkpoint under stock lmms-eval, as a user runs it: another process, no network, local parquet."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lmms_eval
import pytest
import yaml
from PIL import Image as Pillow

from harness.contracts import plugins
from harness.contracts.backend import Generated, Running, Sampling
from harness.contracts.benchmark import Benchmark
from harness.contracts.records import Prompt, Response
from harness.lmms_model import HarnessModel
from harness.mini.benchsets import write_benchmark
from harness.system.errors import UsageError
from tests.benchmarks.layouts import Files
from tests.lmms import hub
from tests.responding import respond

pytestmark = pytest.mark.heavy  # whole comparisons

ROOT = Path(__file__).parents[2]
BASE = ROOT / "harness" / "mini" / "bases" / "0"
STOCK = Path(lmms_eval.__file__).parent / "tasks"
TASKS = {"pope": "pope/pope.yaml", "textvqa": "textvqa/textvqa_val.yaml"}


def local_tasks(folder: Path) -> dict[str, Path]:
    """Stock tasks over the embedded testbed's sets as parquet, under names of their own; their official folders."""
    official = {}
    (folder / "tasks").mkdir()
    for name, stock in TASKS.items():
        official[name] = folder / "official" / name
        write_benchmark(name, 0, 20, official[name])
        hub.write(name, official[name], folder / name)
        task = {"include": str(STOCK / stock), "task": f"local_{name}", "dataset_path": str(folder / name)}
        (folder / "tasks" / f"{name}.yaml").write_text(yaml.safe_dump(task | {"dataset_kwargs": {}}))
    return official


def test_responses_under_lmms_eval_are_our_own(tmp_path: Path) -> None:
    official = local_tasks(tmp_path)
    asked = ["--model", "harness", "--model_args", f"checkpoint={BASE}", "--tasks", "local_pope,local_textvqa"]
    told = ["--include_path", str(tmp_path / "tasks"), "--batch_size", "128", "--log_samples", "--output_path", "out"]
    offline = {"HF_HUB_OFFLINE": "1", "LMMS_EVAL_DATASETS_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-m", "lmms_eval", *asked, *told],
        cwd=tmp_path, env=os.environ | offline, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ran.returncode == 0 and (tmp_path / "out").is_dir(), ran.stdout[-2000:] + ran.stderr[-2000:]
    for name, folder in official.items():
        benchmark: Benchmark = plugins.make("benchmarks", name, Benchmark, {"ocr": False} if name == "textvqa" else {})
        items = list(benchmark.items(folder, Files()))
        items.sort(key=lambda item: str(item.facts.get("split", "")))  # the order of POPE's dataset
        prompts = [Prompt(item.id, item.image, item.prompt) for item in items]
        own = respond(BASE, prompts, Sampling(max_new_tokens=128), 128, lambda done, total: None)
        samples = next((tmp_path / "out").glob(f"*samples_local_{name}.jsonl")).read_text().splitlines()
        theirs = [row["filtered_resps"] for row in sorted(map(json.loads, samples), key=lambda row: row["doc_id"])]
        assert theirs == [response.text for response in own]
        assert len(set(theirs)) > 1


def model(pictures: int, monkeypatch: pytest.MonkeyPatch) -> tuple[HarnessModel, list[tuple[list[Prompt], Sampling]]]:
    """The model over a backend that says "One. Two." to everything and remembers what it was asked."""
    seen: list[tuple[list[Prompt], Sampling]] = []

    def say(self: Any, checkpoint: Path, prompts: list[Prompt], sampling: Sampling, running: Running) -> Generated:
        seen.append((prompts, sampling))
        return Generated([Response(prompt.id, f"One {prompt.question}. Two.", 4) for prompt in prompts], None)

    monkeypatch.setattr("harness.backends.transformers.Transformers.respond", say)
    made = HarnessModel(checkpoint="nowhere", batch_size="auto")
    made.task_dict = {"t": {"test": [[Pillow.new("RGB", (4, 4))] * pictures]}}
    return made, seen


def request(question: str, **asked: Any) -> SimpleNamespace:
    return SimpleNamespace(args=(question, asked, lambda doc: doc, 0, "t", "test"))


def test_requests_are_answered_in_their_order_each_in_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    made, seen = model(1, monkeypatch)
    drawn = {"do_sample": True, "temperature": 0.5, "top_p": 0.9}
    requests = [
        request("a", max_new_tokens=7, until=["."], temperature=0.2, do_sample=False),
        request("b", max_new_tokens=9, **drawn),
        request("c", max_new_tokens=7, until=". Two"),
    ]
    assert made.generate_until(requests) == ["One a", "One b. Two.", "One c"]
    greedy, sampled = (sampling for _, sampling in seen)
    assert greedy == Sampling(max_new_tokens=7)  # a temperature without do_sample draws nothing
    assert sampled == Sampling(max_new_tokens=9, temperature=0.5, top_p=0.9)


@pytest.mark.parametrize(("pictures", "asked", "message"), [(2, {}, "2 pictures"), (1, {"num_beams": 5}, "5 beams")])
def test_what_it_cannot_do_is_refused(
    pictures: int, asked: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = model(pictures, monkeypatch)
    with pytest.raises(UsageError, match=message):
        made.generate_until([request("a", **asked)])


def test_a_missing_checkpoint_is_a_sentence() -> None:
    with pytest.raises(UsageError, match="--model_args checkpoint=DIR"):
        HarnessModel()
