"""Pixels of a scene or a cover: integer arithmetic throughout, so that every machine draws the same bytes.

Shapes, letters and noise are our own (no font file, no drawing library, no float), because those of a library
change with its version, and a changed pixel would change every result.
"""

import hashlib
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.mini.glyphs import LETTERS, SHAPES
from harness.mini.world import COLOURS, GENRES, GRID, Cover, Scene

SIDE = 64  # pixels of an image
CELL = SIDE // GRID
PIXELS = {"small": 9, "large": 15}  # side of a drawn thing
FINE = 4  # subpixels per pixel when a shape is rasterized
GROUND = {
    "kitchen": (205, 190, 165),
    "office": (175, 185, 195),
    "beach": (225, 210, 150),
    "park": (135, 190, 120),
    "street": (140, 140, 145),
}
FALL, DROP = np.arange(6), np.array((120, 150, 255), np.int32)  # the steps of a drop of rain, and its colour
NOISE = 20  # in 1/256 of a sum of two bytes: a standard deviation of 8 grey levels
Pixels = NDArray[np.int32]


class _Bytes:
    """A stream of bytes that depends on a name only."""

    def __init__(self, name: str, size: int) -> None:
        self.data = np.frombuffer(hashlib.shake_128(name.encode()).digest(size), np.uint8).astype(np.int32)
        self.at = 0

    def take(self, count: int) -> Pixels:
        self.at += count
        return self.data[self.at - count : self.at]

    def below(self, bound: int) -> int:
        return int(self.take(1)[0]) * bound >> 8


def _inside(shape: str, points: tuple[int, ...], side: int) -> NDArray[np.bool_]:
    """Which subpixels of a box of `side` pixels a shape covers; `points` are percent of the box."""
    unit = 2 * side * FINE
    middle = (2 * np.arange(side * FINE, dtype=np.int64) + 1) * 100
    x, y = middle[None, :], middle[:, None]
    if shape == "polygon":  # convex, in either direction
        corners = [(a * unit, b * unit) for a, b in zip(points[::2], points[1::2], strict=True)]
        edges = zip(corners, corners[1:] + corners[:1], strict=True)
        turns = [(bx - ax) * (y - ay) - (by - ay) * (x - ax) for (ax, ay), (bx, by) in edges]
        signs = np.sign(np.stack(np.broadcast_arrays(*turns)))
        filled: NDArray[np.bool_] = (signs.min(0) >= 0) | (signs.max(0) <= 0)
        return filled
    left, top, right, bottom = points
    if shape == "box":
        return (x >= left * unit) & (x < right * unit) & (y >= top * unit) & (y < bottom * unit)
    wide, high = right - left, bottom - top
    across, down = (2 * x - (left + right) * unit) * high, (2 * y - (top + bottom) * unit) * wide
    inside: NDArray[np.bool_] = across**2 + down**2 <= (wide * high * unit) ** 2
    return inside


@lru_cache(maxsize=256)
def _sprite(figure: str, side: int) -> tuple[Pixels, Pixels]:
    """Sixteenths of each pixel that the colour and the trim of a figure cover."""
    ink = np.zeros((side * FINE, side * FINE), np.int32)
    for shape in SHAPES[figure]:
        ink[_inside(shape.kind, shape.points, side)] = 2 if shape.trim else 1
    blocks = ink.reshape(side, FINE, side, FINE)
    return (blocks == 1).sum((1, 3), dtype=np.int32), (blocks == 2).sum((1, 3), dtype=np.int32)


def _stamp(image: Pixels, figure: str, colour: str, side: int, x: int, y: int) -> None:
    main, trim = _sprite(figure, side)
    area = image[y : y + side, x : x + side]
    edge = np.array((200, 200, 200) if colour == "black" else (60, 40, 30), np.int32)
    inks = main[..., None] * np.array(COLOURS[colour], np.int32) + trim[..., None] * edge
    area[:] = (area * (16 - main - trim)[..., None] + inks + 8) // 16


@lru_cache(maxsize=512)
def _word(text: str, scale: int) -> NDArray[np.bool_]:
    """Where the letters of a word have ink, 3 x 5 each at scale 1, one column apart."""
    columns = [f"{column:05b}" for letter in text.upper() for column in (*LETTERS[letter], 0)][:-1]
    ink = np.array([[mark == "1" for mark in column] for column in columns]).T
    return ink.repeat(scale, axis=0).repeat(scale, axis=1)


def _write(image: Pixels, text: str, scale: int, x: int, y: int, colour: tuple[int, int, int]) -> None:
    ink = _word(text, scale)
    image[y : y + ink.shape[0], x : x + ink.shape[1]][ink] = colour


def _ground(location: str, rng: _Bytes) -> Pixels:
    base = np.array(GROUND[location], np.int32) + np.array([rng.below(31) - 15 for _ in range(3)], np.int32)
    image = np.broadcast_to(base, (SIDE, SIDE, 3)).copy()
    dark = base - 28
    if location == "kitchen":
        image[::12] = dark
        image[:, ::12] = dark
    elif location == "office":
        image[:, ::10] = dark
    elif location == "beach":
        image[:CELL] = (150, 200, 235)
    elif location == "park":
        for _ in range(25):
            x, y = rng.below(SIDE), rng.below(SIDE - 3)
            image[y : y + 4, x] = dark
    else:
        image[8::16] = (220, 220, 120)
    return image


def _weather(image: Pixels, weather: str, rng: _Bytes) -> None:
    if weather == "cloudy":
        image[:] = image * 9 // 16
    elif weather == "rainy":
        image[:] = (image * 13 + np.array((0, 64, 320), np.int32)) // 16
        for _ in range(14):
            x, y = rng.below(SIDE - 2) + 2, rng.below(SIDE - 6)
            drop = y + FALL, x - FALL // 3
            image[drop] = (image[drop] * 6 + DROP * 10) // 16


def _sign(image: Pixels, text: str, cell: int, rng: _Bytes) -> None:
    """A plate over two cells; half of the signs are written small."""
    scale = 1 + rng.below(2)
    wide, high = 15 * scale + 2, 5 * scale + 4
    x = cell * CELL + (2 * CELL - wide) // 4 * rng.below(5)
    y = rng.below(3)
    image[y : y + high, x : x + wide] = (250, 250, 250)
    image[[y, y + high - 1], x : x + wide] = 0
    _write(image, text, scale, x + 1, y + 2, (30, 30, 30))


def _draw_scene(scene: Scene, rng: _Bytes) -> Pixels:
    image = _ground(scene.location, rng)
    for thing in scene.things:
        side = PIXELS[thing.size]
        figure = f"{thing.category} {thing.action}" if thing.action else thing.category
        for cell in thing.cells:
            slack = CELL - side
            x, y = (min(slack, max(0, slack // 2 + rng.below(5) - 2)) for _ in range(2))
            _stamp(image, figure, thing.colour, side, cell % GRID * CELL + x, cell // GRID * CELL + y)
    if scene.sign:
        _sign(image, scene.sign, scene.sign_cell, rng)
    _weather(image, scene.weather, rng)
    return image


def _draw_cover(cover: Cover, rng: _Bytes) -> Pixels:
    paper = np.array([rng.below(110) + 130 for _ in range(3)], np.int32)
    image = np.broadcast_to(paper, (SIDE, SIDE, 3)).copy()
    for row, word in enumerate((*cover.title.split(), cover.author)):
        _write(image, word, 2, 1, row * CELL + 2 + rng.below(3), (30, 30, 40))
    colour = tuple(COLOURS)[rng.below(len(COLOURS))]
    for column in (0, 1, 2, 3):
        _stamp(image, GENRES[cover.genre], colour, 13, column * CELL + 1, 3 * CELL + 1)
    return image


def pixels(drawn: Scene | Cover) -> NDArray[np.uint8]:
    """The image as rows of RGB bytes."""
    rng = _Bytes(drawn.name, 256 + SIDE * SIDE * 3 * 2)
    image = _draw_scene(drawn, rng) if isinstance(drawn, Scene) else _draw_cover(drawn, rng)
    rng.at = 256
    grain = rng.take(SIDE * SIDE * 3 * 2).reshape(2, SIDE, SIDE, 3).sum(0) - 255
    noisy: NDArray[Any] = np.clip(image + (grain * NOISE >> 8), 0, 255)
    return noisy.astype(np.uint8)


def draw(drawn: Scene | Cover) -> Image.Image:
    """The picture, 64 x 64."""
    return Image.fromarray(pixels(drawn))
