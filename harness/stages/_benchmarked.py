"""Stages that are about a benchmark."""

from pathlib import Path
from typing import Any

from harness.contracts import plugins
from harness.contracts.stage import Kind


class Benchmarked(Kind):
    """A stage about a benchmark.

    benchmark: its name
    options: its options on the testbed
    """

    benchmark: str
    options: dict[str, Any]

    @property
    def file(self) -> Path:
        """The benchmark's file."""
        return plugins.source("benchmarks", self.benchmark)
