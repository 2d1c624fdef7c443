"""The figures and letters of the drawn world, as data."""

from typing import NamedTuple


class Shape(NamedTuple):
    """A filled shape: "box" and "oval" by left, top, right, bottom; "polygon" (convex) by its corners.

    Points are percent of the figure's box. A shape with `trim` has the trim colour, others the thing's.
    """

    kind: str
    trim: bool
    points: tuple[int, ...]


def _figure(text: str) -> tuple[Shape, ...]:
    """Shapes from their notation: kind, points, and `*` after the kind for trim."""
    shapes = []
    for part in text.split(";"):
        kind, *points = part.split()
        shapes.append(Shape(kind.rstrip("*"), kind.endswith("*"), tuple(int(point) for point in points)))
    return tuple(shapes)


# Later shapes lie over earlier ones.
SHAPES = {
    name: _figure(text)
    for name, text in {
        "table": "box 0 25 100 45; box 8 45 22 100; box 78 45 92 100",
        "chair": "box 10 0 28 100; box 10 50 85 66; box 68 66 85 100",
        "cup": "oval 50 30 100 76; oval* 62 42 88 64; box 8 20 70 95",
        "bottle": "box 40 0 60 35; box 25 32 75 100; box* 25 55 75 75",
        "book": "box 2 10 98 90; box* 45 10 55 90; box* 12 30 38 38; box* 62 30 88 38",
        "lamp": "polygon 30 5 70 5 100 50 0 50; box* 44 50 56 90; box* 22 88 78 100",
        "clock": "oval 0 0 100 100; box* 45 14 55 55; box* 45 45 80 55",
        "umbrella": ("polygon 50 4 100 52 0 52; polygon 14 20 86 20 100 52 0 52; box* 46 52 55 96; box* 55 88 70 97"),
        "ball": "oval 5 5 95 95",
        "boat": "polygon 0 62 100 62 80 100 20 100; polygon* 48 0 48 58 95 58",
        "tree": "oval 8 0 92 70; box* 40 62 60 100",
        "bench": "box 0 20 100 36; box 0 50 100 66; box* 10 66 22 100; box* 78 66 90 100",
        "car": "box 0 45 100 78; box 22 18 75 46; oval* 8 62 36 96; oval* 64 62 92 96",
        "dog sitting": "polygon 22 98 42 40 68 40 72 98; box 48 10 94 46; box 48 0 60 12; oval* 68 18 80 30",
        "dog running": (
            "box 14 38 78 64; box 64 12 100 46; oval* 78 20 88 30; polygon 14 60 30 60 12 98 0 98; "
            "polygon 62 60 78 60 96 98 82 98; polygon 0 12 8 12 24 42 14 46"
        ),
        "cat sleeping": "oval 5 48 95 100; oval 2 36 44 80; polygon 6 48 10 22 22 42; polygon 40 48 36 22 26 42",
        "cat walking": (
            "oval 20 36 90 74; oval 2 20 44 64; polygon 6 30 6 0 22 24; polygon 40 30 38 0 24 24; "
            "box 26 66 36 100; box 72 66 82 100; polygon 84 44 100 8 94 6 78 40"
        ),
        "bird flying": "polygon 0 10 50 52 50 80; polygon 100 10 50 52 50 80; oval 36 48 64 86; box* 46 80 54 96",
        "bird standing": "oval 20 28 84 72; oval 60 8 96 44; polygon* 92 22 100 28 92 32; box* 46 70 54 100",
    }.items()
}

# Letters as three columns of five rows; the highest bit is the top row.
LETTERS = {
    "A": (0b11111, 0b10100, 0b11111),
    "B": (0b11111, 0b10101, 0b01010),
    "C": (0b11111, 0b10001, 0b10001),
    "D": (0b11111, 0b10001, 0b01110),
    "E": (0b11111, 0b10101, 0b10001),
    "F": (0b11111, 0b10100, 0b10000),
    "G": (0b11111, 0b10001, 0b10111),
    "H": (0b11111, 0b00100, 0b11111),
    "I": (0b10001, 0b11111, 0b10001),
    "J": (0b00011, 0b00001, 0b11111),
    "K": (0b11111, 0b00100, 0b11011),
    "L": (0b11111, 0b00001, 0b00001),
    "M": (0b11111, 0b01000, 0b11111),
    "N": (0b11111, 0b10000, 0b01111),
    "O": (0b11111, 0b10001, 0b11111),
    "P": (0b11111, 0b10100, 0b11100),
    "Q": (0b11110, 0b10010, 0b11111),
    "R": (0b11111, 0b10110, 0b11101),
    "S": (0b11101, 0b10101, 0b10111),
    "T": (0b10000, 0b11111, 0b10000),
    "U": (0b11111, 0b00001, 0b11111),
    "V": (0b11110, 0b00001, 0b11110),
    "W": (0b11111, 0b00010, 0b11111),
    "X": (0b11011, 0b00100, 0b11011),
    "Y": (0b11000, 0b00111, 0b11000),
    "Z": (0b10011, 0b10101, 0b11001),
}
