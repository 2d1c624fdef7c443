"""ScienceQA test. Rules of LLaVA `model_vqa_science.py` (prompt) and `eval_science_qa.py` (score)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from benchmarks import _parquet
from benchmarks._files import read_json, required
from benchmarks._groups import means, tally
from harness.benchmark import Benchmark, Group, Images, Metric, Totals
from harness.judge import Judge
from harness.template import OPTION_LETTER
from harness.types import Item, Response, Score, Unscored

LETTERS = "ABCDE"
FACTS = ("answer", "choices", "subject", "grade")


def parse(text: str) -> str | None:
    """The letter alone, or a letter with ". " at the very start, or one "The answer is X." anywhere."""
    if text and text in LETTERS and len(text) == 1:
        return text
    if len(text) >= 3 and text[0] in LETTERS and text[1:3] == ". ":
        return text[0]
    found = re.findall(r"The answer is ([A-Z]).", text)
    return found[0] if len(found) == 1 else None


def parse_robust(text: str) -> str | None:
    """A letter in any case that begins the response and is followed by nothing or a mark, or the last
    "answer is X".
    """
    first = re.match(r"\W*([A-Ea-e])(?:\s*$|\s*[.:,)])", text)
    said = re.findall(r"answer is:?\s*\(?([A-Ea-e])\b", text, re.IGNORECASE)
    letter = first[1] if first else said[-1] if said else None
    return letter.upper() if letter else None


@dataclass(frozen=True)
class Sqa(Benchmark):
    """Multiple choice. `images_only` keeps the questions with an image, the papers' IMG column.

    Beyond `metrics`, `compute` gives "sqa/all" (IMG and text questions together), "sqa/subject/<subject>" and
    "sqa/grade/<1-6|7-12>".
    """

    images_only: bool = True
    hub: str = ""

    label: ClassVar[str] = "SQA"
    group: ClassVar[Group] = "vqa"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("sqa/img", "SQA", (0.0, 100.0)),
        Metric("sqa/img@robust", "SQA (any clear letter)", (0.0, 100.0)),
    )
    max_new_tokens: ClassVar[int] = 1024
    layout: ClassVar[str] = (
        "problems.json, pid_splits.json and images/test/<id>/image.png, all from github.com/lupantech/ScienceQA. "
        "Or the parquet files of lmms-lab/ScienceQA."
    )

    def items(self, folder: Path, images: Images) -> Iterator[Item]:
        """The problems of the test split, in its order."""
        config = "ScienceQA-IMG" if self.images_only else "ScienceQA-FULL"
        if table := _parquet.rows(folder, self.hub, "test", config):
            yield from self._from_rows(table, images)
            return
        problems = read_json(folder, "problems.json", self.layout)
        for id in read_json(folder, "pid_splits.json", self.layout)["test"]:
            problem = problems[id]
            if not problem.get("image") and self.images_only:
                continue
            pictures = required(folder, "images", self.layout) if problem.get("image") else None
            image = images.at(pictures / "test" / id / problem["image"]) if pictures else None
            facts = {name: problem.get(name) for name in FACTS}
            yield Item(id, image, prompt(problem), id, facts)

    def _from_rows(self, table: Iterator[_parquet.Row], images: Images) -> Iterator[Item]:
        """The same problems from lmms-lab/ScienceQA, which does not tell their ids: there, the row's number."""
        for number, row in enumerate(table):
            id, seen = str(row.get("id", number)), row.get("image")
            image = images.of(_parquet.picture(seen, id)) if seen else None
            if image or not self.images_only:
                yield Item(id, image, prompt(row), id, {name: row.get(name) for name in FACTS})

    def score(self, item: Item, response: Response, judge: Judge | None) -> Score | Unscored:
        """1 for the right letter; a letter beyond the choices is as wrong as none."""
        right = LETTERS[item.facts["answer"]]
        where = "img" if item.image else "text"
        groups = ["all", where]
        if item.facts.get("subject"):
            groups.append(f"subject/{item.facts['subject']}")
        if item.facts.get("grade"):
            grade = int(str(item.facts["grade"]).removeprefix("grade"))
            groups.append("grade/1-6" if grade <= 6 else "grade/7-12")
        robust = tally(float(parse_robust(response.text) == right), [f"{where}@robust"])
        return Score(item.id, tally(float(parse(response.text) == right), groups) | robust)

    def compute(self, totals: Totals) -> dict[str, Any]:
        """Accuracy in percent, of all and of each group."""
        return means("sqa", totals)


def prompt(problem: dict[str, Any]) -> str:
    """The CQM-A format: context where there is a hint, question, options, and the request for a letter."""
    hint = (problem.get("hint") or "").strip()
    listed = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, problem["choices"], strict=False)]
    context = [f"Context: {hint}"] if hint else []
    return "\n".join([*context, problem["question"].strip(), *listed]) + OPTION_LETTER
