"""Every word that a verdict or legend leans on is explained, and found by a part of it."""

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.system.errors import UsageError
from reports.glossary import entry, glossary
from reports.outcomes import MAX_UNSCORED
from reports.statistics import LEAST, LEVEL, REPLICATES


@pytest.mark.parametrize(
    "word",
    ["Holm", "sign-flip", "cannot tell", "worse", "interval", "unit", "n/a", "detectable", "total", "format effect"],
)
def test_a_word_of_the_legend_is_explained(word: str) -> None:
    name, about = entry(word)
    assert word.casefold() in name.casefold() and len(about) > 60


def test_an_explanation_fits_the_terminal() -> None:
    for width in (60, 80):
        shown = CliRunner().invoke(app, ["explain", "holm"], env={"COLUMNS": str(width)}).output.splitlines()
        assert shown[:2] == ["Holm's correction", ""] and max(map(len, shown)) <= width
        assert " ".join(shown[2:]) == " ".join(entry("holm")[1].split())


def test_a_mark_is_a_word_too() -> None:
    assert [entry(sign)[0] for sign in "▲▼*"] == ["better, worse", "better, worse", "moved"]


def test_an_unknown_word_names_the_nearest() -> None:
    with pytest.raises(UsageError, match='no single entry "synthetc"; there are: synthetic'):
        entry("synthetc")
    with pytest.raises(UsageError, match="there are: baseline, better, worse"):
        entry("")


def test_the_numbers_in_it_are_those_of_the_code() -> None:
    assert f"Fewer than {LEAST} images" in entry("interval")[1] and f"{REPLICATES:,} times" in entry("interval")[1]
    assert f"more than {MAX_UNSCORED:.0%}".replace("%", " %") in entry("n/a")[1]
    assert f"{LEVEL:.0%}".replace("%", " %") in entry("Holm")[1]


def test_words_stand_once_and_in_order() -> None:
    words = list(glossary())
    assert words == sorted(words, key=str.casefold)
