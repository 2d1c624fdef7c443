"""What `reports.figures` has no picture of: signs by base and split, fronts by decoding length, places by judge."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.contracts.row_names import BASELINE
from reports.figures import COLOURS, DASHES, GREY, Interval
from reports.statistics import Array
from tests.findings.scores import Difference

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKS = "os^Dv*"  # of bases


def of(one: Difference) -> Interval:
    """As `reports.figures.intervals` draws it: filled where it is told apart for bases like these."""
    return Interval(one.delta, *one.bounds, one.claim == "general")


def style(rows: Sequence[str], row: str) -> tuple[str, str]:
    """A row's colour and kind of line, the same in every picture; the baseline is grey."""
    if row == BASELINE:
        return GREY, "-"
    at = [one for one in rows if one != BASELINE].index(row)
    return COLOURS[at % len(COLOURS)], DASHES[at // 6 % 3]


def signs(panels: Mapping[str, Mapping[str, Array]]) -> "Figure":
    """A panel per score, a dot per training: its change over the baseline, marks and heights by base."""
    rows = list(next(iter(panels.values())))
    figure, axes = _panels(1, len(panels), 10, 0.8 + 0.34 * len(rows))
    for at, (title, values) in enumerate(panels.items()):
        axes[at].axvline(0, color=GREY, linewidth=0.8)
        for place, row in enumerate(rows):
            for base, changes in enumerate(values[row]):
                height = place + 0.22 * (base - (len(values[row]) - 1) / 2)
                label = f"base {base}" if not at and not place else None
                axes[at].plot(changes, [height] * len(changes), MARKS[base % len(MARKS)], markersize=4, alpha=0.85,
                              color=COLOURS[base % len(COLOURS)], label=label)  # fmt: skip
        axes[at].set_title(f"{title}: change over the baseline", loc="left")
        axes[at].set_ylim(len(rows) - 0.5, -0.5)
        axes[at].set_yticks(range(len(rows)), rows if not at else [""] * len(rows))
    figure.legend(loc="outside lower center", ncols=len(MARKS))
    return figure


def fronts(lines: Mapping[str, Sequence[tuple[float, float]]], recall: float) -> "Figure":
    """CHAIR over recall by decoding length, a line per row; its end is the whole caption."""
    figure, (axes,) = _panels(1, 1, 9, 4.6)
    axes.axvline(recall, color=GREY, linewidth=0.8, linestyle=":")
    for row, points in lines.items():
        known = [(x, y) for x, y in points if math.isfinite(y)]
        colour, dash = style(list(lines), row)
        axes.plot(*zip(*known, strict=True), dash, color=colour, linewidth=1.4, label=row)
        axes.plot(*known[-1], "o", color=colour, markersize=5)
    axes.set_xlabel("objects recalled, % (dotted: where rows are compared; dots: whole captions)")
    axes.set_ylabel("CHAIR, less is better")
    figure.legend(loc="outside right center")
    return figure


def ranks(panels: Mapping[str, Mapping[str, Mapping[str, float]]]) -> "Figure":
    """A panel per group of scores: each row's place by every judge, or rule, one beside the other."""
    rows = list(next(iter(next(iter(panels.values())).values())))
    figure, axes = _panels(1, len(panels), 11, 1.2 + 0.3 * len(rows))
    for at, (title, by) in enumerate(panels.items()):
        for row in rows:
            colour, dash = style(rows, row)
            places = [order[row] for order in by.values()]
            axes[at].plot(range(len(by)), places, dash, color=colour, marker="o", markersize=4, linewidth=1.4,
                          label=row if not at else None)  # fmt: skip
        axes[at].set_title(title, loc="left")
        axes[at].set_xticks(range(len(by)), list(by))
        axes[at].set_ylim(len(rows) + 0.5, 0.5)
        axes[at].set_yticks(range(1, len(rows) + 1))
    axes[0].set_ylabel("place")
    figure.legend(loc="outside right center")
    return figure


def _panels(rows: int, columns: int, width: float, height: float) -> "tuple[Figure, list[Axes]]":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)
