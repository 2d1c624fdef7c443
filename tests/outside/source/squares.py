"""Plain squares and their colour: a source of one's own whose examples are made by its code."""

import io
from collections.abc import Iterator

from PIL import Image

from harness.contracts.pictures import Pictures
from harness.contracts.records import Example, Turn
from harness.contracts.settings import Reading
from harness.contracts.source import Source

COLOURS = {"red": (200, 0, 0), "green": (0, 160, 0), "blue": (0, 0, 200), "white": (250, 250, 250)}


class Squares(Source):
    """Four colours in six sizes."""

    short_answers = True

    def records(self, reading: Reading) -> Iterator[tuple[str, tuple[str, int]]]:
        """Every colour in every size."""
        for colour in COLOURS:
            for side in range(32, 38):
                yield f"{colour}-{side}", (colour, side)

    def example(self, id: str, record: tuple[str, int], pictures: Pictures, reading: Reading) -> Example:
        """The picture, drawn when it is asked for, and one question about it."""
        colour, side = record
        file = io.BytesIO()
        Image.new("RGB", (side, side), COLOURS[colour]).save(file, "PNG")
        return Example(id, self.name, pictures(file.getvalue()), (Turn("What colour is it?", colour),))
