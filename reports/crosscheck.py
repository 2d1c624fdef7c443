"""Both figures for the same responses side by side: ours, and that of lmms-eval's stock task."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.contracts.benchmark import Benchmark
from harness.system.console import visible
from reports.outcomes import Outcome, measure, withheld
from reports.plain import DASH

EQUAL = 1e-9  # of a metric's unit: two orders of summation
HEAD = ("metric", "method", "seed", "ours", "lmms-eval", "difference", "task", "why")
RIGHT = ("seed", "ours", "lmms-eval", "difference")
NONE = (
    "no response has a second figure: lmms-eval was not installed when the comparison ran. "
    "`make install` puts it in; the same command again then adds the figures."
)
Row = Mapping[str, Any]


def crosscheck(outcomes: Sequence[Outcome], benchmarks: Mapping[str, Benchmark]) -> str:
    """A text table of every metric that has a second figure, with the difference and, where it is known, the reason."""
    both = list(_both(outcomes, benchmarks))
    if not both:
        return NONE
    cells = [HEAD, *map(_cells, both)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(HEAD))]
    lines = []
    for line in cells:
        padded = zip(HEAD, line, widths, strict=True)
        lines.append("  ".join(c.rjust(w) if name in RIGHT else c.ljust(w) for name, c, w in padded).rstrip())
    return "\n".join([*lines, "", *_summary(both)])


def _both(outcomes: Sequence[Outcome], benchmarks: Mapping[str, Benchmark]) -> Iterator[Row]:
    """Benchmark by benchmark, metric by metric; "value" is ours, or "withheld" says why there is none."""
    for name in dict.fromkeys(outcome.benchmark for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.benchmark == name]
        values = [measure(benchmarks[name], outcome.units) for outcome in mine]
        for metric in dict.fromkeys(metric for outcome in mine for metric in outcome.second):
            for outcome, measured in zip(mine, values, strict=True):
                if metric in outcome.second:
                    value, reason = measured.get(metric, math.nan), withheld(benchmarks[name], [outcome])
                    ours = {"value": value} if not reason and not math.isnan(value) else {"withheld": reason}
                    found = {"metric": metric, "method": outcome.method, "seed": outcome.seed}
                    yield {**found, **ours, "second": outcome.second[metric]}


def _cells(row: Row) -> tuple[str, ...]:
    second = row["second"]
    ours, theirs = row.get("value"), second.get("value")
    why = second.get("withheld") or "; ".join(filter(None, (second["note"], _why(row))))
    difference = DASH if ours is None or theirs is None else _signed(theirs - ours)
    numbers = (_number(ours), _number(theirs), difference)
    return tuple(map(visible, (row["metric"], row["method"], str(row["seed"]), *numbers, second["task"], why)))


def _why(row: Row) -> str:
    """The known reason of a difference; empty where there is none to explain."""
    if "value" not in row:
        return f"ours: {row['withheld'] or 'not defined on these units'}"
    return str(row["second"]["deviation"] or "NOT EXPLAINED") if _differs(row) else ""


def _differs(row: Row) -> bool:
    second = row["second"]
    return "value" in row and "value" in second and abs(second["value"] - row["value"]) > EQUAL


def _summary(rows: Sequence[Row]) -> Iterator[str]:
    differing = [row for row in rows if _differs(row)]
    unexplained = sum(not row["second"]["deviation"] for row in differing)
    missing = sum("value" not in row["second"] or "value" not in row for row in rows)
    sources = ", ".join(sorted({row["second"]["source"] for row in rows}))
    yield f"{sources}: its stock tasks' own scoring of the same responses. The table has ours alone."
    yield (
        f"{len(rows)} pairs: {len(rows) - len(differing) - missing} equal, {len(differing)} differ "
        f"({unexplained} of them not explained), {missing} have one figure or none."
    )


def _number(value: float | None) -> str:
    return DASH if value is None else f"{value:.2f}"


def _signed(value: float) -> str:
    return "0" if abs(value) <= EQUAL else f"{value:+.2f}" if abs(value) >= 0.005 else f"{value:+.0e}"
