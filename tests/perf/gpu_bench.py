"""`make gpu-bench`: how fast LLaVA-1.5-7B learns and answers on this GPU, with random weights of its true size.

SFT's samples and GT-DPO's pairs by the engine, with adapters of rank 128 in bfloat16 and as many records at once as it
finds room for; the reference's pass over the pairs; captions by either backend, where vLLM is installed. Each part is
a process of its own. The rows go into docs/performance.md. Meant to take less than ten minutes.

    python -m tests.perf.gpu_bench                      # on a GPU, from the folder of the project
    python -m tests.perf.gpu_bench --small --page x.md  # tiny shapes on a CPU: whether the script works, no measurement
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from harness import backends
from harness.contracts import plugins
from harness.contracts.backend import Running, Sampling
from harness.contracts.method import Method
from harness.contracts.records import Image, Prompt, Record
from harness.contracts.settings import Generation, Lora, Runtime, Training
from harness.models import reference
from harness.store.digest import file_digest
from harness.system.jsonl import read_jsonl, write_jsonl
from harness.system.profile import GIB, measure, quiet
from harness.training.deepspeed_engine import distributed, local_rank
from harness.training.engine import Run
from harness.training.job import Job
from tests import made_page, vllm_environment
from tests.gpu_check import CAPTIONS, child, device, make, table
from tests.perf import work
from tests.perf.work import Case

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
BEGIN, END = "<!-- measured by make gpu-bench -->", "<!-- end of make gpu-bench -->"
SKIPPED = 3  # steps in which kernels are chosen and memory is taken
TRAINED, ENGINES = ("sft", "dpo"), ("transformers", "vllm")
HEAD = ("what", "of", "at once", "per second", "of the device's FLOP/s", "peak, GiB")


def pictures(home: Path) -> list[Image]:
    """All that there are."""
    return [Image(str(path), file_digest(path)) for path in sorted((home / CAPTIONS / "images").iterdir())]


def job(method: str, home: Path, small: bool) -> Job:
    """A training of two epochs, a record for each picture, 32 a step."""
    here = home / method
    for name in ("out", "work"):
        (here / name).mkdir(parents=True)
    write_jsonl(here / "records.jsonl", work.records(Case(method, 10 if small else 100, True), pictures(home)))
    training = Training(
        learning_rate=1e-5, num_train_epochs=4 if small else 2, train_batch_size=4 if small else 32, dtype="bfloat16",
        lora=Lora(r=4) if small else Lora(),
    )  # fmt: skip
    return Job(
        method=method, options={}, records=str(here / "records.jsonl"), model=str(home / "model"), training=training,
        reference=str(here / "logps.safetensors") if method == "dpo" else None, seed=0, out=str(here / "out"),
        work=str(here / "work"), runtime=Runtime(zero_stage=0, checkpoint_every_steps=1000),
    )  # fmt: skip


def trained(method: str, home: Path, small: bool) -> list[list[str]]:
    """Rows of a training whose features and reference lie on the shelf, and of the pass that made the reference."""
    made = job(method, home, small)
    rows = referred(made) if made.reference else []
    with local_rank():
        run = Run(made, plugins.make("methods", method, Method, {}), *distributed())
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    took, plan = list[float](), [[run.trees[name] for name in names] for names in run.plan]
    for number, (step, after) in enumerate(zip(plan, [*plan[1:], []], strict=True), 1):
        begun = time.perf_counter()
        run.step(number, step, after)
        took.append(finished() - begun)
    run.ahead.close()
    run.engine.destroy()
    what = "pairs, GT-DPO, the reference kept" if method == "dpo" else "samples, SFT"
    of, laid = f"{max(tree.tokens for tree in plan[0])} places", f"{run.layout.rows}, {run.layout.again} layers again"
    peak = torch.cuda.max_memory_allocated() / GIB if torch.cuda.is_available() else 0.0
    flops = sum(run.flops.train(tree, run.adapters) for tree in plan[0])
    return [*rows, row(what, of, laid, len(plan[0]), statistics.median(took[SKIPPED:]), flops, peak)]


def referred(made: Job) -> list[list[str]]:
    """The reference's log-probs, twice: the first time pictures are seen too, and kernels chosen."""
    told = list(read_jsonl(Record, Path(made.records)))
    for _ in range(2):
        took = reference.reference_logps(
            Path(made.model), told, made.runtime, Path(made.reference or ""), quiet, made.training.dtype,
            shelf=Path(made.work) / "features",
        )  # fmt: skip
    of, laid = f"{took['forward_tokens'] / len(told):.0f} places", str(made.runtime.read_batch_size)
    cost = took["wall_s"], int(took["flops"]), took["peak_device_gib"]
    return [row("pairs, the reference's pass", of, laid, len(told), *cost)]


def finished() -> float:
    """The time when the device has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def row(what: str, of: str, laid: str, count: int, seconds: float, flops: int, peak: float) -> list[str]:
    """A line of the table; without a GPU no share of it, and no peak."""
    share = f"{flops / seconds / device().flops:.0%}" if torch.cuda.is_available() and flops else "–"
    return [what, of, laid, f"{count / seconds:,.1f}", share, f"{peak:.1f}" if peak else "–"]


def answered(name: str, home: Path, small: bool) -> list[list[str]]:
    """A row of captions by a backend; of one that cannot run here, why."""
    options = vllm_environment.options() if name == "vllm" else {}
    backend = backends.chosen(Generation(backend=name, options=options))
    what = f"tokens, captions by {name}"
    if why := backend.problem():
        return [[what, f"not measured: {why.split(':')[0]}", "–", "–", "–", "–"]]
    prompts = [Prompt(f"q{n}", image, "what is there") for n, image in enumerate(pictures(home))]
    sampling, running = (
        Sampling(max_new_tokens=8 if small else 128, dtype="bfloat16"),
        Running(0, quiet, home / "shelf"),
    )
    backend.respond(home / "model", prompts[:2], sampling, running)  # it is loaded, and kernels are chosen
    with measure() as usage:
        said = backend.respond(home / "model", prompts, sampling, running)
    count, flops = sum(len(one.ids) for one in said.responses), said.flops or 0
    of = f"{len(prompts)} pictures, {count:,} tokens, prompts and the tower's pass included"
    return [row(what, of, "auto", count, usage.wall_s, flops, 0.0 if name == "vllm" else usage.peak_device_gib)]


def part(name: str, home: Path, small: bool) -> None:
    """Measure one, and leave its rows in the folder."""
    found = trained(name, home, small) if name in TRAINED else answered(name, home, small)
    (home / f"{name}.json").write_text(json.dumps(found))


def whole(small: bool, page: Path) -> None:
    """All of it; SystemExit where there is no GPU to measure, or the page would get what is no measurement."""
    if not small and not torch.cuda.is_available():
        raise SystemExit("no GPU is to be seen here; --small --page FILE tries the script without one.")
    if small and page == PAGE:
        raise SystemExit("--small measures nothing: give a --page of your own.")
    found: list[list[str]] = []
    with tempfile.TemporaryDirectory() as root:
        home, tiny = Path(root), ["--small"] if small else []
        child("--part", "make", root, *tiny, module=__spec__.name)
        for name in (*TRAINED, *ENGINES):
            child("--part", name, root, *tiny, module=__spec__.name)
            found += json.loads((home / f"{name}.json").read_text())
    made = table(found, HEAD)
    print(made)
    page.write_text(made_page.filled(page, BEGIN, END, made), encoding="utf-8")


def main(words: Sequence[str] | None = None) -> None:
    """Parse words; without --part everything, and the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="tiny shapes, also on a CPU")
    parser.add_argument("--page", type=Path, default=PAGE, help="the file that gets the table")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if not given.part:
        whole(given.small, given.page)
    elif given.part[0] == "make":
        make("llava", Path(given.part[1]), given.small)
    else:
        part(given.part[0], Path(given.part[1]), given.small)


if __name__ == "__main__":
    main()
