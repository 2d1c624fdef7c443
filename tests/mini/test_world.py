"""The drawn world is the same everywhere, and its splits never meet."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np

from harness.mini import world
from harness.mini.draw import draw, pixels

DIGEST = """
import hashlib, json
from harness.mini import world, draw
from harness.mini.tokenizer import words
drawn = [*(world.scene(f"benchmark/0/{n}") for n in range(8)), *(world.cover(f"heldout/0/{n}") for n in range(4))]
facts = json.dumps([world.to_json(one) for one in drawn], sort_keys=True) + repr(words())
print(hashlib.sha256(b"".join(draw.pixels(one).tobytes() for one in drawn)).hexdigest())
print(hashlib.sha256(facts.encode()).hexdigest())
"""
PINNED = [
    "0f153baf63d0b569a2ddd9f40eed5c7d2ad6ea8332aa642ebdc44234180a31be",
    "bf062fb17a0ac1533f01d5f8c05f2c63041466453ead873146ecf790d94145b3",
]


def digests(hash_seed: str) -> list[str]:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run([sys.executable, "-c", DIGEST], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_pixels_facts_and_words_are_pinned_and_independent_of_the_hash_seed():
    assert digests("1") == digests("2") == PINNED


def test_json_gives_the_same_scene_and_cover_back():
    for drawn in (world.scene("base/0/1"), world.cover("base/0/1")):
        assert world.from_json(json.loads(json.dumps(world.to_json(drawn)))) == drawn


def test_splits_and_seeds_share_no_image():
    spaces = [f"{split}/{seed}" for split in ("base", "alignment", "tuning", "benchmark") for seed in (0, 1)]
    images = [
        hashlib.sha256(pixels(world.scene(f"{space}/{n}")).tobytes()).hexdigest() for space in spaces for n in range(40)
    ]
    assert len({*images}) == len(images)


def test_things_fill_their_cells_and_stay_clear_of_the_sign():
    for number in range(300):
        scene = world.scene(f"test/0/{number}")
        cells = [cell for thing in scene.things for cell in thing.cells]
        sign = {scene.sign_cell, scene.sign_cell + 1} if scene.sign else set()
        assert len({*cells}) == len(cells) and not sign & {*cells}
        assert 3 <= len(scene.things) <= 5
        for thing in scene.things:
            assert thing.count == len(thing.cells)
            assert {world.position_of(cell) for cell in thing.cells} == {thing.position}
            assert (thing.action in world.CATEGORIES[thing.category].actions) or thing.action is None


def test_partners_and_homes_co_occur():
    scenes = [world.scene(f"test/0/{number}") for number in range(1000)]
    with_partner = with_other = present = at_home = things = 0
    for scene in scenes:
        for thing in scene.things:
            things += 1
            at_home += world.home(thing.category, scene.location)
            if thing.category == "table":
                present += 1
                with_partner += scene.thing("chair") is not None
                with_other += scene.thing("bird") is not None
    assert at_home / things > 0.6
    assert with_partner / present > 0.5 > 0.2 > with_other / present


def test_a_drawing_is_64_by_64_and_shows_its_colour():
    scene = next(s for s in (world.scene(f"test/0/{n}") for n in range(99)) if s.weather == "sunny")
    image = np.asarray(draw(scene)).astype(int)
    assert image.shape == (64, 64, 3)
    thing = scene.things[0]
    cell = thing.cells[0]
    part = image[cell // 4 * 16 :, cell % 4 * 16 :][:16, :16].reshape(-1, 3)
    assert np.abs(part - world.COLOURS[thing.colour]).max(1).min() < 20
