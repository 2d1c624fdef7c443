"""What the tests of training share: records, and what a job left behind."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from harness.engine import Job
from harness.types import Conversation, Image, Pair, Record, Turn


def conversations(pictures: list[Image]) -> list[Record]:
    turns = [(Turn("what is there", "a red cat " * (n % 4 + 1)),) for n in range(10)]
    return [Conversation(f"c{n}", pictures[n % 6] if n % 3 else None, (turns[n],)) for n in range(10)]


def pairs(pictures: list[Image]) -> list[Record]:
    return [Pair(f"p{n}", pictures[n % 6], "what is there", "a dog" + " red" * (n % 3), "no cat") for n in range(10)]


def lines(job: Job) -> list[dict[str, float]]:
    return [json.loads(line) for line in (Path(job.out) / "log.jsonl").read_text().splitlines()]


def losses(job: Job) -> list[float]:
    return [line["loss"] for line in lines(job)]


def weights(job: Job) -> dict[str, torch.Tensor]:
    return load_file(Path(job.out) / "checkpoint" / "model.safetensors")


def same(one: Job, other: Job) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
