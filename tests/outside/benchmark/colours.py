"""Which colour a plain picture has: a benchmark of one's own, right where the response names the colour."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from harness.contracts.benchmark import Benchmark, Files, Group, Images, Metric, Published, Totals, ratio
from harness.contracts.judge import Judge
from harness.contracts.records import Item, Response, Score
from harness.system.errors import UsageError

QUESTION = "What color is the image?"


@dataclass(frozen=True)
class Colours(Benchmark):
    """One picture, one word."""

    strict: bool = field(default=False, metadata={"help": "the response is the colour and nothing else"})

    label: ClassVar[str] = "COL"
    group: ClassVar[Group] = "vqa"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("colours/all", "COL", (0.0, 100.0)),)
    max_new_tokens: ClassVar[int] = 128
    layout: ClassVar[str] = "questions.json, a list of {id, image, answer}, and the pictures that it names"
    official_n: ClassVar[int] = 0  # nobody has published a set
    protocol: ClassVar[str] = "short answer"

    def items(self, folder: Path, images: Images) -> Iterator[Item]:
        """A question per picture, in the file's order."""
        file = folder / "questions.json"
        if not file.is_file():
            raise UsageError(f"there is no {file}; wanted: {self.layout}.")
        for row in json.loads(file.read_text(encoding="utf-8")):
            image = images.at(folder / row["image"])
            yield Item(row["id"], image, QUESTION, row["id"], {"answer": row["answer"]})

    def score(self, item: Item, response: Response, judge: Judge | None) -> Score:
        """Parts that can be added up: how many right, of how many."""
        said, answer = response.text.strip(" .\n").lower(), item.facts["answer"]
        right = said == answer if self.strict else answer in said.split()
        return Score(item.id, {"correct": float(right), "n": 1.0})

    def compute(self, totals: Totals) -> dict[str, Any]:
        """The share that is right, in percent."""
        return {"colours/all": ratio(totals["correct"], totals["n"])}

    def published(self, files: Files) -> Published:
        """For `harness score colours`: the questions, and answers as {id: text}."""
        rows = json.loads(files.one("questions").read_text(encoding="utf-8"))
        said = json.loads(files.one("answers").read_text(encoding="utf-8"))
        items = [Item(row["id"], None, QUESTION, row["id"], {"answer": row["answer"]}) for row in rows]
        return Published(items, [Response(id, text, 0) for id, text in said.items()])
