"""The one comparison on disk that is made up: real stages in a real store, with everything a report can show."""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from PIL import Image as Pillow

from harness.contracts.records import Image, Item, Response, Score, Unscored
from harness.store.store import MANIFEST, Stage, Store
from harness.system.jsonl import dumps
from reports.manifest import Asked, Manifest, ScoredCell, Trained
from tests.scored import FACTS, parts

LABELS = {"baseline": "baseline", "sft": "Cont. SFT", "nsft": "nSFT", "dpo": "GT-DPO"}
EXAMPLES = 32
JUDGED = "mmhal"


def manifest(**fields: Any) -> Manifest:
    """A manifest that has every field; of an empty run on the embedded testbed, but for `fields`."""
    whole: dict[str, Any] = {
        "harness": "0", "source": {}, "python": "3", "platform": "any", "packages": {}, "store": "../store",
        "command": ["harness", "compare"], "request": "0" * 20, "finished": True, "failed": [],
        "testbed": "mini", "synthetic": True, "protocol": "llava", "judge": "oracle", "writer": "oracle",
        "judging": {}, "writing": {}, "data": "llava150k", "folder": "", "seeds": [0], "rows": {}, "benchmarks": {},
        "own": {}, "judges": {}, "setting": {}, "architectures": {}, "models": {"0": "m"}, "published": {}, "bases": {},
        "split_lock": {}, "shared": {}, "fetched": {}, "parity": None, "report": "0" * 20,
        "cells": [], "trained": [], "stages": [],
    }  # fmt: skip
    return Manifest(**{**whole, **fields})


@dataclass(frozen=True)
class FakeRun:
    """What is made up; every field is something that a test changes.

    Without `skill` every benchmark asks one question about each of `items` pictures, and a row gets one more right than
    the baseline. With it, row -> chance to be right, it asks four about each of `items` images (no pictures are
    written), with the same luck for every row, so that rows are paired; its rows are the run's. `said` maps a row to
    what it answers to everything, `joint` one to the source that it learnt too; `heard` is what the judge replied to
    everything (nothing is kept where it is None); `spoilt` are fields of the manifest's file and `units` the text of
    every score's, right or wrong.
    """

    rows: Sequence[str] = ("nsft", "dpo")
    skill: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=lambda: LABELS)
    seeds: Sequence[int] = (0,)
    benchmarks: Sequence[str] = ("gqa", JUDGED)
    items: int = 4
    item_id: str = "item"
    questions: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=lambda: FACTS[JUDGED] | FACTS["gqa"])
    options: Mapping[str, Any] = field(default_factory=dict)
    split: str = ""
    judge: str = "oracle:1"
    scorer: str = "official"
    unscored: int = 0
    examples: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, Sequence[str]] = field(default_factory=dict)
    said: Mapping[str, str] = field(default_factory=dict)
    heard: str | None = None
    cut: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    trained: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    joint: Mapping[str, str] = field(default_factory=dict)
    unfinished: Sequence[tuple[str, str]] = ()
    spoilt: Mapping[str, Any] = field(default_factory=dict)
    units: str = ""

    def write(self, folder: Path) -> Path:
        """The run's folder, beside its store."""
        run = folder / "run"
        run.mkdir(parents=True, exist_ok=True)
        with patch("os.fsync"):  # it need not outlive a loss of power
            written = _Writing(self, Store(folder / "store"))
        written.manifest().write(run / MANIFEST)
        if self.spoilt:
            told = json.loads((run / MANIFEST).read_text())
            (run / MANIFEST).write_text(json.dumps(told | self.spoilt))
        took = [{"stage": "train", "title": f"train {made.row}", "seconds": 8.0} for made in written.trained]
        (run / "profile.json").write_text(json.dumps({"stages": took}))
        return run

    def answered(self, row: str, seed: int) -> Iterator[tuple[str, str, bool]]:
        """Question, image, and whether the row's response is right."""
        if not self.skill:
            for number in range(self.items):
                yield f"{self.item_id}{number}", f"{self.item_id}{number}", number < 1 + (row != "baseline")
            return
        rng = np.random.default_rng(seed)
        luck = rng.random((self.items, 4)), 0.2 * rng.standard_normal((self.items, 1))
        for image, right in enumerate(luck[0] < np.clip(self.skill[row] + luck[1], 0, 1)):
            yield from ((f"{image}/{number}", f"image {image}", bool(one)) for number, one in enumerate(right))


def drawn(skill: Mapping[str, float], **fields: Any) -> FakeRun:
    """A run of 240 questions on 60 images, where rows are right by chance: enough for intervals and tests."""
    return FakeRun(**{"skill": skill, "items": 60, "benchmarks": ("sqa", JUDGED), **fields})


class _Writing:
    """Fills a store with a run's stages, and knows what its manifest says of them."""

    def __init__(self, run: FakeRun, store: Store) -> None:
        self.run, self.store = run, store
        self.stages, self.cells, self.trained = list[str](), list[ScoredCell](), list[Trained]()
        for seed in run.seeds:
            split = self.stage("split", {"seed": seed, "split": run.split}, {}, {"split.lock": self.lock(seed)})
            for row in run.skill or ("baseline", *run.rows):
                policy = {} if row == "baseline" else {"policy": self.policy(row, seed, split)}
                self.cells += [self.cell(row, name, seed, policy) for name in run.benchmarks]

    def manifest(self) -> Manifest:
        run = self.run
        rows = [row for row in run.skill or run.rows if row != "baseline"]
        return manifest(
            seeds=list(run.seeds),
            rows={row: Asked(name=row, options=dict(run.options), row="", training={}) for row in rows},
            benchmarks={name: {} for name in run.benchmarks},
            judges={name: run.judge for name in run.benchmarks if name == JUDGED},
            models={str(seed): "m" for seed in run.seeds},
            bases={str(seed): "/models/m" for seed in run.seeds},
            split_lock={f"split seed {seed}": json.loads(self.lock(seed))["digest"] for seed in run.seeds},
            cells=self.cells,
            trained=self.trained,
            stages=self.stages,
        )

    def lock(self, seed: int) -> str:
        examples = [[f"e{number}", "hash"] for number in range(EXAMPLES)]
        return dumps({"digest": self.run.split or str(seed) * 64, "examples": examples})

    def policy(self, row: str, seed: int, split: Stage) -> Stage:
        """Build and train: nsft asks a writer, dpo has rejected answers and preference metrics."""
        run, who = self.run, {"method": row, "options": dict(self.run.options), "seed": seed}
        built: dict[str, Any] = {"examples": run.examples.get(row, EXAMPLES), "records": EXAMPLES}
        built |= {"writer_calls": EXAMPLES * (row == "nsft")}
        built |= {"forward_tokens": 50, "errors": {"existence": 7, "colour": 9}} if row == "nsft" else {}
        built |= {"rejected": {"examples": EXAMPLES, "use": "not read: so"}} if row == "dpo" else {}
        lost = [{"id": f"e{number}", "reason": why} for number, why in enumerate(run.dropped.get(row, ()))]
        files = {"profile.json": json.dumps(built), "dropped.jsonl": lines(lost)}
        build = self.stage("build", who, {"split": split}, files)
        summary = {"records": EXAMPLES, "steps": 8, "supervised_tokens": 100, "forward_tokens": 200, "wall_s": 2.0}
        summary |= {"trainable_parameters": 1000, "flops": 3e12, "peak_host_gib": 0.5, "peak_device_gib": 0.0}
        summary |= run.trained.get(row, {})
        summary |= dict(zip(("cut_records", "cut_tokens"), run.cut.get(row, (0, 0)), strict=True))
        log = [{"step": step, "loss": 1 / step, "grad_norm": 1.0} for step in range(1, 9)]
        for line in log if row == "dpo" else ():
            step = line["step"]
            line |= {"logps/chosen": -10.0, "logps/rejected": -10.0 - step, "rewards/margins": 0.1 * step}
        joint = {"training": {"joint": {"data": run.joint[row]}}} if row in run.joint else {}
        train = self.stage(
            "train", who | joint, {"build": build}, {"summary.json": json.dumps(summary), "log.jsonl": lines(log)}
        )
        self.trained.append(Trained(row=row, seed=seed, stages=[build.name, train.name]))
        return train

    def cell(self, row: str, name: str, seed: int, policy: Mapping[str, Stage]) -> ScoredCell:
        """Items, responses and units."""
        run, asked = self.run, list(self.run.answered(row, seed))
        items = self.items(name, [question for question, *_ in asked])
        text = run.said.get(row, f"{row} says")
        said = lines([Response(question, text, 3) for question, *_ in asked])
        what = {"row": row, "seed": seed, "said": run.said.get(row, "")}
        responses = self.stage("generate", what, {"items": items, **policy}, {"responses.jsonl": said})
        units = [{"id": id, "cluster": image, "parts": parts(name, right)} for id, image, right in asked]
        kept = units[: len(units) - run.unscored]
        lost = {unit["id"]: "no verdict" for unit in units[len(kept) :]}
        files = {"units.json": run.units or dumps({"units": kept, "unscored": lost, "items": len(units)})}
        files["scores.jsonl"] = lines([Score(unit["id"], unit["parts"]) for unit in kept])
        files["scores.jsonl"] += lines([Unscored(*one) for one in lost.items()])
        told = {"name": "oracle", "items": len(units), "runs": 3, "verdicts": len(units), "values": {}}
        files |= {"judge.json": dumps(told)} if name == JUDGED else {}
        if name == JUDGED and run.heard is not None:
            reply = {"run": 0, "text": run.heard, "model": "gpt-4-0613", "server": "api.openai.com", "usd": 0.0123}
            files["replies.jsonl"] = lines([{"id": f"{name}/{question}", **reply} for question, *_ in asked])
        scored = {"benchmark": name, "judge": run.judge if name == JUDGED else "", "source": run.scorer}
        scored |= {"skill": run.skill.get(row), "unscored": run.unscored, "heard": run.heard}
        reads = {"items": items, "responses": responses}
        done = (row, name) not in run.unfinished
        score = self.stage("score", scored, reads, files) if done else Stage("score", scored, reads)
        return ScoredCell(
            row=row, label=run.labels[row], seed=seed, benchmark=name, crosscheck="",
            score=score.name, responses=responses.name, items=items.name,
        )  # fmt: skip

    def items(self, name: str, asked: Sequence[str]) -> Stage:
        """What is asked, about pictures unless questions are many."""
        questions = {id: self.run.questions.get(id, f"question {id}") for id in asked}
        where = Stage("items", {"benchmark": name, "questions": questions})
        pictures = {} if self.run.skill else {f"{number}.png": png(number) for number in range(len(asked))}
        images = [Image(f"{where.name}/{file}", hashlib.sha256(data).hexdigest()) for file, data in pictures.items()]
        pairs = zip(questions.items(), images or [None] * len(asked), strict=True)
        rows = lines([Item(id, image, text, id, dict(self.run.facts)) for (id, text), image in pairs])
        return self.stage("items", where.identity, {}, {"items.jsonl": rows, **pictures})

    def stage(
        self, kind: str, what: Mapping[str, Any], reads: Mapping[str, Stage], files: Mapping[str, str | bytes]
    ) -> Stage:
        """A finished stage with these files."""
        stage = Stage(kind, dict(what), dict(reads))

        def body(out: Path) -> None:
            for name, data in files.items():
                (out / name).write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))

        self.store.run(stage, body)
        self.stages += [stage.name] if stage.name not in self.stages else []
        return stage


def lines(things: Sequence[object]) -> str:
    """JSON lines."""
    return "".join(dumps(thing) + "\n" for thing in things)


def png(shade: int) -> bytes:
    """A small picture."""
    file = io.BytesIO()
    Pillow.new("RGB", (16, 16), (shade, 90, 120)).save(file, "PNG")
    return file.getvalue()
