"""Figures drawn in a process beside this one are those that are drawn here, whatever becomes of that process."""

import multiprocessing
import os
from functools import partial
from typing import TYPE_CHECKING

import pytest

from reports import figures
from reports.artist import artist
from tests.toy_steps import living

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ONE = partial(figures.intervals, {"SQA": figures.Panel({"nSFT": figures.Interval(1.0, -0.5, 2.5, False, 2.0)})})
OTHER = partial(figures.cost, {"nSFT": {"train": 3.0}}, {"nSFT": (1.5, "cached")})


def dies(home: int) -> "Figure":
    """Ends its process, unless that is `home`."""
    if os.getpid() != home:
        os._exit(9)
    return ONE()


def counted(home: int) -> "Figure":
    """Can be drawn anywhere but at `home`."""
    assert os.getpid() != home
    return ONE()


def fails() -> "Figure":
    raise ZeroDivisionError("a panel without rows")


def test_what_is_drawn_beside_is_byte_for_byte_what_is_drawn_here() -> None:
    with artist() as begun:
        beside = [drawn() for drawn in begun([ONE, OTHER, partial(counted, os.getpid())], "mini (synthetic)")]
    here = [figures.picture(draw, "mini (synthetic)") for draw in (ONE, OTHER, ONE)]
    assert beside == here and beside[0] != beside[1]


def test_what_a_process_that_died_did_not_draw_is_drawn_here_and_what_fails_says_why() -> None:
    with artist() as begun:
        first, failing, dying, last = begun([OTHER, fails, partial(dies, os.getpid()), ONE], "mini")
        assert first() == figures.picture(OTHER, "mini")
        with pytest.raises(ZeroDivisionError, match="a panel without rows"):
            failing()
        assert dying() == last() == figures.picture(ONE, "mini")


def test_nobody_draws_on_for_who_does_not_ask() -> None:
    with pytest.raises(KeyboardInterrupt), artist() as begun:
        begun([ONE] * 20, "mini")
        (process,) = multiprocessing.active_children()
        raise KeyboardInterrupt
    assert not living({process.pid or 0})
