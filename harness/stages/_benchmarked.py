"""Stages that are about a benchmark."""

from typing import Any

from harness.contracts import plugins
from harness.contracts.stage import Kind
from harness.store.closure import Entry


class Benchmarked(Kind):
    """A stage about a benchmark.

    benchmark: its name
    options: its options on the testbed
    """

    benchmark: str
    options: dict[str, Any]

    @property
    def file(self) -> Entry:
        """The benchmark's file."""
        return plugins.counted("benchmarks", self.benchmark)
