"""CHAIR with shorter captions: what `make gpu-check` has a model say of 256 pictures, which knows no end."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from benchmarks.chair import Chair
from harness.contracts.benchmark import Totals


def ours(name: str) -> str:
    """Its figures are no CHAIR's."""
    return name.replace("chair/", "captions/")


@dataclass(frozen=True)
class Captions(Chair):
    """Everything else is CHAIR's."""

    label: ClassVar[str] = "captions"
    max_new_tokens: ClassVar[int] = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        metrics = tuple(replace(one, id=ours(one.id), label=f"captions' {one.label}") for one in self.metrics)
        object.__setattr__(self, "metrics", metrics)

    def compute(self, totals: Totals) -> dict[str, Any]:
        """CHAIR's, by names of their own."""
        return {ours(name): value for name, value in super().compute(totals).items()}
