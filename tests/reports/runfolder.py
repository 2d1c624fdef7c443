"""A finished comparison on disk with everything a report can show: splits, builds, logs, items, responses, scores."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image as Pillow
from scored import parts

from harness.store import Stage, Store
from harness.types import Image, Item, Response, dumps

LABELS = {"baseline": "baseline", "sft": "Cont. SFT", "nsft": "nSFT", "dpo": "GT-DPO"}


@dataclass
class RunFolder:
    """What is written; every field is something a test spoils. `said` maps a row to what it answers to everything."""

    rows: Sequence[str] = ("nsft", "dpo")
    labels: Mapping[str, str] = field(default_factory=lambda: LABELS)
    seeds: Sequence[int] = (0,)
    items: int = 4
    examples: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, Sequence[str]] = field(default_factory=dict)
    said: Mapping[str, str] = field(default_factory=dict)
    cut: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    unfinished: Sequence[tuple[str, str]] = ()
    item_id: str = "item"
    fields: Mapping[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """The run's folder, beside its store."""
        self.store, self.stages = Store(folder / "store"), list[str]()
        cells, trained = [], []
        for seed in self.seeds:
            lock = {"digest": f"{seed}" * 64, "examples": [[f"e{n}", "hash"] for n in range(32)]}
            split = self.stage("split", {"seed": seed}, {}, {"split.lock": json.dumps(lock)})
            for row in ("baseline", *self.rows):
                policy = {} if row == "baseline" else {"policy": self.policy(row, seed, split, trained)}
                for name in ("gqa", "mmhal"):
                    cells.append({"row": row, "label": self.labels[row], "seed": seed, "benchmark": name})
                    cells[-1] |= self.cell(row, name, seed, policy)
        manifest = {
            "harness": "0", "source": {}, "packages": {}, "store": "../store",
            "testbed": "mini", "synthetic": True, "protocol": "llava",
            "data": "llava150k", "command": ["harness", "compare"], "benchmarks": {"gqa": {}, "mmhal": {}},
            "judges": {"mmhal": "oracle"}, "models": {str(seed): "m" for seed in self.seeds},
            "split_lock": {f"split seed {seed}": "lock" for seed in self.seeds},
            "rows": {row: {"name": row, "options": {}} for row in self.rows},
            "cells": cells, "trained": trained, "stages": self.stages, **self.fields,
        }  # fmt: skip
        run = folder / "run"
        run.mkdir(exist_ok=True)
        (run / "manifest.json").write_text(json.dumps(manifest))
        (run / "profile.json").write_text("{}")
        return run

    def policy(self, row: str, seed: int, split: Stage, trained: list[dict[str, Any]]) -> Stage:
        """Build and train; preference metrics for dpo."""
        built = {"examples": self.examples.get(row, 32), "records": 32, "writer_calls": 32 * (row == "nsft")}
        built |= {"forward_tokens": 50, "errors": {"existence": 7, "colour": 9}} if row == "nsft" else {}
        built |= {"rejected": {"examples": 32, "use": "not read: so"}} if row == "dpo" else {}
        who = {"method": row, "options": {}, "seed": seed}
        lost = "".join(dumps({"id": f"e{n}", "reason": why}) + "\n" for n, why in enumerate(self.dropped.get(row, ())))
        files = {"profile.json": json.dumps(built), "dropped.jsonl": lost}
        build = self.stage("build", who, {"split": split}, files)
        summary = {"records": 32, "steps": 8, "supervised_tokens": 100, "forward_tokens": 200, "wall_s": 2.0}
        summary |= {"trainable_parameters": 1000, "flops": 3e12, "peak_host_gib": 0.5, "peak_device_gib": 0.0}
        summary |= dict(zip(("cut_records", "cut_tokens"), self.cut.get(row, (0, 0)), strict=True))
        lines = []
        for step in range(1, 9):
            line = {"step": step, "loss": 1 / step, "grad_norm": 1.0}
            if row == "dpo":
                line |= {"logps/chosen": -10.0, "logps/rejected": -10.0 - step, "rewards/margins": 0.1 * step}
            lines.append(dumps(line))
        files = {"summary.json": json.dumps(summary), "log.jsonl": "\n".join(lines)}
        train = self.stage("train", who, {"build": build}, files)
        trained.append({"row": row, "seed": seed, "stages": [build.name, train.name]})
        return train

    def cell(self, row: str, name: str, seed: int, policy: Mapping[str, Stage]) -> dict[str, str]:
        """Items with pictures, responses and units: rows other than the baseline get one item more right."""
        ids = [f"{self.item_id}{n}" for n in range(self.items)]
        pictures = {f"{n}.png": png(n) for n in range(self.items)}
        where = Stage("items", {"benchmark": name, "id": self.item_id})
        shown = [
            Image(f"{where.name}/{n}.png", hashlib.sha256(pictures[f"{n}.png"]).hexdigest()) for n in range(self.items)
        ]
        asked = [
            Item(id, image, f"question {id}", id, {"answer": "yes", "types": {}})
            for id, image in zip(ids, shown, strict=True)
        ]
        items = self.stage(
            "items", {"benchmark": name, "id": self.item_id}, {}, {"items.jsonl": lines_of(asked), **pictures}
        )
        said = [Response(id, self.said.get(row, f"{row} says"), 3) for id in ids]
        what = {"row": row, "seed": seed, "said": self.said.get(row, "")}
        answers = self.stage("generate", what, {"items": items, **policy}, {"responses.jsonl": lines_of(said)})
        right = 1 + (row != "baseline")
        units = [{"id": id, "cluster": id, "parts": parts(name, n < right, best=1)} for n, id in enumerate(ids)]
        scored = {"benchmark": name, "judge": "oracle" if name == "mmhal" else ""}
        stored = {"units.json": dumps({"units": units, "unscored": {}, "items": len(units)})}
        told = {"name": "oracle", "items": len(units), "runs": 3, "verdicts": len(units), "values": {}}
        stored |= {"judge.json": dumps(told)} if name == "mmhal" else {}
        score = Stage("score", scored, {"items": items, "responses": answers})
        if (row, name) not in self.unfinished:
            score = self.stage("score", scored, {"items": items, "responses": answers}, stored)
        return {"items": items.name, "responses": answers.name, "score": score.name}

    def stage(
        self, kind: str, what: dict[str, Any], reads: dict[str, Stage], files: Mapping[str, str | bytes]
    ) -> Stage:
        """A finished stage with these files."""
        stage = Stage(kind, what, reads)

        def body(out: Path) -> None:
            for name, data in files.items():
                (out / name).write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))

        self.store.run(stage, body)
        self.stages.append(stage.name)
        return stage


def lines_of(things: Sequence[object]) -> str:
    """JSON lines."""
    return "".join(dumps(thing) + "\n" for thing in things)


def png(shade: int) -> bytes:
    """A small picture."""
    file = io.BytesIO()
    Pillow.new("RGB", (16, 16), (shade, 90, 120)).save(file, "PNG")
    return file.getvalue()
