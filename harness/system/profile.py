"""What training and generation cost: FLOPs by formula, memory and time by measurement."""

import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.system.energy import meter

if TYPE_CHECKING:
    from harness.contracts.family import Layout
    from harness.models.tree import Tree

GIB = 1 << 30
Tick = Callable[[int, int], None]  # (done, total) of work under way


def quiet(done: int, total: int) -> None:
    """A tick that tells nobody."""


@dataclass(frozen=True, slots=True)
class Flops:
    """Forward FLOPs of a model (a multiply-add is two); norms, activations and softmax are left out.

    token: linear layers of the language model, per position. pair: attention, per kept (query, key) pair.
    scored: the head, per scored position. image: what is behind the tower, for a picture of that layout; tower: the
    vision tower, for one that no shelf of features has.
    """

    token: int
    pair: int
    scored: int
    image: "Callable[[Layout], int]"
    tower: "Callable[[Layout], int]"

    def forward(self, tree: "Tree") -> int:
        """One forward pass over a tree, counting only the pairs its mask keeps."""
        prefix = len(tree.prefix)
        sizes = [len(branch.ids) for branch in tree.branches]
        pairs = prefix * (prefix + 1) // 2 + sum(size * prefix + size * (size + 1) // 2 for size in sizes)
        text = tree.tokens * self.token + pairs * self.pair + tree.supervised * self.scored
        return text + self._seen(tree.layout)

    def respond(self, prompt_tokens: int, tokens: int, layout: "Layout | None") -> int:
        """One response by itself: reading the prompt, then token by token; what prompts share counts for each."""
        places = prompt_tokens + tokens
        text = places * self.token + places * (places + 1) // 2 * self.pair + (tokens + 1) * self.scored
        return text + self._seen(layout)

    def train(self, tree: "Tree", full: bool) -> int:
        """Forward and backward. In units of a forward: 3 where all weights learn, 2 where only adapters do.

        Adapters' own weights (under 5 % at r = 128) are not counted.
        """
        image = self._seen(tree.layout)  # nothing before it learns
        return (3 if full else 2) * (self.forward(tree) - image) + (2 if full else 1) * image

    def _seen(self, layout: "Layout | None") -> int:
        return self.image(layout) if layout else 0


@dataclass
class Usage:
    """What a piece of work took; filled in when `measure` closes. Peaks are of this process alone.

    `energy_j` is None where the machine does not tell (`harness.system.energy`).
    """

    wall_s: float = 0.0
    peak_host_gib: float = 0.0
    peak_device_gib: float = 0.0
    energy_j: float | None = None

    def __call__(self) -> dict[str, float]:
        """The figures by name, for a profile.json; without those that were not measured."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@contextmanager
def measure() -> Iterator[Usage]:
    """Wall time, peak resident memory, peak accelerator memory and energy of the work inside."""
    import torch

    usage, start, joules = Usage(), time.perf_counter(), meter()
    _reset_host_peak()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        yield usage
    finally:
        usage.wall_s, usage.energy_j = time.perf_counter() - start, joules()
        usage.peak_host_gib = _host_peak_bytes() / GIB
        if torch.cuda.is_available():
            usage.peak_device_gib = torch.cuda.max_memory_allocated() / GIB


def _reset_host_peak() -> None:
    """Linux forgets VmHWM on request (proc(5), clear_refs 5); elsewhere the peak is the process's so far."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def _host_peak_bytes() -> int:
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024  # bytes there, KiB elsewhere
