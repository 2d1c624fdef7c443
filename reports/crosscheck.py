"""Both scores of the same responses side by side: ours, and that of lmms-eval's stock task."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reports.render import DASH, visible

EQUAL = 1e-9  # of a metric's unit: two orders of summation
HEAD = ("metric", "method", "seed", "ours", "lmms-eval", "difference", "task", "why")
NONE = (
    "no row has a second score: lmms-eval was not installed when the comparison ran. "
    "`make install` puts it in; the same command again then adds the scores."
)


def crosscheck(rows: Sequence[Mapping[str, Any]]) -> str:
    """A text table of the rows of `results.jsonl` that have a second score, and what could not be explained."""
    both = [row for row in rows if "lmms_eval" in row]
    if not both:
        return NONE
    cells = [HEAD, *(_cells(row) for row in both)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(HEAD))]
    right = {HEAD.index(name) for name in ("seed", "ours", "lmms-eval", "difference")}
    lines = [
        "  ".join(c.rjust(w) if at in right else c.ljust(w) for at, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in cells
    ]
    return "\n".join([*(line.rstrip() for line in lines), "", *_summary(both)])


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    second = row["lmms_eval"]
    ours, theirs = row.get("value"), second.get("value")
    why = second.get("withheld") or "; ".join(filter(None, (second["note"], _why(row))))
    difference = DASH if ours is None or theirs is None else _signed(theirs - ours)
    numbers = (_number(ours), _number(theirs), difference)
    return tuple(map(visible, (row["metric"], row["method"], str(row["seed"]), *numbers, second["task"], why)))


def _why(row: Mapping[str, Any]) -> str:
    """The known reason of a difference; empty where there is none to explain."""
    if "value" not in row:
        return f"ours: {row['withheld']}"
    if not _differs(row):
        return ""
    return str(row["lmms_eval"]["deviation"] or "NOT EXPLAINED")


def _differs(row: Mapping[str, Any]) -> bool:
    second = row["lmms_eval"]
    return "value" in row and "value" in second and abs(second["value"] - row["value"]) > EQUAL


def _summary(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    differing = [row for row in rows if _differs(row)]
    unexplained = sum(not row["lmms_eval"]["deviation"] for row in differing)
    missing = sum("value" not in row["lmms_eval"] or "value" not in row for row in rows)
    sources = ", ".join(sorted({row["lmms_eval"]["source"] for row in rows}))
    yield f"{sources}: its stock tasks' own scoring of the same responses. The table has our figures alone."
    yield (
        f"{len(rows)} pairs: {len(rows) - len(differing) - missing} equal, {len(differing)} differ "
        f"({unexplained} of them not explained), {missing} without a second figure."
    )


def _number(value: float | None) -> str:
    return DASH if value is None else f"{value:.2f}"


def _signed(value: float) -> str:
    return "0" if abs(value) <= EQUAL else f"{value:+.2f}" if abs(value) >= 0.005 else f"{value:+.0e}"
