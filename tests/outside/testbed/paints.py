"""A world of one's own: pictures of one colour, with a few dots of another so that no two are the same."""

import json
import random
from pathlib import Path

from PIL import Image

from harness.contracts.testbed_kind import TestbedKind

COLOURS = {"red": (200, 0, 0), "green": (0, 160, 0), "blue": (0, 0, 200), "white": (250, 250, 250)}
QUESTION = "What color is the image?"


def paint(folder: Path, name: str) -> str:
    """Paint the picture of that name; returns its colour."""
    rng = random.Random(name)
    colour = rng.choice(list(COLOURS))
    picture = Image.new("RGB", (64, 64), COLOURS[colour])
    for _ in range(12):
        picture.putpixel((rng.randrange(64), rng.randrange(64)), (rng.randrange(256), rng.randrange(256), 0))
    folder.mkdir(exist_ok=True)
    picture.save(folder / f"{name}.png")
    return colour


class Paints(TestbedKind):
    """Written "./paints.py" as a testbed's `data`."""

    sources = ("llava150k",)
    benchmarks = ("gqa",)

    def draw_source(self, name: str, split: str, seed: int, n: int, out: Path) -> None:
        """LLaVA's file and its pictures."""
        records = []
        for number in range(n):
            id = f"{split}-{seed}-{number}"
            answer = f"The image is {paint(out / 'images', id)}."
            asked = {"from": "human", "value": f"<image>\n{QUESTION}"}, {"from": "gpt", "value": answer}
            records.append({"id": id, "image": f"{id}.png", "conversations": asked})
        (out / "llava150k.json").write_text(json.dumps(records))

    def draw_benchmark(self, name: str, split: str, seed: int, scenes: int, out: Path) -> None:
        """GQA's questions and its pictures."""
        rows = {}
        for number in range(scenes):
            id = f"{split}-{seed}-{number}"
            answer = paint(out / "images", id)
            types = {"structural": "query", "semantic": "attr", "detailed": "colour"}
            rows[id] = {"question": QUESTION, "answer": answer, "imageId": id, "types": types}
        (out / "testdev_balanced_questions.json").write_text(json.dumps(rows))
