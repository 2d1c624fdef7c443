"""A training as it is ordered, and what it was when it is done."""

import hashlib
from pathlib import Path
from typing import Any

from pydantic import Field

from harness.contracts import plugins
from harness.contracts.backend import Adapted, Model
from harness.contracts.images import Places
from harness.contracts.method import Role
from harness.contracts.records import Dropped
from harness.contracts.settings import Fixed, Runtime, Training
from harness.models.load import revision
from harness.store.closure import Read
from harness.store.digest import file_digest
from harness.system.errors import HarnessError
from harness.system.jsonl import dumps, read_jsonl
from harness.training.split import DROPPED, reasons


class Job(Fixed):
    """One training. Paths: `records` (jsonl), `model` (folder or id@commit), `merged` (adapters, merged into it before
    anything is trained), `reference` (log-probs), `joint` (examples, jsonl, that are learnt together with the records)
    and `adapters` (a folder per role that goes on from one) are read;
    `out` gets `checkpoint/` (the policy, trained in full), `adapters/ROLE/` (on the base, for later rounds) or
    `adapter/` (the policy's, on the model that it began with), `log.jsonl`, `summary.json`; `work` keeps resumable
    state and is the caller's to delete; `shelf` keeps images' features (by default in `work`). `family` is a file of
    the user's own with the model's family, or empty. `places` are what the records' image paths start from, `editions`
    what outside files must be (`plugins.hold`), `ours` what our own must be that other processes import, `shortages`
    how often memory has run out before, `meet` the file by which further machines find it (`training.nodes`).
    """

    method: str
    options: dict[str, Any]
    round: int = 0
    records: str
    model: str
    merged: tuple[str, ...] = ()
    reference: str | None = None
    joint: str | None = None
    adapters: dict[Role, str] = Field(default_factory=dict)
    training: Training
    runtime: Runtime
    seed: int
    out: str
    work: str
    shelf: str | None = None
    family: str = ""
    places: Places | None = None
    editions: plugins.Editions = Field(default_factory=dict)
    ours: dict[Path, Read] = Field(default_factory=dict)
    shortages: int = 0
    meet: str = ""

    @property
    def policy(self) -> str | Model:
        """The model that is trained."""
        return Adapted(Path(self.model), tuple(map(Path, self.merged))) if self.merged else self.model

    def identity(self) -> str:
        """What a resumable state depends on: all that shapes the weights, and how DeepSpeed cut its state."""
        parts: list[Any] = [self.method, self.options, self.round, file_digest(Path(self.records))]
        read = [Path(file) for file in (self.reference, self.joint) if file]
        read += [file for _, folder in sorted(self.adapters.items()) for file in sorted(Path(folder).iterdir())]
        parts += [revision(self.policy), sorted(self.adapters), [file_digest(file) for file in read]]
        parts += [self.training.model_dump(), self.seed, self.runtime.zero_stage, self.runtime.num_processes]
        parts += [self.runtime.per_device_train_batch_size, self.runtime.reference]
        parts += [self.runtime.offload_optimizer, self.runtime.offload_param]
        return hashlib.sha256(dumps(parts).encode()).hexdigest()

    def nothing_to_learn(self) -> HarnessError:
        """The error for records of which none is there, with what became of the examples they were made from."""
        file = Path(self.records).with_name(DROPPED)
        dropped = list(read_jsonl(Dropped, file)) if file.is_file() else []
        return HarnessError(
            f"{self.method} has no record to train on: none of {len(dropped):,} examples gave one{reasons(dropped)}; "
            "ask for more (--examples), or take other data."
        )


class TrainResult(Fixed):
    """What a training was; `summary.json`. Tokens and FLOPs are over all epochs and ranks, memory is rank 0's.

    forward_tokens counts a position once per model that reads it: policy, separate critic, online reference. flops
    counts forward and backward by formula (`profile.Flops`), the online reference included. roles says how each role is
    had: "trained" weights or adapter, "cached" log-probs, "adapter_off", a second "copy". batch_size is that of
    micro-batches after memory ran out `shortages` times, estimated_gib what rank 0's device was to hold by formula. Of
    records and supervised_tokens joint_records and joint_tokens are of `Job.joint`; joint_dropped of it were left out.
    """

    records: int
    joint_records: int
    joint_dropped: int
    joint_tokens: int
    cut_records: int
    cut_tokens: int
    steps: int
    supervised_tokens: int
    forward_tokens: int
    flops: int
    trainable_parameters: int
    roles: dict[str, str]
    peak_host_gib: float
    peak_device_gib: float
    energy_j: float | None = None
    wall_s: float
    batch_size: int
    recomputed_layers: int
    shortages: int
    estimated_gib: float
    resumed_from_step: int
    rejected_checkpoints: tuple[str, ...]
