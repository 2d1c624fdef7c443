"""DeepSpeed set up so that nothing is compiled, one process needs no port, and no default that matters is silent."""

import logging
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from math import ceil
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import torch
import torch.distributed as dist
from torch import nn

from harness.contracts.optimizer import insist_on_optimizer
from harness.contracts.settings import Runtime, Training
from harness.models.footprint import BUCKET, LIVE
from harness.models.weights import shape_of


class Seat(NamedTuple):
    """This process's place in a training, and on its machine (`local`). `rendezvous` is where all find each other: a
    file of the one machine, or "tcp://HOST:PORT/NAME" of a TCPStore of several.
    """

    rank: int = 0
    world: int = 1
    rendezvous: str = ""
    local: int = 0


ALONE = Seat()


@contextmanager
def local_rank(seat: Seat = ALONE) -> Iterator[None]:
    """LOCAL_RANK while DeepSpeed is at work, which insists on it; others would think themselves one process of many."""
    before = os.environ.get("LOCAL_RANK")
    os.environ["LOCAL_RANK"] = str(seat.local)
    try:
        yield
    finally:
        del os.environ["LOCAL_RANK"]
        if before is not None:
            os.environ["LOCAL_RANK"] = before


def distributed(seat: Seat = ALONE) -> tuple[int, int]:
    """(rank, world size), with the process group up.

    A cluster's own RANK and WORLD_SIZE are not read: they are about the command, not about its training.
    """
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(seat.local)
    if not dist.is_initialized():
        dist.init_process_group(
            "nccl" if cuda else "gloo",
            store=_meeting(seat),
            rank=seat.rank,
            world_size=seat.world,
            timeout=timedelta(minutes=30),
        )
    return dist.get_rank(), dist.get_world_size()


def _meeting(seat: Seat) -> Any:
    """Where the processes find each other."""
    if seat.world == 1:
        return dist.HashStore()  # type: ignore[attr-defined]
    if not seat.rendezvous.startswith("tcp://"):
        return dist.FileStore(seat.rendezvous, seat.world)  # type: ignore[attr-defined]
    there = urlsplit(seat.rendezvous)
    assert there.hostname and there.port
    store = dist.TCPStore(there.hostname, there.port, is_master=False)  # type: ignore[attr-defined]
    return dist.PrefixStore(there.path, store)  # type: ignore[attr-defined]


def engine(module: nn.Module, training: Training, runtime: Runtime, steps: int, world: int, size: int) -> Any:
    """The module in a DeepSpeed engine with AdamW, the schedule after warm-up, and explicit clipping.

    `size`: records in a micro-batch.
    """
    from transformers import get_scheduler

    insist_on_optimizer(training, runtime)
    deepspeed = _tamed()
    for weight in module.parameters():  # of adapters; DeepSpeed takes it that all are so where some are sharded
        weight.data = weight.data.to(getattr(torch, training.dtype))
    learned = [p for p in module.parameters() if p.requires_grad]
    matrices, vectors = ([p for p in learned if (len(shape_of(p)) > 1) is many] for many in (True, False))
    groups = [{"params": matrices, "weight_decay": training.weight_decay}]
    if vectors:  # norms and biases do not decay, as in the HF Trainer
        groups.append({"params": vectors, "weight_decay": 0.0})
    optimizer = adamw(groups, training)
    schedule = get_scheduler(training.lr_scheduler_type, optimizer, ceil(training.warmup_ratio * steps), steps)
    made, *_ = deepspeed.initialize(
        model=module,
        optimizer=optimizer,
        lr_scheduler=schedule,
        config=config(training, runtime, world, sum(shape_of(p).numel() for p in learned), size),
    )
    return made


def _tamed() -> Any:
    """DeepSpeed, which says little and compiles nothing."""
    if not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"
    import deepspeed
    from deepspeed.runtime import compiler

    compiler.compile = lambda: lambda kernel: kernel  # Muon's, which nobody runs; a second of imports
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")  # DeepSpeed's, at every step
    # its shared-memory collectives are compiled on first use, minutes of g++ in the middle of a run
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def shards(training: Training, runtime: Runtime, world: int) -> dict[str, Any] | None:
    """How a model is sharded while it is read (`harness.models.load`); None below ZeRO-3."""
    if runtime.zero_stage < 3:
        return None
    _tamed()
    return config(training, runtime, world, 1, 1)


def adamw(groups: list[dict[str, Any]], training: Training) -> torch.optim.Optimizer:
    """The training's AdamW, which has weight decay by group."""
    arguments: Any = {"lr": training.learning_rate, "betas": (training.adam_beta1, training.adam_beta2)}
    if training.optim == "adamw_8bit":
        made: torch.optim.Optimizer = import_module("harness.training.eight_bit").adamw(groups, **arguments)
        return made
    fused = torch.cuda.is_available() or None  # needs no room of its own
    return torch.optim.AdamW(groups, fused=fused, **arguments)


def step(engine: Any) -> float:
    """Take the optimiser step; returns the norm of all gradients before clipping, NaN where DeepSpeed skipped it."""
    norm: Any = None
    if not hasattr(engine.optimizer, "_global_grad_norm"):  # plain AdamW at stage 0, where DeepSpeed keeps none
        norm = nn.utils.get_total_norm([p.grad for p in engine.module.parameters() if p.grad is not None])
    engine.step()
    return math.nan if engine.skipped_steps else float(engine.get_global_grad_norm() if norm is None else norm)


def config(training: Training, runtime: Runtime, world: int, trainable: int, size: int) -> dict[str, Any]:
    """DeepSpeed's configuration. `gradient_clipping` would silently default to 1.0, offloading to an AdamW in C++."""
    zero: dict[str, Any] = {"stage": runtime.zero_stage, "reduce_bucket_size": min(BUCKET, trainable)}
    zero |= {"stage3_max_live_parameters": LIVE} if runtime.zero_stage == 3 else {}
    for name in ("offload_optimizer", "offload_param"):
        if getattr(runtime, name) != "none":
            zero[name] = {"device": getattr(runtime, name), "pin_memory": torch.cuda.is_available()}
    return {
        "train_micro_batch_size_per_gpu": size,
        "gradient_accumulation_steps": ceil(training.train_batch_size / (size * world)),
        "gradient_clipping": training.max_grad_norm,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # it would be compiled at first use, and rounds otherwise
        "zero_optimization": zero,
        "bf16": {"enabled": training.dtype == "bfloat16"},
        "steps_per_print": 1 << 40,
    }
