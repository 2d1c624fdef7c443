"""Tiny benchmarks and made-up outcomes for the report's tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from harness.benchmark import Benchmark, Group, Metric, Totals, Unit, ratio
from reports.outcomes import Outcome
from reports.table import Setting

SETTING = Setting(testbed="mini", protocol="paper", synthetic=True)


@dataclass(frozen=True)
class Accuracy(Benchmark):
    """Percent of units that are right."""

    label: ClassVar[str] = "ACC"
    group: ClassVar[Group] = "vqa"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("acc/percent", "accuracy", (0, 100)),)

    def compute(self, totals: Totals) -> dict[str, Any]:
        return {"acc/percent": ratio(totals["right"], totals["n"])}


class Gqa(Accuracy):
    label = "GQA"


class Sqa(Accuracy):
    label = "SQA"


class Textvqa(Accuracy):
    label = "VQA^T"


class Mmvet(Accuracy):
    label = "MM-Vet"
    group = "comprehension"
    judged = True


class Mmb(Accuracy):
    label = "MMB"
    group = "comprehension"


@dataclass(frozen=True)
class Mme(Accuracy):
    label: ClassVar[str] = "MME"
    group: ClassVar[Group] = "comprehension"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("mme/perception", "perception", (0, 2000), digits=0),)

    def compute(self, totals: Totals) -> dict[str, Any]:
        return {"mme/perception": ratio(totals["right"], totals["n"], 2000)}


@dataclass(frozen=True)
class Pope(Accuracy):
    """F1: not linear in the parts."""

    label: ClassVar[str] = "POPE"
    group: ClassVar[Group] = "hallucination"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("pope/f1", "F1", (0, 100)),)

    def compute(self, totals: Totals) -> dict[str, Any]:
        return {"pope/f1": ratio(2 * totals["right"], totals["right"] + totals["n"])}


@dataclass(frozen=True)
class Chair(Accuracy):
    label: ClassVar[str] = "CHAIR"
    group: ClassVar[Group] = "hallucination"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("chair/mean@listed", "CHAIR", (100, 0)),
        Metric("chair/recall@listed", "recall", (0, 100)),
        Metric("chair/length@listed", "length", (0, 512)),
    )

    def compute(self, totals: Totals) -> dict[str, Any]:
        right, n = totals["right"], totals["n"]
        return {
            "chair/mean@listed": 100 - ratio(right, n),
            "chair/recall@listed": ratio(right, n, 90),
            "chair/length@listed": ratio(n + right, n, 40),
        }


@dataclass(frozen=True)
class Mmhal(Accuracy):
    label: ClassVar[str] = "MMHal"
    group: ClassVar[Group] = "hallucination"
    judged: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("mmhal/rating", "rating", (0, 6), digits=2),)

    def compute(self, totals: Totals) -> dict[str, Any]:
        return {"mmhal/rating": ratio(totals["right"], totals["n"], 6)}


NINE: dict[str, Benchmark] = {
    "sqa": Sqa(), "gqa": Gqa(), "textvqa": Textvqa(), "mmvet": Mmvet(), "mme": Mme(), "mmb": Mmb(),
    "pope": Pope(), "chair": Chair(), "mmhal": Mmhal(),
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
