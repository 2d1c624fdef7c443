"""The figures, drawn with matplotlib, without a display.

Every function takes numbers and labels and gives a drawing; `picture` turns it into bytes that depend on nothing but
these and matplotlib's version. Labels are plain text: nothing in them is read as mathematics.
"""

import io
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.contracts.method import Baseline
from reports.plain import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Draw = Callable[[], "Figure"]
# Six of Okabe & Ito's colours, and six more that stay as far from them and each other to who sees no red or no green,
# on white and on dark ground alike; the second six are dashed as well.
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9",
    "#803333", "#3B00EB", "#6C3380", "#5E81EB", "#52CC8F", "#805374",
)  # fmt: skip
DASHES, HATCHES = ("-", "--", ":"), ("", "///", "...")  # of the first six methods, the second, and so on
BETTER = "#009E73"
GREY = "#8a8f98"
STAGES = {"build": "#56B4E9", "reference": "#CC79A7", "train": "#0072B2", "generate": "#E69F00", "score": "#7F7F7F"}
INK, DARK_INK = "#1b1f24", "#dfe3e8"
CURVES = {  # TRL's names and what to call them; the first ones first
    "loss": "loss",
    "rewards/margins": "reward margin",
    "rewards/accuracies": "chosen preferred, share",
    "logps/chosen": "log-prob of chosen",
    "logps/rejected": "log-prob of rejected",
    "kl": "KL",
    "objective/kl": "KL",
    "reward": "reward",
    "objective/scores": "reward",
    "grad_norm": "gradient norm",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing as SVG with a transparent ground, for light and for dark pages, as a PNG on white, and as a PDF."""

    svg: bytes
    dark: bytes
    png: bytes
    pdf: bytes


def picture(draw: Draw, testbed: str) -> Picture:
    """The drawing in its forms, with the testbed's name on it: a synthetic figure must not pass for another."""
    from matplotlib import rc_context

    style: dict[Any, Any] = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), INK)
    style |= {"xtick.color": INK, "ytick.color": INK, "text.parse_math": False, "font.size": 9, "axes.titlesize": 9}
    style |= {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
    style |= {"svg.hashsalt": "harness", "svg.fonttype": "none", "pdf.fonttype": 42}  # what journals ask for
    svg, png, pdf = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with rc_context(style), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that the font lacks is drawn as a box
        figure = draw()
        figure.suptitle(f"testbed: {_name(testbed, 60)}", x=0.995, ha="right", fontsize=7)
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
        figure.set_layout_engine(None)  # it is laid out; "none" would draw it once more for each form
        figure.savefig(png, format="png", metadata={"Software": None}, dpi=150)
        figure.savefig(pdf, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    dark = svg.getvalue().replace(INK.encode(), DARK_INK.encode())
    return Picture(svg.getvalue(), dark, png.getvalue(), pdf.getvalue())


def _panels(rows: int, columns: int, width: float, height: float) -> "tuple[Figure, list[Axes]]":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _colours(labels: Iterable[str]) -> dict[str, str]:
    """Label -> colour; a method has the same one in every figure, the baseline is grey."""
    methods = [name for name in dict.fromkeys(labels) if name != Baseline.label]
    return {Baseline.label: GREY} | {name: COLOURS[at % len(COLOURS)] for at, name in enumerate(methods)}


def _dashes(labels: Sequence[str], name: str, styles: tuple[str, ...] = DASHES) -> str:
    """The kind of line (or of `styles`) that tells a method from those whose colours are near."""
    methods = [label for label in labels if label != Baseline.label]
    return styles[methods.index(name) // 6 % 3] if name in methods else styles[0]


def _name(text: str, longest: int = 28) -> str:
    shown = short(text, longest)
    return f" {shown}" if shown.startswith("_") else shown  # matplotlib leaves out what begins with one


def _legend(figure: "Figure") -> None:
    """One legend for all panels, below them."""
    found: dict[str, Any] = {}
    for axes in figure.axes:
        found |= {name: handle for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    if found:
        figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=min(len(found), 6))


def cost(seconds: Mapping[str, Mapping[str, float]], memory: Mapping[str, tuple[float, str]]) -> "Figure":
    """Figure 2: label -> stage -> seconds, stacked; label -> (GiB, how its roles were realised)."""
    labels = list(seconds)
    figure, (time, space) = _panels(1, 2, 10, 1.3 + 0.38 * max(len(labels), 2))
    left = [0.0] * len(labels)
    for stage, colour in STAGES.items():
        values = [seconds[name].get(stage, 0.0) for name in labels]
        if any(values):
            time.barh(range(len(labels)), values, left=left, color=colour, label=stage, height=0.62)
        left = [before + value for before, value in zip(left, values, strict=True)]
    time.set_xlabel("seconds per seed, stages stacked")
    known = [memory.get(name, (math.nan, "")) for name in labels]
    space.barh(range(len(labels)), [gib if math.isfinite(gib) else 0 for gib, _ in known], color="#0072B2", height=0.62)
    for place, (gib, how) in enumerate(known):
        at = (gib if math.isfinite(gib) else 0, place)
        space.annotate(_name(how, 60), at, (5, 0), textcoords="offset points", va="center", fontsize=7)
    space.set_xlabel("peak GiB of a training process")
    space.margins(x=0.9)
    for axes in (time, space):
        axes.set_yticks(range(len(labels)), [_name(name) for name in labels])
        axes.invert_yaxis()
        axes.set_xlim(left=0)
    _legend(figure)
    return figure


class Interval(NamedTuple):
    """A difference with its 95 % interval; `detectable`: smaller ones are seldom seen, NaN where that is not known."""

    delta: float
    low: float
    high: float
    resolved: bool
    detectable: float = math.nan


class Panel(NamedTuple):
    """A column's differences by label; `better`: 1 where more is better, -1 where less is, 0 where it is no score."""

    rows: Mapping[str, Interval]
    better: int = 1


NO_INTERVAL = Interval(math.nan, math.nan, math.nan, False)


def intervals(panels: Mapping[str, Panel], columns: int = 4) -> "Figure":
    """A panel per column of the table, a dot and its 95 % interval per method, filled where resolved.

    Right is better, and shaded, in every panel of a score: the axis is turned where less is better, and its title says
    so. A grey bar holds the differences too small to be seen here.
    """
    labels = list(dict.fromkeys(name for panel in panels.values() for name in panel.rows))
    rows, colours = math.ceil(len(panels) / columns), _colours(labels)
    figure, axes = _panels(rows, columns, 10, rows * (0.75 + 0.27 * max(len(labels), 2)))
    for at, (title, panel) in enumerate(panels.items()):
        axes[at].axvline(0, color=GREY, linewidth=0.8)
        for place, name in enumerate(labels):
            one = panel.rows.get(name, NO_INTERVAL)
            colour, full = colours[name], "full" if one.resolved else "none"
            axes[at].plot([one.low, one.high], [place, place], color=colour, linewidth=1.6)
            axes[at].plot([one.delta], [place], "o", color=colour, markersize=5, fillstyle=full)
        _unseen(axes[at], [panel.rows.get(name, NO_INTERVAL).detectable for name in labels])
        _facing(axes[at], panel.better)
        axes[at].locator_params(axis="x", nbins=5)
        turned = " (less is better: axis turned)" if panel.better < 0 else " (no score)" if not panel.better else ""
        axes[at].set_title(_name(title) + turned, loc="left", fontsize=7 if turned else None)
        axes[at].set_ylim(len(labels) - 0.5, -0.5)
        shown = [_name(name) for name in labels] if at % columns == 0 else [""] * len(labels)
        axes[at].set_yticks(range(len(labels)), shown)
    for spare in axes[len(panels) :]:
        spare.set_axis_off()
    return figure


def _unseen(axes: "Axes", detectable: Sequence[float]) -> None:
    """A grey bar around 0 for each place; one that is far wider than what there is does not widen the axis."""
    low, high = axes.get_xlim()
    for place, size in enumerate(detectable):
        if math.isfinite(size):
            axes.barh(place, 2 * size, 0.6, -size, color=GREY, alpha=0.22, linewidth=0)
    widest = 1.05 * max((size for size in detectable if size <= 2 * max(-low, high)), default=0.0)
    axes.set_xlim(min(low, -widest), max(high, widest))


def _facing(axes: "Axes", better: int) -> None:
    """Turn the axis so that better is right, and shade that side; 0 on it always."""
    low, high = axes.get_xlim()
    low, high = min(low, -0.05 * abs(high) - 1e-9), max(high, 0.05 * abs(low) + 1e-9)
    if better:
        axes.axvspan(0, high if better > 0 else low, color=BETTER, alpha=0.09, linewidth=0)
    axes.set_xlim((high, low) if better < 0 else (low, high))


def curves(logs: Mapping[str, Sequence[Sequence[Mapping[str, float]]]]) -> "Figure":
    """Label -> one log per seed, of lines under TRL's names; a panel per figure that any log has."""
    there = {name for many in logs.values() for log in many for line in log for name in line}
    names = [name for name in CURVES if name in there]
    columns = min(3, max(1, len(names)))
    rows = max(1, math.ceil(len(names) / columns))
    figure, axes = _panels(rows, columns, 10, 2.3 * rows + 0.5)
    for at, name in enumerate(names):
        for method, many in logs.items():
            for number, log in enumerate(many):
                points = [(step, line[name]) for step, line in enumerate(log, 1) if _finite(line.get(name))]
                axes[at].plot(*zip(*points, strict=True) if points else ((), ()), color=_colours(logs)[method],
                              linewidth=1.2, alpha=0.85, label=_name(method) if number == 0 else None,
                              linestyle=_dashes(list(logs), method))  # fmt: skip
        axes[at].set_title(CURVES[name], loc="left")
        axes[at].set_xlabel("optimiser step")
    for spare in axes[len(names) :]:
        spare.set_axis_off()
    _legend(figure)
    return figure


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


Point = tuple[float, float, float, float]  # examples, value, low, high


def scaling(
    panels: Mapping[str, Mapping[str, Sequence[Point]]],
    average: Mapping[str, Mapping[str, float]],
    without: Sequence[str] = (),
) -> "Figure":
    """Figure 4: a panel per total, a line per method over the number of examples; `average`: data -> label -> mean.

    `without` are benchmarks that are in no mean.
    """
    figure, axes = _panels(1, len(panels) + bool(average), 2.9 * (len(panels) + bool(average)), 3)
    colours = _colours(dict.fromkeys(name for lines in (*panels.values(), *average.values()) for name in lines))
    for at, (title, lines) in enumerate(panels.items()):
        axes[at].axhline(0, color=GREY, linewidth=0.8)
        for name, points in lines.items():
            x, y, low, high = zip(*sorted(points), strict=True)
            colour = colours[name]
            axes[at].fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
            axes[at].vlines(x, low, high, color=colour, linewidth=0.8)
            axes[at].plot(x, y, "o", linestyle=_dashes(list(colours), name), color=colour, linewidth=1.5, markersize=4,
                          label=_name(name))  # fmt: skip
        axes[at].set_title(f"{_name(title)}: total over baseline", loc="left")
        axes[at].set_xlabel("training examples")
        axes[at].set_xticks(sorted({n for points in lines.values() for n, *_ in points}))
    if average:
        _bars(axes[-1], average, colours)
        of = f"{9 - len(without)}" if without else "the nine"
        axes[-1].set_title(f"mean of {of}, 0 to 100", loc="left")
        axes[-1].set_xlabel(_left_out(without))
    _legend(figure)
    return figure


def _left_out(without: Sequence[str]) -> str:
    """What says below a figure that benchmarks are not in it; empty where all are."""
    return f"left out, too few verdicts: {', '.join(_name(one) for one in without)}" if without else ""


def distribution(
    panels: Mapping[str, tuple[tuple[float, float], Mapping[str, Sequence[float]]]], without: Sequence[str] = ()
) -> "Figure":
    """Figure 6: title -> (ends of the scale, label -> scores of the units): the share of units by score.

    `without` are benchmarks that have no panel.
    """
    figure, axes = _panels(1, max(1, len(panels)), 10, 2.8)
    for at, (title, (ends, scores)) in enumerate(panels.items()):
        low, high = min(ends), max(ends)
        bins = 7 if high - low == 6 else 11  # a rating from 0 to 6, or tenths
        step = (high - low) / (bins - 1)
        shares: dict[str, dict[str, float]] = {f"{low + step * place:g}": {} for place in range(bins)}
        for name, values in scores.items():
            for place, value in enumerate(shares.values()):
                near = sum(round((score - low) / step) == place for score in values if math.isfinite(score))
                value[name] = 100 * near / max(1, len(values))
        _bars(axes[at], shares)
        axes[at].set_title(_name(title), loc="left")
        axes[at].set_xlabel("score")
        axes[at].set_ylabel("% of units")
    if without:
        figure.supxlabel(_left_out(without), fontsize=8)
    _legend(figure)
    return figure


def _bars(axes: "Axes", groups: Mapping[str, Mapping[str, float]], colours: Mapping[str, str] | None = None) -> None:
    """Grouped bars: group -> label -> height; colours by the labels' order unless given."""
    labels = list(dict.fromkeys(name for bars in groups.values() for name in bars))
    colours = colours or _colours(labels)
    width = 0.8 / max(1, len(labels))
    for place, name in enumerate(labels):
        at = [number + (place + 0.5) * width - 0.4 for number in range(len(groups))]
        heights = [bars.get(name, math.nan) for bars in groups.values()]
        hatch = _dashes(labels, name, HATCHES)
        axes.bar(
            at, heights, width, color=colours[name], label=_name(name), hatch=hatch, edgecolor="white", linewidth=0
        )
    axes.set_xticks(range(len(groups)), [_name(name) for name in groups])


def lens(rows: Mapping[str, Mapping[str, float]], corrected: Mapping[str, Mapping[str, float]]) -> "Figure":
    """Label -> "before/chosen", "after/chosen", "before/rejected", "after/rejected" (mean log-probs), "log_t2_t1".

    `corrected`: error type -> label -> percent of the errors that the trained policy no longer makes, where measured.
    """
    figure, axes = _panels(1, 2 + bool(corrected), 10, 1.2 + 0.42 * max(2, len(rows)))
    colours = _colours([*rows, *(name for bars in corrected.values() for name in bars)])
    sides = ((-0.16, "chosen", INK, "-", "o"), (0.16, "rejected", GREY, ":", "s"))  # in no method's colour
    for place, known in enumerate(rows.values()):
        for shift, side, colour, line, mark in sides:
            before, after = (known.get(f"{when}/{side}", math.nan) for when in ("before", "after"))
            label = side if place == 0 else None
            axes[0].plot([before, after], [place + shift] * 2, line, color=colour, linewidth=1.6, label=label)
            axes[0].plot(before, place + shift, mark, color=colour, fillstyle="none", markersize=5)
            axes[0].plot(after, place + shift, mark, color=colour, markersize=5)
    axes[0].set_xlabel("mean log-prob of a response\nhollow: before training, full: after")
    axes[1].axvline(0, color=GREY, linewidth=0.8)
    ratios = [known.get("log_t2_t1", math.nan) for known in rows.values()]
    axes[1].barh(range(len(rows)), ratios, 0.5, color=[colours[name] for name in rows])
    axes[1].set_xlabel("mean log (t2 / t1)\nafter training (Eq. 10, 13)")
    for one in axes[:2]:
        one.set_yticks(range(len(rows)), [_name(name) for name in rows])
        one.set_ylim(len(rows) - 0.5, -0.5)
        one.locator_params(axis="x", nbins=5)
    if corrected:
        _bars(axes[2], corrected, colours)
        axes[2].set_title("% of errors corrected (below 0: more)", loc="left")
        axes[2].tick_params(axis="x", labelrotation=40)
    _legend(figure)
    return figure
