"""The reference model's log-probs, computed once and kept per token, so that training needs one model in memory.

The file is safetensors: a float32 tensor over all supervised tokens per column (`policy`, the log-probs, and what else
the loss compares), `offsets` (records + 1) int64; the metadata holds the records' ids in order. Trees are packed
exactly as in training.
"""

import json
from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from harness.contracts.backend import Model
from harness.contracts.records import Record
from harness.contracts.settings import Dtype, Runtime
from harness.models.batches import Sized, micro_batches
from harness.models.load import Loaded, load
from harness.models.roles import Roles
from harness.models.tree import TooLong, Tree, pack, tree
from harness.system.errors import HarnessError
from harness.system.machine import halved
from harness.system.profile import Tick, measure, quiet


def device() -> str:
    """The accelerator of this process, or the CPU."""
    return f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"


def trees(
    records: Sequence[Record], loaded: Loaded, max_length: int | None = None, pass_over: bool = False
) -> list[Tree]:
    """The records as trees; a record that `build` should have dropped, or an id used twice, is an error.

    With `pass_over`, records that are too long for the model are left out instead.
    """
    different([record.id for record in records])
    made: list[Tree] = []
    for record in records:
        try:
            made.append(tree(record, loaded, max_length))
        except ValueError as error:
            if pass_over and isinstance(error, TooLong):
                continue
            raise HarnessError(f"record {record.id} cannot be trained on: {error}.") from None
    return made


def different(ids: Sequence[str]) -> None:
    """HarnessError where two of the records' ids are the same."""
    if len({*ids}) != len(ids):
        raise HarnessError("two records have the same id; a method must build one record per example.")


@torch.no_grad()
def figures(
    roles: Roles, loaded: Loaded, forest: Sequence[Tree], batch_size: int, columns: Sequence[str], tick: Tick
) -> dict[str, dict[str, Tensor]]:
    """Tree id -> column -> float32 figures of its supervised tokens ("reward": of its branches), without a gradient."""
    roles.eval()
    found: dict[str, dict[str, Tensor]] = {tree.id: {} for tree in forest}
    done = 0
    for (batch_trees,) in micro_batches(forest, batch_size, 1) if forest else []:
        for some, made in halved(batch_trees, lambda some: roles(pack(some, loaded).to(loaded.model.device), columns)):
            for name, values in made.items():
                sizes = [
                    sum(len(row.branches) for row in tree.rows) if name == "reward" else tree.supervised
                    for tree in some
                ]
                for one, part in zip(some, values.float().cpu().split(sizes), strict=True):
                    found[one.id][name] = part
            done += len(some)
            tick(done, len(forest))
    return found


def reference_logps(
    model: Model,
    records: Sequence[Record],
    runtime: Runtime,
    out: Path,
    tick: Tick = quiet,
    dtype: Dtype = "float32",
    columns: Sequence[str] = ("policy",),
    shelf: Path | None = None,
    max_length: int | None = None,
) -> dict[str, float]:
    """Write the per-token log-probs that a later training reads as its reference; returns tokens, FLOPs and memory."""
    torch.set_num_threads(1)
    loaded = load(model, dtype, device(), shelf)
    forest = trees(records, loaded, max_length)
    size = runtime.read_batch_size
    with measure() as used:
        found = figures(Roles(loaded.model, {}, shared_trunk=False), loaded, forest, size, columns, tick)
    ids = [tree.id for tree in forest]
    offsets = torch.tensor([0, *accumulate(tree.supervised for tree in forest)])
    values = {name: torch.cat([found[id][name] for id in ids]) if ids else torch.zeros(0) for name in columns}
    save_file({**values, "offsets": offsets}, out, metadata={"ids": json.dumps(ids)})
    tokens = sum(tree.tokens for tree in forest)
    flops = sum(map(loaded.flops.forward, forest)) + loaded.features.flops
    return used() | {"forward_tokens": tokens, "flops": flops}


class Reference:
    """Reads what `reference_logps` wrote."""

    def __init__(self, path: str | Path) -> None:
        """Holds every value in memory: 4 bytes per supervised token and column."""
        with safe_open(path, "pt") as file:
            self._values: dict[str, Tensor] = {name: file.get_tensor(name) for name in set(file.keys()) - {"offsets"}}
            offsets = file.get_tensor("offsets").tolist()
            ids = json.loads(file.metadata()["ids"])
        self._spans = dict(zip(ids, pairwise(offsets), strict=True))

    def __call__(self, batch_trees: Sequence[Sized]) -> dict[str, Tensor]:
        """Column -> (N,) float32 in the order of the packed trees."""
        spans = [self._span(tree) for tree in batch_trees]
        return {name: torch.cat([values[at:stop] for at, stop in spans]) for name, values in self._values.items()}

    def _span(self, tree: Sized) -> tuple[int, int]:
        start, stop = self._spans.get(tree.id, (0, 0))
        if stop - start != tree.supervised:
            raise HarnessError(f"the reference log-probs are not of these records: {tree.id} differs.")
        return start, stop
