"""Tiny benchmarks and made-up outcomes for the report's tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from harness.contracts import plugins
from harness.contracts.benchmark import Benchmark, Group, Metric, Totals, Unit, ratio
from reports.findings import Setting
from reports.outcomes import Outcome

SETTING = Setting("mini", "paper", True, {str(seed): f"model {seed}" for seed in range(8)})


@dataclass(frozen=True)
class Accuracy(Benchmark):
    """Percent of units that are right."""

    label: ClassVar[str] = "ACC"
    group: ClassVar[Group] = "vqa"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("acc/percent", "accuracy", (0, 100)),)

    def compute(self, totals: Totals) -> dict[str, Any]:
        return {"acc/percent": ratio(totals["right"], totals["n"])}


class Fake(Accuracy):
    """A real benchmark's ids, label, group and scale; its values are made of units that are right or wrong."""

    def __init__(self, name: str, **options: Any) -> None:
        self.__dict__ |= {"real": plugins.make("benchmarks", name, Benchmark, options), "name": name}
        self.__dict__ |= {field: getattr(self.real, field) for field in ("label", "group", "metrics", "judged")}

    @property
    def ends(self) -> tuple[float, float]:
        real: tuple[float, float] = self.__dict__["real"].ends
        return real

    def compute(self, totals: Totals) -> dict[str, Any]:
        worst, best = self.ends
        return {self.metrics[0].id: worst + (best - worst) * ratio(totals["right"], totals["n"], 1)}


class Pope(Fake):
    """F1: not linear in the parts."""

    def compute(self, totals: Totals) -> dict[str, Any]:
        return {self.metrics[0].id: ratio(2 * totals["right"], totals["right"] + totals["n"])}


class Chair(Fake):
    """With what shows that captions say less."""

    def compute(self, totals: Totals) -> dict[str, Any]:
        right, n = totals["right"], totals["n"]
        beside = {"chair/recall@listed": ratio(right, n, 90), "chair/words": ratio(n + right, n, 40)}
        return super().compute(totals) | beside


NINE: dict[str, Benchmark] = {
    "sqa": Fake("sqa"), "gqa": Fake("gqa"), "textvqa": Fake("textvqa"), "mmvet": Fake("mmvet"), "mme": Fake("mme"),
    "mmb": Fake("mmb"), "pope": Pope("pope"), "chair": Chair("chair", variant="listed"), "mmhal": Fake("mmhal"),
}  # fmt: skip


def answers(
    skill: float, images: int, per_image: int, seed: int, gain: float = 0.0, spread: float = 0.25
) -> list[Unit]:
    """Right or wrong answers that share each image's difficulty; `gain` moves some wrong ones to right.

    Same `seed`, same images and same luck: two calls that differ in `gain` are a pair.
    """
    rng = np.random.default_rng(seed)
    level = np.clip(skill + spread * rng.standard_normal((images, 1)), 0, 1)
    right = rng.random((images, per_image)) < level + gain
    return [
        Unit(f"{image}/{question}", f"image {image}", {"right": float(right[image, question]), "n": 1.0})
        for image in range(images)
        for question in range(per_image)
    ]


def run(
    methods: Sequence[tuple[str, str, float]], seeds: Sequence[int] = (0,), images: int = 60, per_image: int = 5
) -> list[Outcome]:
    """One outcome per (method, label, gain), seed and benchmark of the nine, the baseline included."""
    return [
        Outcome(
            method, label, seed, name, answers(0.6, images, per_image, 100 * seed + place, gain), 0, f"{method}-{name}"
        )
        for seed in seeds
        for method, label, gain in [("baseline", "LLaVA-1.5-7B", 0.0), *methods]
        for place, name in enumerate(NINE)
    ]
