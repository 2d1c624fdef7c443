"""`make figure2`: the paper's Figure 2 with equal engineering: what one, two and four models cost at 7B shapes.

Nothing is trained. A step's FLOPs and the bytes kept for its backward pass are counted over our roles, packed trees and
the method's loss on weights that are only thought of (`shapes`), at two and at four layers: every further one costs
what a layer costs. What is only read is by formula (`harness.system.profile`). Tables and bars go into docs/figure2.md.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib import rc_context
from matplotlib.figure import Figure

from harness import families
from harness.contracts import plugins
from harness.contracts.method import Method
from harness.contracts.settings import Lora
from harness.models.footprint import Decoder
from tests import true_shapes
from tests.made_page import filled
from tests.perf import shapes
from tests.perf.bench import PASSES, marks
from tests.perf.work import Case

PAGE = Path(__file__).parents[2] / "docs" / "figure2.md"
BEGIN, END = "<!-- counted by make figure2 -->", "<!-- end -->"
LAYERS, RECORDS, ANSWER = 32, 8, 100  # of the model; at a time; tokens of an answer
HELD = 2  # bytes of a weight in bfloat16
LEARNT = 2 + 12  # bytes beside it of one that learns: its gradient; its copy in float32 and AdamW's two
HEAD = (
    "| | models | weights, GB | gradients, optimiser | kept for backward | together | ÷ SFT | training, TFLOP | beside "
    "| ÷ SFT |\n|-|-|-|-|-|-|-|-|-|-|"
)


class Row(NamedTuple):
    """An arrangement of a method's models: bytes of weights, of gradients and optimiser, and kept for the backward pass
    of `RECORDS` records; FLOPs of a record's training, and of what is read of it beside.
    """

    what: str
    models: int
    weights: int
    states: int
    kept: int
    training: int
    beside: int = 0

    @property
    def memory(self) -> int:
        """All that lies on a device."""
        return self.weights + self.states + self.kept

    @property
    def flops(self) -> int:
        """All that a record takes in one epoch."""
        return self.training + self.beside

    def cells(self, first: "Row") -> str:
        """As a line of the table has it, beside SFT's."""
        parts = (self.weights, self.states, self.kept, self.memory)
        figures = [f"{part / 1e9:.1f}" for part in parts] + [f"{self.memory / first.memory:.2f}"]
        figures += [f"{self.training / 1e12:.1f}", f"{self.beside / 1e12:.1f}", f"{self.flops / first.flops:.2f}"]
        return f"| {self.what} | {self.models} | {' | '.join(figures)} |"


class Cost(NamedTuple):
    """Of a record: FLOPs of a step and of a pass that only reads it, bytes kept for the step's backward pass."""

    step: int
    kept: int
    read: int


def cost(method: str, lora: Lora | None) -> Cost:
    """Of a record of a method: SFT's, nSFT's or DPO's."""
    made = plugins.make("methods", "dpo" if method == "dpo" else "sft", Method, {})
    found = []
    for layers in (2, 4):
        config = true_shapes.llava_7b(layers)
        trees = shapes.forest(config, method, marks(Case(method, ANSWER, bool(lora))))
        step = shapes.ours(config, lora, made, trees).step
        found.append(Cost(*step, families.of(config).flops(config).forward(trees[0])))
    two, four = found
    return Cost(*(less + (more - less) * (LAYERS - 2) // 2 for less, more in zip(two, four, strict=True)))


def rows(lora: Lora | None) -> Iterator[Row]:
    """With adapters of `lora`, or with all weights but the tower's learning."""
    made = true_shapes.model(true_shapes.llava_7b(LAYERS), None)
    held = sum(weight.numel() for weight in made.parameters())
    learns = sum(weight.numel() for weight in made.parameters() if weight.requires_grad)
    learns = Decoder.of(made.config).adapters(lora) if lora else learns
    sft, nsft, pair = (cost(method, lora) for method in ("sft", "nsft", "dpo"))

    def row(what: str, models: int, copies: int, adapters: int, of: Cost, beside: int = 0, learn: int = 1) -> Row:
        """`copies` of all weights, `adapters` beside them, `learn` of the roles learning."""
        weights = HELD * (copies * held + (adapters * learns if lora else 0))
        return Row(what, models, weights, LEARNT * learns * learn, RECORDS * of.kept * learn, of.step * learn, beside)

    yield row("SFT", 1, 1, 1, sft)
    yield row("nSFT", 1, 1, 1, nsft)
    apart = Cost(2 * sft.step, 2 * sft.kept, 2 * sft.read)
    yield row("DPO, two models, each answer a sequence", 2, 2, 1, apart, apart.read)
    yield row("DPO, two models, a pair a tree", 2, 2, 1, pair, pair.read)
    if lora:
        yield row("DPO, the reference without adapters", 1, 1, 1, pair, pair.read)
    yield row("DPO, the reference's log-probs made once", 1, 1, 1, pair, pair.read)
    yield row("DPO, the reference's log-probs kept", 1, 1, 1, pair)
    rollout = sft._replace(step=PASSES * sft.step)
    yield row("PPO, four models", 4, 4, 2, rollout, 4 * sft.read, learn=2)
    if lora:
        yield row("PPO, four roles on one model", 1, 1, 3, rollout, 4 * sft.read, learn=2)
        yield row("PPO, the critic a head on the policy", 1, 1, 2, rollout, 3 * sft.read)


def drawn(found: list[Row]) -> Figure:
    """Memory and FLOPs side by side."""
    figure = Figure(figsize=(10, 0.42 * len(found) + 1.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, parts, scale, label in (
        (left, ("weights", "states", "kept"), 1e9, f"GB, {RECORDS} records at a time"),
        (right, ("training", "beside"), 1e12, "TFLOP a record"),
    ):
        start = [0.0] * len(found)
        for part in parts:
            widths = [getattr(row, part) / scale for row in found]
            axes.barh([row.what for row in found], widths, left=start, label=part)
            start = [at + width for at, width in zip(start, widths, strict=True)]
        axes.set_xlabel(label)
        axes.legend(frameon=False)
    left.invert_yaxis()
    return figure


def written(adapters: list[Row], full: list[Row], page: Path = PAGE) -> None:
    """The tables into the page, in place of those before, and the bars beside it."""
    parts = [(f"**Adapters of rank {Lora().r}**", adapters), ("**All weights but the tower's**", full)]
    tables = "\n\n".join("\n".join([f"{name}\n", HEAD, *(row.cells(one[0]) for row in one)]) for name, one in parts)
    page.write_text(filled(page, BEGIN, END, tables), encoding="utf-8")
    with rc_context({"svg.hashsalt": "figure2"}):
        drawn(adapters).savefig(page.with_suffix(".svg"), metadata={"Date": None})


def main() -> None:
    """Count and write."""
    torch.set_num_threads(1)
    written(list(rows(Lora())), list(rows(None)))


if __name__ == "__main__":
    main()
