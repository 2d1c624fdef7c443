"""The machine-readable results: one row per method, seed, benchmark and metric, for `results.jsonl`."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.contracts.benchmark import Benchmark
from reports.findings import Setting
from reports.manifest import Failed
from reports.outcomes import Outcome, measure, withheld
from reports.statistics import REPLICATES, Sums, bootstrap, interval, shown


def results_rows(
    outcomes: Sequence[Outcome],
    benchmarks: Mapping[str, Benchmark],
    setting: Setting,
    replicates: int = REPLICATES,
    failed: Sequence[Failed] = (),
) -> Iterator[dict[str, Any]]:
    """Everything computed for every outcome with its own 95 % interval (images only), in one fixed order.

    `direction` is "higher" or "lower" for the benchmark's declared metrics, "undeclared" for its sub-scores.
    Where lmms-eval has the metric, "lmms_eval" says what its stock task made of the same responses.
    A number that is not defined is not there: its row has `withheld`, the reason, in place of `value` and the interval.
    A cell that failed has one row, of its benchmark's first metric.
    """
    for name, benchmark in sorted(benchmarks.items()):
        better = {m.id: "higher" if m.higher_is_better else "lower" for m in benchmark.metrics}
        shared = {"protocol": setting.protocol, "testbed": setting.testbed_in_words, "synthetic": setting.synthetic}
        for one in (one for one in failed if one.benchmark == name):
            who = {"method": one.row, "label": one.label, "seed": one.seed, "benchmark": name}
            first = benchmark.metrics[0].id
            what = {"metric": first, "direction": better[first], "n": 0, "unscored": 0, "stage": one.stage}
            yield {**who, **what, **shared, "withheld": f"failed: {one.why}"}
        mine = sorted((o for o in outcomes if o.benchmark == name), key=lambda o: (o.method, o.seed))
        drawn_by = bootstrap(benchmark, Sums.of([o.units for o in mine]), replicates)
        for outcome, drawn in zip(mine, drawn_by, strict=True):
            reason = withheld(benchmark, [outcome])
            for metric, value in measure(benchmark, outcome.units).items():
                row = _about(outcome, metric, better.get(metric, "undeclared"), shared)
                low, high = shown(*interval([value], drawn[metric][None]))
                if reason or math.isnan(value):
                    yield row | {"withheld": reason or "not defined on these units"}
                else:
                    yield row | {"value": value} | ({} if math.isnan(low) else {"ci_lo": low, "ci_hi": high})


def _about(outcome: Outcome, metric: str, direction: str, shared: Mapping[str, Any]) -> dict[str, Any]:
    """A row without its figures: whose it is, of what, on how much, and what another scorer or a judge's runs say."""
    row: dict[str, Any] = {
        "method": outcome.method,
        "label": outcome.label,
        "seed": outcome.seed,
        "benchmark": outcome.benchmark,
        "metric": metric,
        "direction": direction,
        "n": len(outcome.units),
        "unscored": outcome.unscored,
        **shared,
        "stage": outcome.key,
    }
    if metric in outcome.second:
        row["lmms_eval"] = dict(outcome.second[metric])
    if not math.isnan(spread := outcome.spread(metric)):
        row |= {"judge_runs": len(outcome.runs[metric]), "judge_sd": spread}
    return row
