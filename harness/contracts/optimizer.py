"""Whether an optimiser can be had as a training asks for it."""

from importlib.util import find_spec

from harness.contracts.settings import Runtime, Training
from harness.system.errors import UsageError


def insist_on_optimizer(training: Training, runtime: Runtime) -> None:
    """UsageError where an 8-bit AdamW cannot be had, or would give other weights than on another machine.

    Its scales are those of 256 neighbours in the partition that DeepSpeed gives a process.
    """
    if training.optim != "adamw_8bit":
        return
    if not find_spec("bitsandbytes"):
        raise UsageError(
            "training.optim=adamw_8bit needs bitsandbytes: pip install 'vlm-alignment-harness[8bit]', or leave it out."
        )
    if runtime.num_processes > 1 or runtime.zero_stage not in (1, 2) or runtime.offload_optimizer != "none":
        raise UsageError(
            "training.optim=adamw_8bit rounds its state by blocks of what one process has, on its device: it needs "
            "runtime.num_processes=1, runtime.zero_stage=2 and runtime.offload_optimizer=none. Over several processes "
            "use optim=adamw_torch, whose state zero_stage shards."
        )
