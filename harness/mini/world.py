"""The drawn world: what a scene and a book cover consist of, each a pure function of its name.

Things co-occur by place and by partner, as in photographs. That is what lets a model guess instead of look,
and so hallucinate: the error that alignment is meant to correct.
"""

import hashlib
import random
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

GRID = 4  # an image is GRID x GRID cells; a cell is one patch of the vision tower
LOCATIONS = ("kitchen", "office", "beach", "park", "street")
WEATHER = ("sunny", "rainy", "cloudy")
SIZES = ("small", "large")
POSITIONS = ("left", "center", "right")
COUNTS = (1, 2, 3)
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 220),
    "yellow": (240, 220, 50),
    "purple": (150, 60, 190),
    "orange": (245, 140, 30),
    "white": (245, 245, 245),
    "black": (25, 25, 25),
}


class Category(NamedTuple):
    """A kind of thing: its plural, where it is at home, what it tends to come with, and what it may do."""

    plural: str
    homes: tuple[str, ...]
    partner: str
    actions: tuple[str, ...] = ()


CATEGORIES = {
    "table": Category("tables", ("kitchen", "office"), "chair"),
    "chair": Category("chairs", ("kitchen", "office"), "table"),
    "cup": Category("cups", ("kitchen", "office"), "bottle"),
    "bottle": Category("bottles", ("kitchen", "beach"), "cup"),
    "book": Category("books", ("office",), "lamp"),
    "lamp": Category("lamps", ("office", "street"), "clock"),
    "clock": Category("clocks", ("office", "kitchen"), "book"),
    "umbrella": Category("umbrellas", ("beach", "street"), "ball"),
    "ball": Category("balls", ("beach", "park"), "dog"),
    "boat": Category("boats", ("beach",), "umbrella"),
    "tree": Category("trees", ("park", "street"), "bench"),
    "bench": Category("benches", ("park", "street"), "tree"),
    "dog": Category("dogs", ("park", "street"), "ball", ("sitting", "running")),
    "cat": Category("cats", ("kitchen", "park"), "bird", ("sleeping", "walking")),
    "bird": Category("birds", ("park", "beach"), "boat", ("flying", "standing")),
    "car": Category("cars", ("street",), "bench"),
}
# Groups of look-alikes, so that reading a sign needs every letter.
SIGNS = tuple(
    "BAND BANK BATH BUSY CAFE CAKE CARE CASH EDIT EXIT FOLK FOOD FOOT FORK HALL HELP HOME MALL MEAL MEAT MENU "
    "NEWS NEXT NOON OPEN OVEN OVER PACK PART PORT POST RENT REST RIDE RING SAFE SALE SALT SHIP SHOP SLIP SOLD "
    "STEP STOP TAXI TOLL TOUR TOWN WALK WALL WASH WORK".split()
)
FIRST = tuple(
    "Ancient Bitter Broken Distant Endless Frozen Golden Hidden Lonely Magic Perfect Secret Silent Simple "
    "Sudden Winter".split()
)
SECOND = tuple(
    "Answer Castle Desert Dreams Empire Forest Garden Island Letter Market Meadow Mirror Palace Shadow Summer "
    "Valley".split()
)
AUTHORS = tuple(
    "Baker Carter Cooper Dalton Fisher Foster Harris Hunter Keller Mason Miller Nolan Parker Turner Walker "
    "Weaver".split()
)
GENRES = {  # and the figure that a cover of the genre bears
    "cooking": "cup",
    "history": "clock",
    "mystery": "cat walking",
    "nature": "tree",
    "sports": "ball",
    "travel": "boat",
}
SIGN_SHARE = 0.5
PARTNER = 0.5  # chance that the next thing is the partner of the last one
STRAY = 0.1  # weight of a thing away from its homes, where a thing at home weighs 1


@dataclass(frozen=True, slots=True)
class Thing:
    """A group of equal things in one third of the image; `cells` are numbered row by row."""

    category: str
    colour: str
    size: str
    count: int
    position: str
    action: str | None
    cells: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that is true of a drawn scene; a sign hangs over two cells of the top row from `sign_cell`."""

    name: str
    location: str
    weather: str
    sign: str | None
    sign_cell: int
    things: tuple[Thing, ...]

    def thing(self, category: str) -> Thing | None:
        """The things of that category, or None where there are none."""
        return next((thing for thing in self.things if thing.category == category), None)

    def categories(self) -> tuple[str, ...]:
        """The categories present, in the order of `CATEGORIES`."""
        return tuple(thing.category for thing in self.things)


@dataclass(frozen=True, slots=True)
class Cover:
    """Everything that is true of a drawn book cover."""

    name: str
    title: str
    author: str
    genre: str


def seed_of(name: str) -> int:
    """The seed that a name stands for: names in different namespaces never share one."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest(), "big")


def position_of(cell: int) -> str:
    """Which third of the image a cell lies in; the two middle columns are the center."""
    return ("left", "center", "center", "right")[cell % GRID]


def in_order(things: Iterable[Thing]) -> tuple[Thing, ...]:
    """The things in the order in which they are named: that of `CATEGORIES`."""
    order = list(CATEGORIES)
    return tuple(sorted(things, key=lambda thing: order.index(thing.category)))


def home(category: str, location: str) -> bool:
    """Whether things of the category are usual at the location."""
    return location in CATEGORIES[category].homes


def _categories(rng: random.Random, location: str) -> list[str]:
    names = list(CATEGORIES)
    weights = [1.0 if home(name, location) else STRAY for name in names]
    wanted = rng.choices((3, 4, 5), (0.35, 0.4, 0.25))[0]
    chosen: list[str] = []
    while len(chosen) < wanted:
        partner = CATEGORIES[chosen[-1]].partner if chosen else ""
        if partner and partner not in chosen and rng.random() < PARTNER:
            chosen.append(partner)
            continue
        name = rng.choices(names, weights)[0]
        if name not in chosen:
            chosen.append(name)
    return chosen


def _thing(rng: random.Random, category: str, free: list[int]) -> Thing:
    third = rng.choice(POSITIONS)
    if not any(position_of(cell) == third for cell in free):
        third = position_of(free[0])
    count = rng.choices(COUNTS, (0.6, 0.25, 0.15))[0]
    cells = [cell for cell in free if position_of(cell) == third][:count]
    for cell in cells:
        free.remove(cell)
    actions = CATEGORIES[category].actions
    colour, size = rng.choice(tuple(COLOURS)), rng.choice(SIZES)
    action = rng.choice(actions) if actions else None
    return Thing(category, colour, size, len(cells), third, action, tuple(sorted(cells)))


def scene(name: str) -> Scene:
    """The scene of that name, e.g. "benchmark/0/17"."""
    rng = random.Random(seed_of(name))
    location, weather = rng.choice(LOCATIONS), rng.choice(WEATHER)
    sign = rng.choice(SIGNS) if rng.random() < SIGN_SHARE else None
    sign_cell = rng.randrange(GRID - 1)
    free = list(range(GRID * GRID))
    if sign:
        free.remove(sign_cell)
        free.remove(sign_cell + 1)
    rng.shuffle(free)
    things = [_thing(rng, category, free) for category in _categories(rng, location)]
    return Scene(name, location, weather, sign, sign_cell, in_order(things))


def cover(name: str) -> Cover:
    """The book cover of that name."""
    rng = random.Random(seed_of(name))
    title = f"{rng.choice(FIRST)} {rng.choice(SECOND)}"
    return Cover(name, title, rng.choice(AUTHORS), rng.choice(tuple(GENRES)))


def to_json(drawn: Scene | Cover) -> dict[str, Any]:
    """A plain dict that JSON can carry; `from_json` gives the equal scene or cover back."""
    return asdict(drawn)


def from_json(plain: dict[str, Any]) -> Scene | Cover:
    """The scene or cover that `to_json` wrote."""
    if "title" in plain:
        return Cover(**plain)
    things = tuple(Thing(**{**thing, "cells": tuple(thing["cells"])}) for thing in plain["things"])
    return Scene(**{**plain, "things": things})
