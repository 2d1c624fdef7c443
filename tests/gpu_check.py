"""`make gpu-check`: what the product takes on this machine, beside what it says that it takes.

Three families with random weights of their true sizes, made here; LoRA of rank 128; 20 optimiser steps each of SFT
(killed in its twelfth and gone on with), GT-DPO and PPO, and 256 captions. Every stage is made by a comparison's own
plan, executor and bodies, each part in a process of its own. The rows go into docs/gpu.md.

    python -m tests.gpu_check                      # on a GPU, from the folder of the project
    python -m tests.gpu_check --small --page x.md  # tiny shapes on a CPU: whether the script works, and nothing else
"""

import argparse
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import yaml

from harness import families
from harness.comparison.compare import prepare
from harness.comparison.devices import DEVICES, Device
from harness.comparison.needs import by_row
from harness.comparison.progress import Lines
from harness.comparison.request import request
from harness.comparison.sizing import needs
from harness.comparison.worker import Bodies
from harness.contracts.records import Response
from harness.contracts.schedule import execute, insist, pending
from harness.contracts.settings import Runtime
from harness.contracts.steps import Plan, Step
from harness.models.footprint import Decoder, Shape, generating, most_rows
from harness.models.load import config_of, save
from harness.store.store import Store
from harness.system.jsonl import read_jsonl
from harness.system.profile import GIB
from tests import made_page, small_models, true_shapes
from tests.rehearsal import laid, written
from tests.words import tokenizer

ROOT = Path(__file__).parents[1]
PAGE, BEGIN, END = ROOT / "docs" / "gpu.md", "<!-- measured -->", "<!-- end -->"
METHODS, CAPTIONS, KILLED = ("sft", "dpo", "ppo"), "captions", "engine.step:13"
BED = {
    "name": "gpu-check",
    "models": ["model"],
    "data": ".",
    "response_tokens": 64,
    "crosscheck": False,
    "training": {
        "train_batch_size": 4,
        "dtype": "bfloat16",
        "max_length": 2048,
        "learning_rate": 1e-5,
        "lora": {"r": 128, "lora_alpha": 256},
    },
    "methods": {"ppo": {"steps": 1, "inner_epochs": 1, "response_length": 64, "preferences": "ground_truth"}},
}


SHAPES = {"llava": true_shapes.llava_7b, "qwen2_5_vl": true_shapes.qwen2_5_vl_7b, "internvl": true_shapes.internvl_8b}


def filled(name: str) -> Any:
    """A tokenizer of nearly as many words as the model has, so that whatever a random one says is a text."""
    family, size = families.named(name), SHAPES[name]().get_text_config().vocab_size
    letters = map("".join, itertools.product("abcdefghijklmnopqrstuvwxyz", repeat=4))
    known = " " + " ".join(itertools.islice(letters, size - 600))
    return tokenizer(family.image_token, *family.control, known=known, **family.named)


def true_sized(name: str, words: Any) -> tuple[Any, Any]:
    """Config and image processor of a family at its true size, with the ids of a tokenizer."""
    from transformers import GotOcr2ImageProcessorPil, LlavaImageProcessorPil, Qwen2VLImageProcessorPil

    config: Any = SHAPES[name]()
    if name == "llava":
        eyes = LlavaImageProcessorPil(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336})
    elif name == "qwen2_5_vl":
        eyes = Qwen2VLImageProcessorPil()
        for field, id in families.named(name).small_ids(words).items():  # type: ignore[attr-defined]
            setattr(config, field, id)
    else:  # of 12 tiles 3, so that a picture takes as many places as elsewhere
        eyes = GotOcr2ImageProcessorPil(size={"height": 448, "width": 448}, max_patches=3)
    config.image_token_id = words.convert_tokens_to_ids(families.named(name).image_token)
    return config, eyes


def make(name: str, home: Path, small: bool) -> None:
    """The model of a family, and the data of all: 80 examples, 256 pictures, photographs of at most 640 pixels."""
    family, side, count = families.named(name), 160 if small else 640, 8 if small else 256
    if small:
        small_models.made(family, home / "model")
    else:
        words = filled(name)
        config, processor = true_sized(name, words)
        torch.manual_seed(0)
        with torch.device("cuda"):
            model = family.model_class()._from_config(config, dtype=torch.bfloat16)
        save(model, words, family.eyes(lambda kind: processor, config), home / "model")
    laid(home, (), pictures=27, side=side)
    for number in range(count):
        written(home / CAPTIONS / "images" / f"COCO_val2014_{number:012d}.jpg", number, side)
    objects = {str(number): ["cat"] for number in range(count)}
    (home / CAPTIONS / "gt_objects.json").write_text(json.dumps(objects))
    shutil.copy(Path(__file__).with_name("captions.py"), home)
    (home / "script.json").write_text("{}")
    (home / "bed.yaml").write_text(yaml.safe_dump({**BED, "writer": f"script:{home / 'script.json'}"}))


def planned(home: Path) -> tuple[Plan, Runtime]:
    """The comparison: 80 examples in batches of 4 are 20 steps."""
    words = (",".join(METHODS), "llava150k", "", str(home / "bed.yaml"), 1, str(home / f"{CAPTIONS}.py"), 80, None)
    often = ["runtime.checkpoint_every_steps=10"]
    bed, asked, runtime = request(*words, often, 1)
    return prepare(asked, bed, runtime, Store(home / "store")), runtime


def goal(plan: Plan, part: str) -> Step:
    """What a part is done with: a method's last training, or the base's captions."""
    if part != CAPTIONS:
        return plan.trained[part, 0][-1]
    return next(cell.responses for cell in plan.cells if cell.row == "baseline")


def run(home: Path, part: str) -> None:
    """Make what a part lacks, as a comparison does."""
    plan, runtime = planned(home)
    store = Store(home / "store")
    todo = pending([goal(plan, part)], store, plan.steps)
    insist(execute(todo, Bodies(str(store.root), plan.testbed, plan.request, runtime), store, runtime, Lines()))


def device() -> Device:
    """This machine's, as `harness plan --device` knows it; an H100 where it knows none of that name."""
    if not torch.cuda.is_available():
        return DEVICES["cpu"]
    name = torch.cuda.get_device_name().lower()
    return next(
        (one for key, one in DEVICES.items() if key.partition("-")[0].removeprefix("rtx") in name), DEVICES["h100"]
    )


def measured(name: str, home: Path, part: str, seconds: float) -> list[str]:
    """A row of the page: what was planned, what was estimated of the real records, what it took."""
    plan, runtime = planned(home)
    folder = Store(home / "store").path(goal(plan, part).stage)
    title = families.named(name).title
    if part == CAPTIONS:
        took = json.loads((folder / "profile.json").read_text())
        estimate, layout = captioning(home, list(read_jsonl(Response, folder / "responses.jsonl")))
        text, wall = f"{took['items']} captions, {took['generated_tokens']:,} tokens", took["wall_s"]
        return [
            title,
            text,
            layout,
            "",
            *cells(estimate / GIB, took["peak_device_gib"]),
            "",
            f"{wall:.0f}",
            f"{seconds:.0f}",
        ]
    took = json.loads((folder / "summary.json").read_text())
    need = next(one for one in by_row([*needs(plan, plan.trained[part, 0], runtime, device())]) if one.kind == "train")
    resumed = f", gone on with from step {took['resumed_from_step']}" if took["resumed_from_step"] else ""
    text, layout = (
        f"{part}, {took['steps']} steps{resumed}",
        f"{took['batch_size']} at once, {took['recomputed_layers']} layers again",
    )
    memory = cells(took["estimated_gib"], took["peak_device_gib"])
    times = [f"{need.seconds:.0f}", f"{took['wall_s']:.0f}", f"{seconds:.0f}"]
    return [title, text, layout, f"{need.memory.peak / GIB:.1f}", *memory, *times]


def captioning(home: Path, said: Sequence[Response]) -> tuple[int, str]:
    """Bytes by formula of captions as the backend batches them, and how many at once."""
    config, stored = (
        config_of(home / "model"),
        sum(file.stat().st_size for file in (home / "model").glob("*.safetensors")),
    )
    shape = Shape(Decoder.of(config), stored // 2, 0)
    longest, new = max(one.prompt_tokens for one in said), max(one.tokens for one in said)
    room = int(0.9 * torch.cuda.mem_get_info()[1]) if torch.cuda.is_available() else DEVICES["cpu"].memory
    rows = min(most_rows(shape, "bfloat16", longest, new, room), len(said))
    return generating(shape, "bfloat16", rows, longest, new).peak, f"{rows} at once"


def cells(estimated: float, peak: float) -> list[str]:
    """GiB by formula and as measured, and their ratio; a dash where there is no device to measure."""
    return [f"{estimated:.1f}", f"{peak:.1f}" if peak else "–", f"{estimated / peak:.2f}" if peak else "–"]


def child(*words: str, expect: int = 0, module: str = "tests.gpu_check", **env: str) -> float:
    """This script, or another one, in another process; seconds that it took."""
    begun = time.monotonic()
    command = [sys.executable, "-m", module, *words]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT), **env}, cwd=ROOT, check=False)
    if done.returncode != expect:
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}, not {expect}; see above.")
    return time.monotonic() - begun


def rows(names: Sequence[str], home: Path, small: bool) -> Iterator[list[str]]:
    """One after the other, each gone from the disk when its figures are read."""
    for name in names:
        here = home / name
        here.mkdir()
        child("--make", name, str(here), *(["--small"] if small else []))
        child("--run", "sft", str(here), expect=137, HARNESS_FAILPOINT=KILLED)
        for part in (*METHODS, CAPTIONS):
            seconds = child("--run", part, str(here))
            yield measured(name, here, part, seconds)
        shutil.rmtree(here)


HEAD = (
    "family", "what", "laid out", "plan, GiB", "laid out, GiB", "peak, GiB", "ratio", "plan, s", "took, s",
    "whole part, s",
)  # fmt: skip


def table(found: Sequence[Sequence[str]], head: Sequence[str] = HEAD) -> str:
    """A page's part: where it was measured, and the rows."""
    import deepspeed
    import transformers

    cuda = torch.cuda.is_available()
    where = torch.cuda.get_device_name() if cuda else f"CPU ({platform.machine()}), tiny shapes: no measurement"
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, DeepSpeed {deepspeed.__version__}"
    lines = [f"{where}; {versions}; {datetime.now(UTC):%Y-%m-%d}.", ""]
    lines += [f"| {' | '.join(row)} |" for row in (head, ["-"] * len(head), *found)]
    return "\n".join(lines)


def main() -> None:
    """Parse words; without --make or --run everything, and the page."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--small", action="store_true", help="tiny shapes, also on a CPU")
    words.add_argument("--families", default="llava,qwen2_5_vl,internvl")
    words.add_argument("--page", type=Path, default=PAGE, help="the file that gets the table")
    words.add_argument("--make", nargs=2, help=argparse.SUPPRESS)
    words.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    given = words.parse_args()
    if given.make:
        make(given.make[0], Path(given.make[1]), given.small)
    elif given.run:
        run(Path(given.run[1]), given.run[0])
    else:
        whole(given.families.split(","), given.small, given.page)


def whole(names: Sequence[str], small: bool, page: Path) -> None:
    """All of it; SystemExit where there is no GPU to measure, or the page would get what is no measurement."""
    if not small and not torch.cuda.is_available():
        raise SystemExit("no GPU is to be seen here; --small --page FILE tries the script without one.")
    if small and page == PAGE:
        raise SystemExit("--small measures nothing: give a --page of your own.")
    with tempfile.TemporaryDirectory() as home:
        made = table(list(rows(names, Path(home), small)))
    print(made)
    page.write_text(made_page.filled(page, BEGIN, END, made), encoding="utf-8")


if __name__ == "__main__":
    main()
