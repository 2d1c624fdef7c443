"""What the scaling page is made of: an exponent tells a linear curve from another, and the page keeps its words."""

from pathlib import Path

import pytest

from tests.perf import scaling
from tests.perf.scaling import BEGIN, END, PAGE, Curve, curves, written


@pytest.mark.parametrize("power", [0.5, 1, 2])
def test_an_exponent_is_the_power_that_was_taken(power: float) -> None:
    assert Curve("x", "y", (1, 10, 100), [3 * n**power for n in (1, 10, 100)]).exponent == pytest.approx(power)


def test_the_page_keeps_its_words_and_changes_its_table(tmp_path: Path) -> None:
    page, found = tmp_path / "performance.md", [Curve("a plan", "rows", (1, 2), (0.5, 1.0))]
    page.write_text(f"# Words\n{BEGIN}\nold\n{END}\nafter\n")
    written(found, page)
    text, drawing = page.read_text(), (tmp_path / scaling.DRAWING.name).read_bytes()
    assert "old" not in text and text.startswith("# Words\n") and text.endswith("\nafter\n")
    assert "| a plan | rows | 1 · 2 | 0.5 · 1 | 1.00 |" in text
    written(found, page)
    assert (tmp_path / scaling.DRAWING.name).read_bytes() == drawing
    assert PAGE.read_text().count(BEGIN) == PAGE.read_text().count(END) == 1


@pytest.mark.heavy
def test_every_curve_is_measured(tmp_path: Path) -> None:
    """At a hundredth of their sizes; the seconds say nothing."""
    found = list(curves(tmp_path, 0.01))
    by = {"records", "items", "stages", "rows", "seeds", "methods", "questions on a picture", "tokens of an answer"}
    assert {one.by for one in found} == by
    assert all(min(one.took) > 0 for one in found)
    [read] = [one for one in found if one.by == "questions on a picture"]
    assert read.exponent < 0.1, "a picture is read once, however many questions are on it; again for each, it is near 1"
