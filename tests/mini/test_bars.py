"""A bar fails a base that is blind, saturated, or invents at random."""

import math
import random

from harness.mini.bars import BARS, plausible
from harness.mini.language import detail, imagine
from harness.mini.world import CATEGORIES, scene

SCENES = [scene(f"benchmark/0/{number}") for number in range(200)]


def test_what_a_blind_model_scores_fails_the_bar() -> None:
    pope = BARS[0]
    assert pope.holds(84.0, 60.0)
    assert not pope.holds(84.0, 70.0)  # its prior alone gets nearly as far
    assert not pope.holds(95.0, 50.0)  # nothing left to correct
    assert not pope.holds(70.0, 50.0)


def test_captions_of_a_blank_image_may_name_nothing() -> None:
    chair = next(bar for bar in BARS if bar.name == "CHAIR_i")
    assert chair.holds(20.0, math.nan)
    assert not BARS[0].holds(84.0, math.nan)


def test_partners_put_into_captions_are_plausible() -> None:
    rng = random.Random(0)
    captions = [detail(imagine(seen, rng, 0.0, 0.0, 0.7)) for seen in SCENES]
    assert plausible(SCENES, captions) > 30


def test_objects_invented_at_random_are_not() -> None:
    rng = random.Random(0)
    captions = [f"There is a {rng.choice([c for c in CATEGORIES if c not in s.categories()])}." for s in SCENES]
    assert abs(plausible(SCENES, captions)) < 10


def test_captions_without_an_error_have_nothing_plausible() -> None:
    assert plausible(SCENES, [detail(seen) for seen in SCENES]) == 0


def test_a_critic_that_tosses_a_coin_fails_the_bar() -> None:
    bar = BARS[-1]
    assert bar.holds(68.0, math.nan)
    assert not bar.holds(50.0, math.nan)
