"""What the tests of training share: records, and what a job left behind."""

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import harness.training.checkpoint
import harness.training.engine
from harness.contracts.backend import Adapted, Model
from harness.contracts.records import Conversation, Image, Pair, Record, Rollout, Turn
from harness.models.adapters import WEIGHTS
from harness.models.load import parts
from harness.training.engine import train
from harness.training.job import Job


class Killed(BaseException):
    """Stands for SIGKILL inside this process."""


def kill_at(monkeypatch: pytest.MonkeyPatch, wanted: str, when: int) -> None:
    """Die at the `when`-th pass of a failpoint of the training."""
    calls = {"n": 0}

    def failpoint(name: str) -> None:
        if name == wanted:
            calls["n"] += 1
            if calls["n"] == when:
                raise Killed

    for module in (harness.training.engine, harness.training.checkpoint):
        monkeypatch.setattr(module, "failpoint", failpoint)


def killed(job: Job, monkeypatch: pytest.MonkeyPatch, wanted: str, when: int) -> None:
    """Train, and die at the `when`-th pass of a failpoint."""
    with monkeypatch.context() as patch:
        kill_at(patch, wanted, when)
        with pytest.raises(Killed):
            train(job)


def conversations(pictures: list[Image]) -> list[Record]:
    turns = [(Turn("what is there", "a red cat " * (n % 4 + 1)),) for n in range(10)]
    return [Conversation(f"c{n}", pictures[n % 6] if n % 3 else None, (turns[n],)) for n in range(10)]


def pairs(pictures: list[Image]) -> list[Record]:
    return [Pair(f"p{n}", pictures[n % 6], "what is there", "a dog" + " red" * (n % 3), "no cat") for n in range(10)]


ROLLOUT = ("old_policy", "old_value", "advantage", "return", "reference", "score")  # what methods' carry


def rollouts(pictures: list[Image], most: int = 1) -> list[Record]:
    """Sampled tokens with figures as they are early in a training; one to three responses each."""
    rng, made = random.Random(0), []
    for n in range(10):
        first, *more = [
            (*(rng.randrange(5, 280) for _ in range((n + at) % 4 + 1)), 2) for at in range(1 + n % min(3, most))
        ]
        tokens = [token for response in (first, *more) for token in response]
        columns = {name: tuple(rng.gauss(-5.6 if name in ("old_policy", "reference") else 0, 1) for _ in tokens)
                   for name in ROLLOUT}  # fmt: skip
        made.append(Rollout(f"r{n}", pictures[n % 6], "what is there", first, columns, more=tuple(more)))
    return made


def lines(job: Job) -> list[dict[str, float]]:
    return [json.loads(line) for line in (Path(job.out) / "log.jsonl").read_text().splitlines()]


def losses(job: Job) -> list[float]:
    return [line["loss"] for line in lines(job)]


def policy(job: Job) -> Model:
    """What a training has left: a model as a whole, or adapters on what it began with."""
    out = Path(job.out)
    if (out / "checkpoint").is_dir():
        return out / "checkpoint"
    own, begun = out / "adapter", parts(job.policy)
    return Adapted(begun.base, (*begun.adapters, own if own.is_dir() else out / "adapters" / "policy"))


def weights(job: Job) -> dict[str, torch.Tensor]:
    """Those of a policy that was trained in full; of another its adapters'."""
    made = policy(job)
    file = made.adapters[-1] / WEIGHTS if isinstance(made, Adapted) else made / "model.safetensors"
    return load_file(file)


def same(one: Job, other: Job) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
