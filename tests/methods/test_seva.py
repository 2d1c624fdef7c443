"""SeVa: what is said of the clean image against what is said of the noised one."""

import pytest
from scripted import EXAMPLES, Scripted

from harness.contracts.records import Dropped, Example, Pair, Turn
from methods.seva import Seva


@pytest.mark.parametrize("step", [500, 800])
def test_the_clean_view_is_preferred_and_both_are_greedy(step: int) -> None:
    said = Scripted(says=lambda prompt, **how: f"noise {how['noise_step']} heat {how['temperature']:g}")
    first, *_ = Seva(noise_step=step).build(EXAMPLES, said)
    assert isinstance(first, Pair)
    assert (first.chosen, first.rejected) == ("noise 0 heat 0", f"noise {step} heat 0")


def test_identical_views_and_examples_without_an_image_are_dropped_with_the_reason() -> None:
    blind = Example("blind", "local", None, (Turn("Why?", "Because."),))
    dropped = list(Seva().build([EXAMPLES[0], blind], Scripted()))
    assert dropped == [
        Dropped("one", "the same response with and without noise"),
        Dropped("blind", "no image to add noise to"),
    ]
