"""Figures as they are read: better is right, what could not be seen is grey, rows are told apart by who sees no red."""

import itertools
import math

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from worlds import NINE, SETTING, run

from reports import figures, plots
from reports.figures import Interval, Panel
from reports.tabulate import build

# Machado, Oliveira and Fernandes (2009), severity 1; and OKLab.
SIGHT = {
    "all": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}
CONES = [[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]
OPPONENTS = [[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]


def linear(colour: str) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def far(one: str, other: str, sight: str) -> float:
    """How far two colours are for an eye: 0.02 is hardly seen."""
    at = [
        OPPONENTS @ np.cbrt(CONES @ np.clip(np.array(SIGHT[sight]) @ linear(colour), 0, 1)) for colour in (one, other)
    ]
    return float(np.linalg.norm(at[0] - at[1]))


def contrast(one: str, other: str) -> float:
    """By WCAG."""
    dark, light = sorted(float(np.dot([0.2126, 0.7152, 0.0722], linear(colour))) for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("sight", SIGHT)
def test_twelve_rows_have_colours_that_everybody_tells_apart(sight: str) -> None:
    assert len({*figures.COLOURS}) == 12
    assert min(far(one, other, sight) for one, other in itertools.combinations(figures.COLOURS, 2)) > 0.07


@pytest.mark.parametrize("ground", ["#ffffff", "#14171b"])
def test_a_colour_is_seen_on_light_and_on_dark_ground(ground: str) -> None:
    assert min(contrast(colour, ground) for colour in figures.COLOURS) > 1.9


def test_matplotlibs_own_ten_would_not_do() -> None:
    """The mutant."""
    tab = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22"]
    assert min(far(one, other, sight) for sight in SIGHT for one, other in itertools.combinations(tab, 2)) < 0.05


def test_the_second_dozen_differs_in_its_lines() -> None:
    names = [f"row {number}" for number in range(18)]
    drawn = figures.curves({name: [[{"loss": 1.0}, {"loss": 0.5}]] for name in ("baseline", *names)})
    looks = {line.get_label(): (line.get_color(), line.get_linestyle()) for line in drawn.axes[0].lines}
    assert len({looks[name] for name in names}) == 18 and looks["row 5"][1] != looks["row 6"][1]


def side(axes: Axes, value: float) -> float:
    """Where on its panel a value is drawn, from left 0 to right 1."""
    return float(axes.transAxes.inverted().transform(axes.transData.transform((value, 0)))[0])


def test_right_is_better_in_every_panel_of_a_score_and_the_title_says_where_the_axis_is_turned() -> None:
    rows = {"a": Interval(-2.0, -3.0, -1.0, True, 0.5), "b": Interval(1.0, 0.5, 1.5, False)}
    drawn = figures.intervals({"POPE": Panel(rows, 1), "CHAIR": Panel(rows, -1), "words": Panel(rows, 0)})
    pope, chair, words = drawn.axes[:3]
    assert side(pope, 1.0) > side(pope, 0) > side(pope, -2.0)
    assert side(chair, -2.0) > side(chair, 0) > side(chair, 1.0)
    assert side(words, 1.0) > side(words, -2.0)
    for axes, better in ((pope, 1.0), (chair, -2.0)):
        shade = axes.patches[-1]
        ends = sorted(side(axes, end) for end in (shade.get_x(), shade.get_x() + shade.get_width()))
        assert ends == pytest.approx([side(axes, 0), 1.0]) and ends[0] < side(axes, better) < ends[1]
    titles = [axes.get_title(loc="left") for axes in drawn.axes[:3]]
    assert titles == ["POPE", "CHAIR (less is better: axis turned)", "words (no score)"]
    assert len(words.patches) == 1  # the grey bar, and no shade


def test_a_grey_bar_holds_what_could_not_be_seen() -> None:
    rows = {"a": Interval(2.0, 1.0, 3.0, True, 0.5), "b": Interval(2.0, 1.0, 3.0, True), "c": figures.NO_INTERVAL}
    axes = figures.intervals({"x": Panel(rows)}).axes[0]
    [bar] = axes.patches[:-1]
    assert (bar.get_x(), bar.get_width(), bar.get_y() + bar.get_height() / 2) == (-0.5, 1.0, 0)


def test_a_difference_that_cannot_be_seen_at_all_does_not_shrink_those_that_are() -> None:
    rows = {"a": Interval(2.0, 1.0, 3.0, True, 500.0)}
    axes = figures.intervals({"x": Panel(rows)}).axes[0]
    assert axes.get_xlim()[1] < 10


def test_the_tables_own_columns_say_which_way_is_better() -> None:
    findings = build(run([("nsft", "nSFT", 0.2)]), NINE, ["nsft"], SETTING, 200)
    drawn = plots.intervals(findings)
    assert drawn is not None
    [panels] = drawn.args  # type: ignore[attr-defined]
    found = {column.label: column for column in findings.columns}
    for title, panel in panels.items():
        if title in found:
            assert panel.better == (0 if found[title].beside else -1 if found[title].lower else 1)
    assert {panel.better for panel in panels.values()} == {0, 1, -1}
    cell = findings.rows[1].cells[findings.columns.index(found["POPE"])]
    assert panels["POPE"].rows["nSFT"] == Interval(cell.delta, cell.low, cell.high, cell.resolved, cell.detectable)
    assert math.isfinite(cell.detectable)


def test_the_lens_takes_no_methods_colour_for_chosen_and_rejected_and_the_methods_for_its_bars() -> None:
    ends = {"before/chosen": -2.0, "after/chosen": -1.0, "before/rejected": -2.0, "after/rejected": -5.0}
    drawn = figures.lens({"a": {**ends, "log_t2_t1": -3.0}, "b": {**ends, "log_t2_t1": -1.0}}, {"count": {"b": 9.0}})
    assert not {line.get_color() for line in drawn.axes[0].lines} & {*figures.COLOURS}
    assert len({(line.get_color(), line.get_linestyle()) for line in drawn.axes[0].lines[::3]}) == 2
    bars = [to_rgb(bar.get_facecolor()) for bar in drawn.axes[1].patches]
    assert bars == [to_rgb(colour) for colour in figures.COLOURS[:2]]
    assert to_rgb(drawn.axes[2].patches[0].get_facecolor()) == bars[1]


def test_a_figure_is_a_pdf_too_that_depends_on_nothing_else() -> None:
    first, again = (figures.picture(lambda: figures.intervals({"x": Panel({})}), "mini").pdf for _ in range(2))
    assert first == again and first.startswith(b"%PDF-") and b"CreationDate" not in first
