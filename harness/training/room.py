"""How a training is laid on its device: records at once, layers computed again; as many as fit, fewer after a shortage.

The records are known when it is laid out, so that it is sized for its longest ones, and the largest of its
micro-batches is tried before the first step, so that memory that is short runs out then. No number depends on it,
beyond what `Runtime` says of batches.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import distributed

from harness.contracts.method import Lesson
from harness.contracts.settings import Runtime, Training
from harness.models.batches import Sized, places
from harness.models.footprint import Decoder, Layout, Load, Shape, laid, training
from harness.models.roles import Roles
from harness.models.weights import shape_of as whole_shape
from harness.system.errors import HarnessError
from harness.training.recompute import layers_of

if TYPE_CHECKING:
    from harness.training.engine import Run

SHARE = 0.92  # of a device's memory is used: the rest is the driver's, and what lies between blocks
ON_CPU = 16  # records at once, where nothing says how many fit


def laid_out(
    roles: Roles, how: Training, runtime: Runtime, lesson: Lesson, trees: Iterable[Sized], shortages: int = 0
) -> Layout:
    """What fits, halved once for each time that memory has run out; at last record by record, all computed again.

    HarnessError, with the cures, where it ran out even so.
    """
    separate = "value" in lesson.columns and not lesson.shared_trunk
    lengths = [(tree.tokens, tree.supervised) for tree in trees]
    passes = 2 if separate else 1
    shape, adapters = shape_of(roles, how.lora is None), len(lesson.trains) if separate else 1
    known = room()
    chosen = laid(shape, how, on_cpu(runtime) if known is None else runtime, lengths, known or 0, adapters, passes)
    layers, rows, again = len(layers_of(roles)), chosen.rows, min(chosen.again, len(layers_of(roles)))
    for _ in range(shortages):
        if rows == 1 and again == layers:
            raise HarnessError(
                "out of memory, even with one record at a time and every layer computed again. Train on more devices "
                "(--set runtime.num_processes=N --set runtime.zero_stage=3), a smaller training.lora.r, or shorter "
                "records (training.max_length)."
            )
        rows, again = (rows // 2, again) if rows > 1 else (1, layers)
    several = sorted(lengths, reverse=True)[:rows]
    load = Load(len(several), several[0][0], sum(scored for _, scored in several), passes)
    return Layout(rows, again, training(shape, how, runtime, load, again, adapters, fused=known is not None))


def on_cpu(runtime: Runtime) -> Runtime:
    """What "auto" means where memory is the machine's."""
    size, switch = runtime.per_device_train_batch_size, runtime.gradient_checkpointing
    changed = {"per_device_train_batch_size": ON_CPU} if size == "auto" else {}
    return runtime.model_copy(update=changed | ({"gradient_checkpointing": "off"} if switch == "auto" else {}))


def shape_of(roles: Roles, full: bool) -> Shape:
    """The sizes of the model that roles stand on."""
    counts = [
        (whole_shape(weight).numel(), weight.requires_grad)
        for name, weight in roles.named_parameters()
        if not _own(name)
    ]
    frozen = sum(count for count, learns in counts if full and not learns)
    return Shape(Decoder.of(roles.policy.plain.config), sum(count for count, _ in counts), frozen)


def _own(name: str) -> bool:
    return "lora_" in name or name.startswith("heads.")


def scarce() -> bool:
    """Whether a training has an accelerator's memory alone."""
    return torch.cuda.is_available()


def longest(runtime: Runtime, trees: Iterable[Sized]) -> int:
    """Tokens of the longest record, whose places shorter ones share (`micro_batches`); 0, for as many records of any
    length, where their number is told, and on a CPU, which few of them keep busy.
    """
    told = runtime.per_device_train_batch_size != "auto"
    return 0 if told or not scarce() else max(tree.tokens for tree in trees)


def tried(run: "Run", number: int) -> None:
    """This rank's largest micro-batch of the steps from `number` on, forward and backward with a loss of zero.

    Memory that is short runs out here, and not in the last hour; gradients of zero change no bit of those that follow.
    """
    run.number, left = number, ([run.trees[name] for name in names] for names in run.plan[number - 1 :])
    largest = max((mine for trees in left for mine, _ in run.parts(trees)), key=places)
    run.engine.set_gradient_accumulation_boundary(False)
    values = run.method.loss(run.logps(largest)).values
    run.guard(number, largest, "loss", run.total({"loss": values.detach().sum().double()})["loss"])
    run.engine.backward(values.sum() * 0.0, scale_wrt_gas=False)


def room() -> int | None:
    """Bytes of a device that a training may use, the least of all ranks' devices; None on a CPU."""
    if not torch.cuda.is_available():
        return None
    least = torch.tensor(torch.cuda.mem_get_info()[1], device="cuda")
    if distributed.is_initialized():
        distributed.all_reduce(least, op=distributed.ReduceOp.MIN)
    return int(SHARE * int(least))
