"""Finished comparisons on disk, made up: real stages in a real store, with scores drawn from a seed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scored import parts

from harness.store import Stage, Store
from harness.types import dumps

LABELS = {"baseline": "baseline", "sft": "Cont. SFT", "dpo": "GT-DPO"}


@dataclass(frozen=True)
class Comparison:
    """What a made-up comparison is: each row's chance to be right, and what tests change."""

    skill: Mapping[str, float] = field(default_factory=lambda: {"baseline": 0.6, "dpo": 0.7})
    seeds: Sequence[int] = (0,)
    images: int = 60
    unscored: int = 0
    split: str = "lock"
    judge: str = "oracle:1"
    options: str = "{}"
    scorer: str = "official"
    fields: Mapping[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """Its store and its run folder, which is returned."""
        store, cells, trained, stages = Store(folder / "store"), [], [], set[str]()
        for seed in self.seeds:
            for row, skill in self.skill.items():
                train = Stage("train", {"row": row, "seed": seed, "options": self.options})
                if row != "baseline":
                    store.run(train, lambda out: None)
                    trained.append({"row": row, "seed": seed, "stages": [train.name]})
                for benchmark in ("sqa", "mmhal"):
                    items = Stage("items", {"benchmark": benchmark})
                    answers = Stage(
                        "generate", {"seed": seed}, {"items": items} | ({"policy": train} if trained else {})
                    )
                    judge = self.judge if benchmark == "mmhal" else ""
                    what = {"benchmark": benchmark, "judge": judge, "source": self.scorer, "skill": skill}
                    score = Stage("score", what, {"items": items, "responses": answers})
                    units = self.units(benchmark, skill, seed)
                    for stage, name, text in (
                        (items, "items.jsonl", "{}\n"),
                        (answers, "responses.jsonl", dumps({"row": row}) + "\n"),
                        (score, "units.json", units),
                    ):
                        store.run(stage, lambda out, name=name, text=text: _write(out / name, text))  # type: ignore[misc]
                    names = {"score": score.name, "responses": answers.name, "items": items.name}
                    cells.append({"row": row, "label": LABELS[row], "seed": seed, "benchmark": benchmark, **names})
                    stages |= {train.name, *names.values()}
        run = folder / "run"
        run.mkdir(exist_ok=True)
        manifest = self.manifest() | {"cells": cells, "trained": trained, "stages": sorted(stages)} | self.fields
        (run / "manifest.json").write_text(json.dumps(manifest))
        took = [{"stage": "train", "title": f"train {made['row']}", "seconds": 8.0} for made in trained]
        (run / "profile.json").write_text(json.dumps({"stages": took}))
        return run

    def units(self, benchmark: str, skill: float, seed: int) -> str:
        """Four questions per image; the same luck for every row, so that rows are paired."""
        rng = np.random.default_rng(seed)
        right = rng.random((self.images, 4)) < np.clip(skill + 0.2 * rng.standard_normal((self.images, 1)), 0, 1)
        units = [
            {"id": f"{i}/{q}", "cluster": f"image {i}", "parts": parts(benchmark, bool(said))}
            for i, image in enumerate(right)
            for q, said in enumerate(image)
        ]
        kept = units[: len(units) - self.unscored]
        lost = {unit["id"]: "no verdict" for unit in units[len(kept) :]}
        return dumps({"units": kept, "unscored": lost, "items": len(units)})

    def manifest(self) -> dict[str, Any]:
        """Everything but what lies in the store."""
        return {
            "harness": "0", "source": {}, "packages": {}, "store": "../store", "testbed": "mini", "synthetic": True,
            "protocol": "llava", "data": "llava150k", "benchmarks": {"sqa": {}, "mmhal": {}},
            "judges": {"mmhal": self.judge}, "models": {str(seed): "model" for seed in self.seeds},
            "split_lock": {f"split seed {seed}": self.split for seed in self.seeds},
            "rows": {row: {"name": row, "options": json.loads(self.options)} for row in [*self.skill][1:]},
        }  # fmt: skip


def _write(path: Path, text: str) -> None:
    path.write_text(text)
