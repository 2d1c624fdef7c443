"""A small comparison on the real store, for the tests to kill."""

import hashlib
import io
import json
import os
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path

from PIL import Image as Pillow

from harness.contracts.images import Places, StoreImages
from harness.sources.llava150k import Llava150k
from harness.store.store import Stage, Store, failpoint
from harness.system.jsonl import dumps
from harness.training.split import split, write_split

METHODS = ("sft", "dpo", "nsft")
DATA = Stage("data", {"count": 12})
SPLIT = Stage("split", {"n": 8, "seed": 1}, {"data": DATA})
TRAIN = {name: Stage("train", {"method": name}, {"split": SPLIT}) for name in METHODS}
ITEMS = Stage("items", {"benchmark": "toy"})
SCORE = {name: Stage("score", {}, {"train": stage, "items": ITEMS}) for name, stage in TRAIN.items()}
TABLE = Stage("table", {}, SCORE)
STAGES = [DATA, SPLIT, *TRAIN.values(), ITEMS, *SCORE.values(), TABLE]


class NaiveStore(Store):
    """The mutant the tests must catch: a stage is done when its folder is there."""

    def run(self, stage: Stage, body: Callable[[Path], None]) -> Path:
        final = self.path(stage)
        if not final.exists():
            final.mkdir(parents=True)
            body(final)
        return final


def png(number: int) -> bytes:
    file = io.BytesIO()
    Pillow.new("RGB", (8, 8), (number, 20 * number, 255 - number)).save(file, "PNG")
    return file.getvalue()


def write(path: Path, chunks: list[str]) -> None:
    """Write slowly, so that a kill finds the file half written."""
    with path.open("w") as file:
        for chunk in chunks:
            file.write(chunk)
            file.flush()
            failpoint("toy.write")
            time.sleep(0.001)


def make_data(out: Path) -> None:
    records = []
    (out / "images").mkdir()
    for number in range(12):
        (out / "images" / f"{number}.png").write_bytes(png(number))
        said = [{"from": "human", "value": f"<image>\nWhat is {number}?"}, {"from": "gpt", "value": f"It is {number}."}]
        records.append({"id": f"x{number}", "image": f"{number}.png", "conversations": said})
    write(out / "llava150k.json", ["[", *(json.dumps(r) + ("," if r != records[-1] else "") for r in records), "]"])


def make_split(store: Store, out: Path) -> None:
    write_split(out, split(Llava150k(store.path(DATA)).load, 8, seed=1), Places(store.root))


def train(store: Store, stage: Stage, out: Path) -> None:
    """Ten steps with a checkpoint in the work folder after each, and a resume from it."""
    examples = (store.path(SPLIT) / "examples.jsonl").read_text()
    checkpoint = store.work(stage) / "state.json"
    step, state = json.loads(checkpoint.read_text()) if checkpoint.exists() else (0, stage.identity["method"])
    for number in range(step, 10):
        state = hashlib.sha256(f"{state}{number}{examples}".encode()).hexdigest()
        waiting = checkpoint.with_suffix(".new")
        waiting.write_text(dumps([number + 1, state]))
        failpoint("toy.checkpoint")
        waiting.rename(checkpoint)
        time.sleep(0.001)
    write(out / "weights", [state] * 10)


def make_items(store: Store, out: Path) -> None:
    images = StoreImages(Places(store.root), out, store.path(ITEMS))
    write(out / "items.jsonl", [dumps(images.of(png(number))) + "\n" for number in range(100, 108)])


def score(store: Store, stage: Stage, out: Path) -> None:
    weights = (store.path(stage.inputs["train"]) / "weights").read_text()
    lines = (store.path(ITEMS) / "items.jsonl").read_text().splitlines()
    write(out / "scores", [hashlib.sha256((weights + line).encode()).hexdigest() + "\n" for line in lines])


def make_table(store: Store, out: Path) -> None:
    write(out / "table.md", [f"|{name}|{(store.path(SCORE[name]) / 'scores').read_text()[:32]}|\n" for name in METHODS])


def compare(store: Store, log: Path) -> None:
    """Every stage in order; `log` gets a line per body that ran to its end."""

    def run(stage: Stage, body: Callable[[Path], None]) -> None:
        def logged(out: Path) -> None:
            body(out)
            with log.open("a") as file:
                file.write(f"{stage.name}\n")

        store.run(stage, logged)

    run(DATA, make_data)
    run(SPLIT, partial(make_split, store))
    for stage in TRAIN.values():
        run(stage, partial(train, store, stage))
    run(ITEMS, partial(make_items, store))
    for stage in SCORE.values():
        run(stage, partial(score, store, stage))
    run(TABLE, partial(make_table, store))


def main(kind: type[Store], root: Path, log: Path, die_at: str, ready: Event) -> None:
    """A process of the tests: the comparison, dying at the failpoint `die_at`."""
    os.environ["HARNESS_FAILPOINT"] = die_at
    ready.set()
    compare(kind(root), log)


def hold(root: Path, ready: Event) -> None:
    """A process that takes the first stage's lock and keeps it."""

    def wait(out: Path) -> None:
        ready.set()
        time.sleep(600)

    Store(root).run(DATA, wait)
