"""Stages without a model: every row answers every benchmark, and the test says which stages fail, and how."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.comparison.request import request
from harness.comparison.worker import kind
from harness.contracts.settings import Runtime, Testbed
from harness.contracts.stage import Work
from harness.contracts.steps import Request, Step
from harness.stages.split import Split
from harness.store.store import Store
from harness.system.jsonl import dumps
from harness.system.profile import Tick

IMAGES = 12


@dataclass(frozen=True)
class ToyBodies:
    """Stands in for `Bodies`. `fails`: part of a step's title -> what its body raises; `ran` is told every title."""

    fails: Mapping[str, BaseException] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)

    def __call__(self, root: str, testbed: Testbed, asked: Request, runtime: Runtime) -> Callable[[], "Toy"]:
        return lambda: Toy(self, Store(Path(root)), testbed, asked, runtime)


@dataclass(frozen=True)
class Toy:
    """The bodies of one run."""

    toy: ToyBodies
    store: Store
    testbed: Testbed
    asked: Request
    runtime: Runtime

    def __call__(self, step: Step, tick: Tick) -> None:
        def fill(out: Path) -> None:
            self.toy.ran.append(step.title)
            for part, error in self.toy.fails.items():
                if part in step.title:
                    raise error
            if step.stage.kind in ("build", "train", "generate"):
                (out / {"train": "summary.json"}.get(step.stage.kind, "profile.json")).write_text(
                    "{}", encoding="utf-8"
                )
            if step.stage.kind == "split":
                examples = [[f"e{n}", "hash"] for n in range(Split.of(step).n or 0)]
                (out / "split.lock").write_text(dumps({"digest": "0" * 64, "examples": examples}), encoding="utf-8")
            if step.stage.kind == "report":
                work = Work(step, out, tick, self.store, self.testbed, self.asked, self.runtime)
                kind("report").of(step).fill(work)
            if step.stage.kind == "score":
                (out / "units.json").write_text(units(step.title), encoding="utf-8")

        self.store.run(step.stage, fill)


def units(title: str) -> str:
    """Yes-or-no questions about a dozen images; a row of a method gets one more right than the baseline."""
    right = IMAGES // 2 + ("baseline" not in title)
    sums = [float(n < right) for n in range(IMAGES)]
    parts = [{"all/sum": got, "all/n": 1.0, "img/sum": got, "img/n": 1.0} for got in sums]
    made = [{"id": f"q{n}", "cluster": f"image {n}", "parts": part} for n, part in enumerate(parts)]
    return dumps({"units": made, "unscored": {}, "items": IMAGES})


def asked(methods: str, benchmarks: str = "gqa,sqa", *sets: str, seeds: int = 1) -> tuple[Testbed, Request, Runtime]:
    """The words of a small comparison; no lens and no second opinion."""
    bed, wanted, runtime = request(methods, "llava150k", "", "mini", seeds, benchmarks, 8, 4, list(sets), 1)
    return bed.model_copy(update={"lens": 0, "crosscheck": False}), wanted, runtime
