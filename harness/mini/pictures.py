"""The pictures of a drawn set, and a question about one with its options."""

import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import count, islice
from pathlib import Path
from typing import Any

from harness.mini import opensets
from harness.mini import questions as ask
from harness.mini.sources import png
from harness.mini.world import Scene, scene, seed_of, to_json


class Pictures:
    """The scenes of one set; draws into its folder and remembers what each image shows."""

    def __init__(self, folder: Path, space: str) -> None:
        self.folder = folder
        self.space = space
        self.lines: list[str] = []

    def scenes(self, n: int, signs: bool = False) -> Iterator[tuple[str, Scene]]:
        """The first `n` scenes (those with a sign, if asked for), each with the name its image gets."""
        every = ((f"{number:06d}", scene(f"{self.space}/{number}")) for number in count())
        return islice((pair for pair in every if pair[1].sign or not signs), n)

    def data(self, seen: Scene, file: str) -> bytes:
        """The image as a PNG file that `scenes.jsonl` lists under the name `file`."""
        data = _png(seen)
        record = {"image": file, "sha256": hashlib.sha256(data).hexdigest(), "scene": to_json(seen)}
        self.lines.append(json.dumps(record, sort_keys=True) + "\n")
        return data

    def draw(self, seen: Scene, file: str) -> str:
        """Write the image into the folder; returns its name without folders."""
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.data(seen, file))
        return path.name

    def write(self, file: str, text: str) -> None:
        """Write a text file into the folder."""
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")

    def json(self, file: str, content: object) -> None:
        """Write a JSON file into the folder."""
        self.write(file, json.dumps(content, indent=1) + "\n")

    def lines_of(self, file: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write records, a line each."""
        self.write(file, "".join(json.dumps(row) + "\n" for row in rows))


@lru_cache(maxsize=1000)  # 12 MB
def _png(seen: Scene) -> bytes:
    """`png`, remembered: the sets of a comparison's benchmarks show the same scenes."""
    return png(seen)


def random_of(benchmark: str, seen: Scene) -> random.Random:
    """What is left to chance in a benchmark's question about a scene."""
    return random.Random(seed_of(f"{benchmark}/{seen.name}"))


def multiple_choice(
    seen: Scene, rng: random.Random, kinds: tuple[str, ...], wrong: tuple[int, ...]
) -> tuple[ask.Question, list[str], str]:
    """A question with one true and some wrong options, and the true one's letter; `wrong` are their numbers."""
    kind = rng.choice([kind for kind in kinds if kind != "sign" or seen.sign])
    question = opensets.asked(seen, rng, kind)
    pool = list(ask.alternatives(question))
    if question.kind in ("object", "beside"):
        pool = ask.absent_objects(seen)
    listed, letter = ask.options(question, rng.sample(pool, min(len(pool), rng.choice(wrong))), rng)
    return question, listed, letter
