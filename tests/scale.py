"""What full tables take on 1, 8, 64 and 512 GPUs, by formula: `python -m tests.scale` writes docs/scale.md's figures.

The steps are those of real plans, in their order and with what they take: of the testbed `mini`, whose files are here,
with the settings of `llava-1.5-7b` and the sizes of its model. Nothing runs, and no figure was measured on a GPU.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import harness
from harness.commands.simulating import LONG, Outcome, outcomes
from harness.comparison import sizing
from harness.comparison.costs import Cost, costs_of
from harness.comparison.devices import device_of
from harness.comparison.plan import plan
from harness.comparison.simulation import Simulated
from harness.contracts.family import Layout
from harness.contracts.settings import MethodSpec, Runtime, Testbed
from harness.contracts.steps import ALL_BENCHMARKS, Request, Step
from harness.contracts.testbed_file import read_testbed
from harness.families.llava import Llava
from harness.models.footprint import Decoder, Shape
from harness.sources._chosen import source
from harness.store.store import Stage, Store
from harness.system.console import duration
from harness.system.yamls import yaml_file
from tests.made_page import filled
from tests.true_shapes import llava_7b

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
BEGIN, END = "<!-- simulated -->", "<!-- end -->"
SEVEN = ("sft", "nsft", "dpo", "seva", "sima", "csr", "ppo")
SOURCES = ("llava150k", "textcaps", "ocrvqa")
GPUS = (1, 8, 64, 512)
DEVICE = "h100"
ROUNDS = re.compile(r"(build|reference log-probs|train) csr(-1e-06)? seed 0 round \d")
PARAMETERS, TOWER = 7_063_427_072, 303_507_456  # of LLaVA-1.5-7B


def bed() -> Testbed:
    """The paper's settings, on files that are here; 218 questions (MM-Vet's) in each set that a judge scores."""
    paper = yaml_file(Path(harness.__file__).parent / "testbeds" / "llava-1.5-7b.yaml", "testbed")
    taken = {name: paper[name] for name in ("training", "methods", "examples", "response_tokens", "judge", "writer")}
    mini = read_testbed("mini").model_dump()
    return Testbed.model_validate(mini | taken | {"models": mini["models"][:1], "scenes": 218, "crosscheck": False})


def sized() -> sizing._Model:
    """LLaVA-1.5-7B, as `harness plan` finds it in a folder with its weights."""
    config = llava_7b()
    return sizing._Model(
        Shape(Decoder.of(config), PARAMETERS, TOWER), Llava().flops(config), Layout(576), 576 * 1024 * 2
    )


@dataclass(frozen=True)
class Asked:
    """Steps with their costs."""

    steps: Sequence[Step]
    cost: Mapping[str, Cost]

    def on(self, *gpus: int) -> tuple[list[Outcome], Simulated]:
        """Simulated."""
        return outcomes(self.steps, self.cost, gpus, 1)


def asked(runtime: Runtime, *requests: Request) -> Asked:
    """Comparisons on one store, whose equal steps are made once."""
    steps, cost = dict[str, Step](), dict[str, Cost]()
    with TemporaryDirectory() as empty, mock.patch.object(sizing, "_model", lambda *given: sized()):
        for request in requests:
            planned = plan(request, bed(), runtime)
            new = [step for step in planned.steps if step.key not in steps]
            steps |= {step.key: step for step in new}
            device = device_of(DEVICE)
            cost |= costs_of(planned, new, Store(Path(empty) / "store"), runtime, device, measured=False)
    return Asked([*steps.values()], cost)


def table_1(runtime: Runtime) -> Asked:
    """Seven methods, three sources, three seeds, nine benchmarks."""
    rows = tuple(MethodSpec(name=name) for name in SEVEN)
    return asked(runtime, *(Request(rows, source(name), seeds=3, benchmarks=ALL_BENCHMARKS) for name in SOURCES))


def hundred(runtime: Runtime) -> Asked:
    """A hundred rows and twenty benchmarks: the seven at learning rates of their own, and ten benchmarks twice."""
    rows = tuple(
        MethodSpec(name=name, row=f"{name}-{rate:g}", training={"learning_rate": rate})
        for rate in (1e-6 * number for number in range(1, 16))
        for name in SEVEN
    )[:100]
    return doubled(asked(runtime, Request(rows, source(SOURCES[0]), benchmarks=(*ALL_BENCHMARKS, "seed"))))


def doubled(one: Asked) -> Asked:
    """With each cell a second time."""
    steps, cost, copies = [*one.steps], dict(one.cost), dict[str, Stage]()
    for step in one.steps:
        if step.stage.kind in ("generate", "score"):
            reads = {name: copies.get(read.key, read) for name, read in step.stage.inputs.items()}
            copy = Stage(step.stage.kind, {**step.stage.identity, "copy": 2}, reads)
            copies[step.key] = copy
            cost[copy.key] = one.cost[step.key]
            steps.append(replace(step, stage=copy))
    return Asked(steps, cost)


def lines(told: Asked, gpus: Sequence[int] = GPUS) -> Iterator[str]:
    """A table, and what its longest chain is."""
    found, free = told.on(*gpus)
    yield "| GPUs | time | GPU hours | GPUs busy | waits for | replies a minute | MB/s written |"
    yield "|-:|-:|-:|-:|-|-:|-:|"
    work = free.used("gpus") / 3600
    for one in found:
        figures = (duration(one.seconds), f"{work:,.0f}", f"{one.busy:.0%}")
        rates = (f"{one.replies_a_minute:,.0f}", f"{one.bytes_a_second / 1e6:,.1f}")
        plain = (f"{figure} (formula)" for figure in (*figures, *rates))
        time, hours, busy, replies, written = plain
        yield f"| {one.gpus} | {time} | {hours} | {busy} | {one.waits_for} | {replies} | {written} |"
    heavy = [step for step in free.chain if told.cost[step.key].seconds >= LONG * free.seconds]
    named = ", ".join(f"{step.title} ({duration(told.cost[step.key].seconds)}, formula)" for step in heavy)
    replies, written = (sum(getattr(one, name) for one in told.cost.values()) for name in ("replies", "written"))
    rounds = {step.title: told.cost[step.key].seconds for step in told.steps if ROUNDS.fullmatch(step.title)}
    csr = math.fsum(rounds.values())
    yield f"\nLongest chain: {duration(free.seconds)} (formula). What is long in it: {named}. CSR's three rounds, one"
    yield f"behind the other and by themselves: {duration(csr)} (formula). In all {len(told.steps):,} stages,"
    yield f"{replies:,} replies at most (formula), {written / 1e12:,.1f} TB written (formula)."


def page() -> str:
    """What stands between the lines of docs/scale.md."""
    asks = (
        ("Table 1, a training on one GPU", table_1(Runtime()), GPUS),
        ("Table 1, a training on eight GPUs", table_1(Runtime(num_processes=8)), GPUS[1:]),
        ("100 methods, 20 benchmarks", hundred(Runtime()), GPUS),
    )
    parts = ["\n".join([f"### {title}\n", *lines(told, gpus)]) for title, told, gpus in asks]
    return "\n\n".join(parts)


def main() -> None:
    """Write the page anew."""
    PAGE.write_text(filled(PAGE, BEGIN, END, page()), encoding="utf-8")


if __name__ == "__main__":
    main()
