"""One scored cell of a comparison, as the report sees it, and its metrics."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.contracts.benchmark import Benchmark, Unit, ratio, totals
from harness.system.untrusted import DATA, json_lines, json_object
from reports.manifest import JUDGED, UNITS, checked

MAX_UNSCORED = 0.01


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one method's model scored on one benchmark with one seed; `key` is the score stage's.

    `units` are those with all their verdicts, `unscored` counts the verdicts that are missing. The untouched policy's
    method is "baseline". `runs` holds each metric's values in the runs of a judge; `second` is another scorer's opinion
    on the same responses, by metric, for `results.jsonl` and for no table; `judged_by` the model that judged and its
    hosts.
    """

    method: str
    label: str
    seed: int
    benchmark: str
    units: Sequence[Unit]
    unscored: int
    key: str
    runs: Mapping[str, Sequence[float]] = field(default_factory=dict)
    second: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    judged_by: str = ""

    @property
    def coverage(self) -> float:
        """The share of units with a verdict, in percent; NaN where there are no units."""
        return float(ratio(len(self.units), len(self.units) + self.unscored))

    @property
    def images(self) -> int:
        """How many images the units are about: what is resampled."""
        return len({unit.cluster for unit in self.units})

    def spread(self, metric: str) -> float:
        """The standard deviation of a metric between the judge's runs; NaN where there was one run or none."""
        values = self.runs.get(metric, ())
        return statistics.stdev(values) if len(values) > 1 else math.nan


def read_units(path: Path) -> tuple[list[Unit], int]:
    """A score stage's `units.json`: the units, and the number of unscored items."""
    stored = checked(UNITS, json_object(path, limit=DATA), path)
    return [Unit(unit["id"], unit["cluster"], unit["parts"]) for unit in stored["units"]], len(stored["unscored"])


def read_judged(path: Path) -> tuple[dict[str, list[float]], str]:
    """A score stage's `judge.json`: every metric's values in the judge's runs, and which model at which hosts judged.

    Both are empty where no judge was asked, the second also where it was no model.
    """
    told = checked(JUDGED, json_object(path, limit=DATA), path) if path.is_file() else {"values": {}}
    servers = told.get("servers", [])
    return dict(told["values"]), f"{told.get('name', '')} at {', '.join(servers)}" if servers else ""


def read_second(path: Path) -> dict[str, dict[str, Any]]:
    """A crosscheck stage's `crosscheck.jsonl`: another scorer's rows by the metric of ours that they are about."""
    return {row.pop("metric"): row for row in json_lines(path)}


def measure(benchmark: Benchmark, units: Sequence[Unit]) -> dict[str, float]:
    """Everything the benchmark computes, metric id -> value on these units; NaN where it is not defined."""
    if not units:
        return {metric.id: math.nan for metric in benchmark.metrics}
    return {name: float(value) for name, value in benchmark.compute(totals(units)).items()}


def withheld(benchmark: Benchmark, outcomes: Sequence[Outcome]) -> str:
    """Why the value of these cells is not shown: above 1 % of a cell's units have no verdict. Empty where it is.

    A mean over the units that happened to get a verdict is a mean over another benchmark.
    """
    shares = [o.unscored / (len(o.units) + o.unscored) for o in outcomes if o.unscored]
    return thin(benchmark, max(shares, default=0.0))


def thin(benchmark: Benchmark, unscored: float) -> str:
    """What stands in place of a mean of whose units this share has no verdict; empty up to 1 %."""
    if unscored <= MAX_UNSCORED:
        return ""
    return f"n/a ({'judge' if benchmark.judged else 'scored'} {math.floor(100 * (1 - unscored))} %)"
