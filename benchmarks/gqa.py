"""GQA testdev-balanced. Rules of LLaVA `convert_gqa_for_eval.py` and of GQA's own `eval.py`.

Traps: exact match with one word or phrase, so a sentence is wrong however true it is, and so is a leading blank. Only
the balanced questions count. lmms-eval drops every mark, also inside words.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from benchmarks import _parquet
from benchmarks._files import name_of, parsed, picture, read_json, records, required, said, text_in
from benchmarks._groups import means, tally
from benchmarks._parses import answers, is_phrase
from harness.contracts.benchmark import Benchmark, Files, Group, Images, Metric, Published, Totals, ratio
from harness.contracts.judge import Judge
from harness.contracts.offered import Hub
from harness.contracts.records import Image, Item, Response, Score, Unscored
from harness.contracts.wordings import SHORT_ANSWER
from harness.system.errors import UsageError


def parse(text: str) -> str:
    """The response without its last full stops, in lower case."""
    return text.rstrip(".").lower()


@dataclass(frozen=True)
class Gqa(Benchmark):
    """Exact match with one reference answer.

    Beyond `metrics`, `compute` gives "gqa/binary", "gqa/open", "gqa/structural/<type>" and "gqa/semantic/<type>"
    for the types in the data. Robust is a response whose first sentence holds the answer; valid one that is a phrase.
    """

    hub: str = ""

    label: ClassVar[str] = "GQA"
    group: ClassVar[Group] = "vqa"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("gqa/all", "GQA", (0.0, 100.0)),
        Metric("gqa/all@robust", "GQA (answer in the first sentence)", (0.0, 100.0)),
        Metric("gqa/valid", "GQA phrases", (0.0, 100.0)),
    )
    max_new_tokens: ClassVar[int] = 128
    layout: ClassVar[str] = (
        "testdev_balanced_questions.json and images/, both from the downloads at cs.stanford.edu/people/dorarad/gqa. "
        "Or the parquet files of lmms-lab/GQA."
    )
    offered: ClassVar[Hub] = Hub(
        "lmms-lab/GQA", ("testdev_balanced_instructions/*", "testdev_balanced_images/*"), "67 MB"
    )
    official_n: ClassVar[int] = 12578
    protocol: ClassVar[str] = "short answer"

    def items(self, folder: Path, images: Images) -> Iterator[Item]:
        """The balanced questions, in the file's order."""
        if table := _parquet.rows(folder, self.hub, "testdev", "testdev_balanced_instructions"):
            seen = _parquet.rows(folder, self.hub, "testdev", "testdev_balanced_images")
            yield from self._from_rows(table, seen or iter(()), images)
            return
        pictures = required(folder, "images", self.told(folder))
        for id, row in read_json(folder, "testdev_balanced_questions.json", self.told(folder)).items():
            if row.get("isBalanced", True):
                yield _item(id, row, images.at(picture(pictures, row["imageId"])))

    def _from_rows(
        self, table: Iterator[_parquet.Row], pictures: Iterator[_parquet.Row], images: Images
    ) -> Iterator[Item]:
        """The same questions from lmms-lab/GQA, which has the images in a dataset of their own."""
        seen = {row["id"]: images.of(_parquet.picture(row["image"], row["id"])) for row in pictures}
        for row in table:
            if row["imageId"] not in seen:
                raise UsageError(f"testdev_balanced_images has no image {row['imageId']} for question {row['id']}.")
            if row.get("isBalanced", True):
                yield _item(row["id"], row, seen[row["imageId"]])

    def stratum(self, item: Item) -> str:
        """The type of its structure (verify, query, choose, ...)."""
        return str(item.facts["types"].get("structural", ""))

    def score(self, item: Item, response: Response, judge: Judge | None) -> Score | Unscored:
        """1 where the parsed response is the answer."""
        types = item.facts["types"]
        groups = ["all", *(f"{kind}/{types[kind]}" for kind in ("structural", "semantic") if types.get(kind))]
        if types.get("structural"):
            groups.append("open" if types["structural"] == "query" else "binary")
        answer, text = item.facts["answer"], response.text
        right = parse(text) == answer
        lenient = tally(float(right or answers(text, answer)), ["all@robust"])
        return Score(item.id, tally(float(right), groups) | lenient | tally(float(is_phrase(text)), ["valid"]))

    def compute(self, totals: Totals) -> dict[str, Any]:
        """Accuracy in percent, of all and of each group."""
        return means("gqa", totals)

    def published(self, files: Files) -> Published:
        """The balanced questions, and LLaVA's answers or what `convert_gqa_for_eval.py` makes of them."""
        path = files.one("questions")
        rows = parsed(path)
        if not isinstance(rows, dict) or not all(isinstance(row, dict) and "answer" in row for row in rows.values()):
            raise UsageError(f"{path} should map question ids to questions with an answer, as {self.layout}")
        items = [_item(id, row, None) for id, row in rows.items() if row.get("isBalanced", True)]
        given = files.one("answers")
        found = []
        for number, row in enumerate(records(given, []), 1):
            name = next((name for name in ("question_id", "questionId") if name in row), "")
            id = name_of(given, number, row.get(name))
            found.append(Response(id, said(given, number, row, ("text", "prediction")), 0))
        return Published(items, found)

    def official(self, totals: Mapping[str, float]) -> dict[str, float]:
        """Accuracy in percent of all, of binary and of open questions, as GQA's `eval.py` prints them."""
        names = {"accuracy": "all", "binary": "binary", "open": "open"}
        found = {name: group for name, group in names.items() if f"{group}/n" in totals}
        return {name: ratio(totals[f"{group}/sum"], totals[f"{group}/n"]) for name, group in found.items()}


def _item(id: str, row: Mapping[str, Any], image: Image | None) -> Item:
    """One question."""
    facts = {"answer": text_in(f"the answer of GQA question {id}", row["answer"]), "types": row.get("types") or {}}
    return Item(id, image, row.get("question", "") + SHORT_ANSWER, id, facts)
