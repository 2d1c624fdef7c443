"""SEED-Bench (v1), image part. Rules of LLaVA `convert_seed_for_submission.py`; prompt of its SEED question file.

Traps: figures called "SEED" may mix the video questions in (61.6 where the image part has 68.2). SEED's own protocol
ranks the options by likelihood, which does not compare with letters. The official parse wants the letter alone;
lmms-eval takes the first character whatever follows, so that "A man" is A.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from benchmarks import _parquet
from benchmarks._files import name_of, parsed, picture, read_json, records, required, said
from benchmarks._groups import means, tally
from benchmarks._parses import choice
from harness.contracts.benchmark import Benchmark, Files, Group, Images, Metric, Published, Totals, ratio
from harness.contracts.judge import Judge
from harness.contracts.offered import Hub
from harness.contracts.records import Image, Item, Response, Score, Unscored
from harness.contracts.wordings import OPTION_LETTER
from harness.system.errors import UsageError

LETTERS = "ABCD"
PARTS = ("image", "video", "all")
ANSWER = ("answer", "gt_answer")


@dataclass(frozen=True)
class Seed(Benchmark):
    """The response must be the right letter and nothing else.

    `part="all"` or "video" is for published answers only. Beyond `metrics`, `compute` gives
    "seed/type/<question type>" for the types in the data.
    """

    part: Literal["image", "video", "all"] = "image"
    hub: str = ""

    label: ClassVar[str] = "SEED^I"
    group: ClassVar[Group] = "comprehension"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("seed/all", "SEED^I", (0.0, 100.0), chance=25.0),
        Metric("seed/all@robust", "SEED^I (any clear choice)", (0.0, 100.0), chance=25.0),
        Metric("seed/valid", "SEED^I letters", (0.0, 100.0)),
    )
    max_new_tokens: ClassVar[int] = 128
    layout: ClassVar[str] = (
        "SEED-Bench.json and SEED-Bench-image/ with a file per data_id, both from "
        "huggingface.co/datasets/AILab-CVC/SEED-Bench. Or the parquet files of lmms-lab/SEED-Bench."
    )
    offered: ClassVar[Hub] = Hub("AILab-CVC/SEED-Bench", ("SEED-Bench.json", "SEED-Bench-image.zip"), "1.7 GB")
    fetch: ClassVar[str] = "unzip -q {home}/SEED-Bench-image.zip -d {home}"
    official_n: ClassVar[int] = 14233
    protocol: ClassVar[str] = "option letter"
    missing_is_wrong: ClassVar[bool] = True

    def items(self, folder: Path, images: Images) -> Iterator[Item]:
        """The image questions in the file's order."""
        if self.part != "image":
            raise UsageError(f"seed.part={self.part}: models are asked about images only.")
        if table := _parquet.rows(folder, self.hub, "test"):
            yield from self._from_rows(table, images)
            return
        held = read_json(folder, "SEED-Bench.json", self.told(folder))
        pictures = required(folder, "SEED-Bench-image", self.told(folder))
        types = _types(held)
        for row in held["questions"]:
            if row["data_type"] == "image":
                path = pictures / row["data_id"]
                yield _item(row, types, images.at(path if path.is_file() else picture(pictures, row["data_id"])))

    def _from_rows(self, table: Iterator[_parquet.Row], images: Images) -> Iterator[Item]:
        """The same questions from lmms-lab/SEED-Bench, which does not name the question types."""
        for row in table:
            if row["data_type"] == "image":
                image = images.of(_parquet.picture(row["image"][0], str(row["question_id"])))
                yield _item(row, {}, image)

    def stratum(self, item: Item) -> str:
        """Its type of question."""
        return str(item.facts.get("type", ""))

    def score(self, item: Item, response: Response, judge: Judge | None) -> Score | Unscored:
        """1 where the response is the letter."""
        text, answer = response.text, item.facts["answer"]
        groups = ["all", *([f"type/{item.facts['type']}"] if item.facts.get("type") else [])]
        said = text if len(text) == 1 and text in LETTERS else None
        lenient = tally(float(choice(text, item.facts["choices"], said) == answer), ["all@robust"])
        valid = tally(float(said is not None), ["valid"])
        return Score(item.id, tally(float(text == answer), groups) | lenient | valid)

    def compute(self, totals: Totals) -> dict[str, Any]:
        """Accuracy in percent, of all and of each question type."""
        return means("seed", totals)

    def published(self, files: Files) -> Published:
        """SEED-Bench.json or a table with the right letters, and answers; or one table with both.

        The letter is in `prediction` or `text`, or in the only column beside the id and the right letter. Answers to
        questions of the other part of SEED-Bench.json are passed over.
        """
        given = files.one("answers")
        path = files.one("questions") if files.questions else given
        rows = records(path, ["question_id"])
        types = _types(parsed(path)) if ".json" in path.suffixes else {}
        parts = [str(row.get("data_type", self.part)) for row in rows]
        if odd := [part for part in parts if part not in PARTS]:
            raise UsageError(f"{path} has a question with the data_type {odd[0]!r}; there are {', '.join(PARTS)}.")
        items = [
            _item({**row, "question_id": name_of(path, n, row["question_id"])}, types, None, said(path, n, row, ANSWER))
            for n, row in enumerate(rows, 1)
        ]
        others = {item.id for item, part in zip(items, parts, strict=True) if self.part not in ("all", part)}
        answers = rows if given == path else records(given, ["question_id"])
        found = [
            Response(name_of(given, n, row["question_id"]), _letter(given, n, row), 0)
            for n, row in enumerate(answers, 1)
        ]
        return Published(
            [item for item in items if item.id not in others], [one for one in found if one.id not in others]
        )

    def official(self, totals: Mapping[str, float]) -> dict[str, float]:
        """Accuracy in percent, and the counts it is made of."""
        right, n = totals["all/sum"], totals["all/n"]
        return {"accuracy": ratio(right, n), "correct": right, "count": n}


def _types(held: Any) -> dict[str, str]:
    """The number of a question type -> its name; none in a file that does not tell."""
    named = held.get("question_type", {}) if isinstance(held, dict) else {}
    return {str(number): name for name, number in named.items()}


def _letter(path: Path, number: int, row: Mapping[str, Any]) -> str:
    """The response in a record."""
    rest = [name for name in row if name not in ("question_id", *ANSWER)]
    return said(path, number, row, ("prediction", "text", *(rest if len(rest) == 1 else [])))


def _item(row: Mapping[str, Any], types: Mapping[str, str], image: Image | None, answer: str = "") -> Item:
    """One question; a table of right letters has no text to ask. UsageError where the right letter is none."""
    id, right = str(row["question_id"]), answer or row["answer"]
    if right not in LETTERS or len(right) != 1:
        raise UsageError(f"SEED question {id} has the answer {right!r}, which is no letter from A to D.")
    choices = {mark: str(row[f"choice_{mark.lower()}"]) for mark in LETTERS if f"choice_{mark.lower()}" in row}
    listed = (f"{mark}. {words}" for mark, words in choices.items())
    prompt = "\n".join([str(row.get("question", "")), *listed]) + OPTION_LETTER
    type = types.get(str(row.get("question_type_id", "")), "")
    return Item(id, image, prompt, id, {"answer": right, "type": type, "choices": choices})
