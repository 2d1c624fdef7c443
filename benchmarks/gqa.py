"""GQA testdev-balanced. Rules of LLaVA `convert_gqa_for_eval.py` and of GQA's own `eval.py`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from benchmarks import _parquet
from benchmarks._files import picture, read_json, required
from benchmarks._groups import means, tally
from harness.benchmark import Benchmark, Group, Images, Metric, Totals
from harness.judge import Judge
from harness.template import SHORT_ANSWER
from harness.types import Item, Response, Score, Unscored, UsageError


def parse(text: str) -> str:
    """The response without its last full stops, in lower case."""
    return text.rstrip(".").lower()


@dataclass(frozen=True)
class Gqa(Benchmark):
    """Exact match with one reference answer.

    Beyond `metrics`, `compute` gives "gqa/binary", "gqa/open", "gqa/structural/<type>" and "gqa/semantic/<type>"
    for the types in the data.
    """

    hub: str = ""

    label: ClassVar[str] = "GQA"
    group: ClassVar[Group] = "vqa"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("gqa/all", "GQA", (0.0, 100.0)),)
    max_new_tokens: ClassVar[int] = 128
    layout: ClassVar[str] = (
        "testdev_balanced_questions.json and images/, both from the downloads at cs.stanford.edu/people/dorarad/gqa. "
        "Or the parquet files of lmms-lab/GQA."
    )

    def items(self, folder: Path, images: Images) -> Iterator[Item]:
        """The balanced questions, in the file's order."""
        if table := _parquet.rows(folder, self.hub, "testdev", "testdev_balanced_instructions"):
            pictures = _parquet.rows(folder, self.hub, "testdev", "testdev_balanced_images")
            yield from self._from_rows(table, pictures or iter(()), images)
            return
        home = required(folder, "images", self.layout)
        for id, row in read_json(folder, "testdev_balanced_questions.json", self.layout).items():
            if row.get("isBalanced", True):
                image = images.at(picture(home, row["imageId"]))
                facts = {"answer": row["answer"], "types": row.get("types", {})}
                yield Item(id, image, row["question"] + SHORT_ANSWER, id, facts)

    def _from_rows(
        self, table: Iterator[_parquet.Row], pictures: Iterator[_parquet.Row], images: Images
    ) -> Iterator[Item]:
        """The same questions from lmms-lab/GQA, which has the images in a dataset of their own."""
        seen = {row["id"]: images.of(_parquet.picture(row["image"], row["id"])) for row in pictures}
        for row in table:
            if row["imageId"] not in seen:
                raise UsageError(f"testdev_balanced_images has no image {row['imageId']} for question {row['id']}.")
            if row.get("isBalanced", True):
                facts = {"answer": row["answer"], "types": row.get("types") or {}}
                yield Item(row["id"], seen[row["imageId"]], row["question"] + SHORT_ANSWER, row["id"], facts)

    def score(self, item: Item, response: Response, judge: Judge | None) -> Score | Unscored:
        """1 where the parsed response is the answer."""
        types = item.facts["types"]
        groups = ["all", *(f"{kind}/{types[kind]}" for kind in ("structural", "semantic") if types.get(kind))]
        if types.get("structural"):
            groups.append("open" if types["structural"] == "query" else "binary")
        return Score(item.id, tally(float(parse(response.text) == item.facts["answer"]), groups))

    def compute(self, totals: Totals) -> dict[str, Any]:
        """Accuracy in percent, of all and of each group."""
        return means("gqa", totals)
