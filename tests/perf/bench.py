"""`make bench`: our trainer against TRL's on the same work, and what ours spares alone (`alone`), each figure beside
its condition and its goal.

It refuses to print a figure where the sides did not do the same work (`fair`). The table goes to the screen and into
docs/performance.md. Nothing here is a test: CPU time differs from run to run, counts do not.
"""

import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from transformers.utils.logging import set_verbosity_error

from harness import families
from harness.contracts import plugins
from harness.contracts.method import Method
from harness.contracts.settings import Lora
from tests import true_shapes
from tests.made_page import filled
from tests.perf import alone, costs, shapes, work
from tests.perf.fair import both
from tests.perf.row import OURS, Row
from tests.perf.work import CASES, Case
from tests.trl_side import trl_trainer

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
HEAD = ("what", "condition", "figure", "now", "goal", "")
BEGIN, END = "<!-- measured by make bench -->", "<!-- end -->"
PASSES = 2  # over PPO's rollouts, as in LLaVA-RLHF's script
TINY = "whole training of the tiny model, counted"
TRUE = "7B shapes, one record, counted"
GOALS = {  # at true shapes with adapters, as is usual for 7B
    ("cold", "dpo", 10): 2.05, ("cold", "dpo", 100): 1.8, ("kept", "dpo", 10): 3.0, ("kept", "dpo", 100): 2.7,
    ("kept", "sft", 10): 1.05, ("kept", "sft", 100): 1.05, ("kept", "nsft", 10): 1.05,
    ("bytes", "dpo", 10): 0.50, ("bytes", "dpo", 100): 0.55, ("bytes", "sft", 10): 1.0, ("bytes", "sft", 100): 1.0,
    ("bytes", "nsft", 10): 1.0, ("time", "sft", 10): 1.02, ("time", "sft", 100): 1.02, ("time", "nsft", 10): 1.02,
    ("ppo", "sft", 100): 1.5,
}  # fmt: skip


def tiny(model: Path, root: Path) -> Iterator[Row]:
    """The gates, and FLOPs of whole trainings that run; the first one's with TRL's head as on a CPU too."""
    for number, case in enumerate(track(CASES, "gates: ten steps of either side")):
        for head in ("cuda", "cpu") if number == 0 else ("cuda",):
            found = both(work.job(case, model, root / f"{number}-{head}"), case, head)
            for name, flops in (("nothing kept", found.ours), (kept(case), found.kept)):
                yield Row(f"{case}: FLOPs, {name}", f"{TINY}; TRL's head as on {head.upper()}", found.theirs / flops)


def true(model: Path, root: Path, layers: int = 32) -> Iterator[Row]:
    """FLOPs and bytes kept for backward at LLaVA-1.5-7B's shapes."""
    config = true_shapes.llava_7b(layers)
    for case in track(CASES, "counting at 7B shapes"):
        job = work.job(case, model, root / f"true-{case.method}-{case.answer}-{case.lora}")
        trainer = trl_trainer(job, work.processor(job))
        yield from at_shapes(config, case, trainer, goals=case.lora)


def at_shapes(config: Any, case: Case, trainer: Any, goals: bool = True) -> Iterator[Row]:
    """The rows of a case at the shapes of `config`, by our method of the trainer's name and TRL's `trainer`."""
    method = plugins.make("methods", "dpo" if case.method == "dpo" else "sft", Method, {})
    lora, trees = Lora() if case.lora else None, shapes.forest(config, case.method, marks(case))

    def goal(what: str) -> float | None:
        return GOALS.get((what, case.method, case.answer)) if goals else None

    own = shapes.ours(config, lora, method, trees)
    for head in ("cuda", "cpu") if case.method == "dpo" else ("cuda",):
        other, condition = shapes.theirs(config, lora, trainer, trees, head), f"{TRUE}; TRL's head as on {head.upper()}"
        mine = head == "cuda"
        yield Row(f"{case}: FLOPs, nothing kept", condition, other.flops / own.cold, goal("cold") if mine else None)
        yield Row(f"{case}: FLOPs, {kept(case)}", condition, other.flops / own.step.flops,
                  goal("kept") if mine else None)  # fmt: skip
        if mine:
            ratio = own.step.saved / other.saved
            yield Row(f"{case}: bytes kept for backward", condition, ratio, goal("bytes"), OURS, less=True)
    if wanted := goal("ppo"):
        yield from rollouts(config, case, trainer, trees, own, wanted)
    if case.method == "dpo":
        other = shapes.theirs(config, lora, trainer, trees, cached=True)
        yield Row(f"{case}: FLOPs, both sides with the reference kept", f"{TRUE}; TRL with precompute_ref_log_probs",
                  other.flops / own.step.flops)  # fmt: skip


def rollouts(config: Any, case: Case, trainer: Any, trees: list[Any], own: Any, goal: float | None) -> Iterator[Row]:
    """PPO's passes over a rollout: of a peer whose four roles are adapters on one model, each pass as TRL's is.

    Four passes that only read (policy, reference, reward, critic), and `PASSES` steps of policy and critic. With the
    critic a head on the policy, ours learns both in one pass: other work, and another method.
    """
    flops = families.of(config).flops(config)
    read = sum(flops.forward(tree) + flops.pair * (tree.tokens**2 - tree.pairs) for tree in trees)
    other = 4 * shapes.theirs(config, Lora(), trainer, trees, read=True).flops
    other += 2 * PASSES * shapes.theirs(config, Lora(), trainer, trees).flops
    what = f"ppo, R={case.answer}, LoRA: FLOPs of a rollout beside its generation, features kept"
    for critic, steps in (("an adapter of its own", 2 * PASSES), ("a head on the policy", PASSES)):
        ratio = other / (4 * read + steps * own.step.flops)
        condition = f"{TRUE}; the critic {critic}, the peer's an adapter"
        yield Row(what, condition, ratio, goal if steps > PASSES else None, "a peer ÷ ours")


def kept(case: Case) -> str:
    """What is not computed again where it lies in the store."""
    return "features and reference kept" if case.method == "dpo" else "features kept"


def marks(case: Case) -> tuple[bool, ...]:
    """Which tokens of an answer are learnt; nSFT's later turns have 12 of words and 6 that are learnt."""
    if case.method != "nsft":
        return (True,) * case.answer
    return (True,) * case.answer + ((False,) * 12 + (True,) * 6) * (work.TURNS - 1)


def machine(root: Path) -> Iterator[Row]:
    """Thread-CPU time and peak memory."""
    wide = work.folder(root / "wide", width=256)
    for case in track([case for case in CASES if case.lora], "thread-CPU time, step by step in turns"):
        job = work.job(case, wide, root / f"time-{case.method}-{case.answer}")
        work.seen(job)
        work.referred(job)
        yield Row(f"{case}: thread-CPU time of a step", f"tiny model of width 256, float32; medians of 7 "
                  f"steps in turns; {kept(case)}; noisy", costs.in_turns(job, case),
                  GOALS.get(("time", case.method, case.answer)))  # fmt: skip
    for case in track([Case("dpo", 100, True), Case("sft", 100, True)], "peak memory, a process for each side"):
        yield Row(f"{case}: peak memory of a process", "on top of what it had before the training; four records "
                  "at a time, tiny model of width 256, float32; TRL's head as on CPU",
                  costs.peaks(wide, case, root / f"peak-{case.method}"), of=OURS, less=True)  # fmt: skip


def table(rows: list[Row]) -> Table:
    """For a screen."""
    made = Table(*HEAD)
    for row in rows:
        made.add_row(*row.cells)
    return made


def written(rows: list[Row], page: Path = PAGE) -> None:
    """The table into the page, in place of the one before."""
    used = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft", "trl"))
    lines = [f"With {used}.", "", f"| {' | '.join(HEAD)} |", "|-|-|-|-|-|-|"]
    lines += ["| " + " | ".join(row.cells) + " |" for row in rows]
    page.write_text(filled(page, BEGIN, END, "\n".join(lines)), encoding="utf-8")


def main() -> None:
    """Measure everything, print it, write it."""
    set_verbosity_error()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as home:
        root = Path(home)
        model = work.folder(root / "model")
        measured = [*tiny(model, root), *true(model, root), *machine(root), *alone.rows(root / "alone")]
    rows = sorted(measured, key=lambda row: row.goal is None)  # what was asked for comes first
    Console(width=160).print(table(rows))
    written(rows)


if __name__ == "__main__":
    main()
