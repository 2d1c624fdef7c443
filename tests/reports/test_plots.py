"""What Figures 4 and 6 show of scored runs: every benchmark on its own scale, and none that is withheld."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from worlds import NINE, SETTING, Fake, run

from reports import figures, plots
from reports.outcomes import Outcome
from reports.tabulate import build


def test_scaling_takes_totals_by_size_and_the_mean_of_the_nine_at_the_largest() -> None:
    points = []
    for n, gain in ((500, 0.2), (250, 0.1)):
        outcomes = run([("nsft", "nSFT", gain)])
        points.append((n, "llava150k", build(outcomes, NINE, ["nsft"], SETTING, 20), outcomes, NINE))
    drawn = plots.scaling(points)
    assert drawn is not None
    panels, average, without = drawn.args  # type: ignore[attr-defined]
    assert not without
    assert list(panels) == ["VQA", "Comprehension", "Hallucination"]
    assert [n for n, *_ in panels["VQA"]["nSFT"]] == [500, 250]
    assert average["LLaVA-150k"]["nSFT"] == pytest.approx(plots.level("nsft", points[0][3], NINE))
    assert plots.scaling([(250, "x", build([], {}, [], SETTING, 20), [], {})]) is None


def test_a_benchmark_counts_by_the_best_that_it_can_be_with_its_options() -> None:
    """All right is 100: MME of two subtasks was divided by the 2,000 of ten."""
    few = {**NINE, "mme": Fake("mme", subtasks=("existence", "count", "code_reasoning"))}
    assert few["mme"].ends == (0.0, 400.0)
    right = [replace(o, units=[replace(u, parts={"right": 1.0, "n": 1.0}) for u in o.units]) for o in run([])]
    assert plots.level("baseline", right, few) == pytest.approx(100)
    assert plots.level("baseline", [o for o in right if o.benchmark != "mme"], few) != 100  # NaN: it is not there


def thinly_judged(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes, but nSFT's on MMHal have verdicts on half of the units, the good ones."""
    return [
        replace(o, units=o.units[::2], unscored=len(o.units) // 2)
        if (o.method, o.benchmark) == ("nsft", "mmhal")
        else o
        for o in outcomes
    ]


def test_a_benchmark_that_a_row_has_too_few_verdicts_of_is_in_no_mean_and_no_distribution() -> None:
    whole = run([("nsft", "nSFT", 0.2)])
    outcomes = thinly_judged(whole)
    point = (250, "llava150k", build(outcomes, NINE, ["nsft"], SETTING, 20), outcomes, NINE)
    drawn = plots.scaling([point])
    assert drawn is not None
    _, average, without = drawn.args  # type: ignore[attr-defined]
    assert without == ["MMHal"]
    for row, label in (("baseline", "LLaVA-1.5-7B"), ("nsft", "nSFT")):
        rest = [plots.level(row, whole, NINE, set(plots.NINE) - {name}) for name in plots.NINE if name != "mmhal"]
        assert average["LLaVA-150k"][label] == pytest.approx(sum(rest) / 8)
    svg = figures.picture(drawn, "mini").svg.decode()
    assert "mean of 8, 0 to 100" in svg and "left out, too few verdicts: MMHal" in svg
    drawn = plots.distribution(outcomes, NINE)
    assert drawn is not None
    panels, without = drawn.args  # type: ignore[attr-defined]
    assert (list(panels), without) == (["MM-Vet"], ["MMHal"])
    assert "left out, too few verdicts: MMHal" in figures.picture(drawn, "mini").svg.decode()
    assert plots.distribution(outcomes, {"mmhal": NINE["mmhal"]}) is None


def test_withheld_cells_in_a_mean_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "withheld", lambda *given: "")
    with pytest.raises(AssertionError):
        test_a_benchmark_that_a_row_has_too_few_verdicts_of_is_in_no_mean_and_no_distribution()
