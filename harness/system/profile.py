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
    from harness.models.batches import Sized

GIB = 1 << 30
Tick = Callable[[int, int], None]  # (done, total) of work under way


def quiet(done: int, total: int) -> None:
    """A tick that tells nobody."""


@dataclass(frozen=True, slots=True)
class Flops:
    """Forward FLOPs of a model (a multiply-add is two); norms, activations and softmax are left out.

    token: linear layers of the language model, per position. pair: attention, per kept (query, key) pair.
    scored: the head, per scored position. image: what is behind the tower, for a picture of that layout; tower: the
    vision tower, for one that no shelf of features has. last: what of `token` a position does without whose last state
    nobody reads (`harness.models.narrow`).
    """

    token: int
    pair: int
    scored: int
    image: "Callable[[Layout], int]"
    tower: "Callable[[Layout], int]"
    last: int = 0

    def forward(self, tree: "Sized") -> int:
        """One forward pass over a tree, counting only the pairs its mask keeps."""
        return self._linear(tree) + self.pair * tree.pairs + self._pictures(tree)

    def respond(self, prompt_tokens: int, tokens: int, layout: "Layout | None") -> int:
        """One response by itself: reading the prompt, then token by token; what prompts share counts for each."""
        places = prompt_tokens + tokens
        text = places * self.token + places * (places + 1) // 2 * self.pair + (tokens + 1) * self.scored
        return text + self._seen(layout)

    def train(self, tree: "Sized", adapters: int | None = None) -> int:
        """Forward and backward, without what gradient checkpointing computes again.

        In units of a forward: 3 for what learns and for attention, whose inputs both have a gradient; 2 for a frozen
        layer, which only passes one on. `adapters`: the weights of those that learn, None where all weights do.
        """
        image, attention = self._pictures(tree), self.pair * tree.pairs
        if adapters is None:
            return 3 * (self._linear(tree) + attention) + 2 * image  # nothing before the image learns
        learnt = 2 * adapters * self._layers(tree) // self.token  # adapters do what their layers do
        return 2 * self._linear(tree) + 3 * (attention + learnt) + image

    def _linear(self, tree: "Sized") -> int:
        return self._layers(tree) + tree.supervised * self.scored

    def _layers(self, tree: "Sized") -> int:
        return tree.tokens * self.token - (tree.tokens - tree.read) * self.last

    def _pictures(self, tree: "Sized") -> int:
        return sum(map(self._seen, tree.layouts))

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
