"""CHAIR: objects that a caption makes up. Rules of LisaAnne/Hallucination `utils/chair.py`, words by a list.

Objects are found with a list of accepted forms, singular and plural, instead of a lemmatiser: the variant `listed`.
A figure of one variant does not compare with a figure of another. `chair_coco.txt` is our list for COCO's 80
categories. On 1,500 real captions, on which it was trimmed, it differs from the WordNet variant (every token a noun)
by at most 0.1 in CHAIRi, 0.6 in CHAIRs and 0.4 in recall.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from benchmarks import _parquet
from benchmarks._files import picture, read_json, required
from harness.benchmark import Benchmark, Group, Images, Metric, Totals, ratio
from harness.judge import Judge
from harness.types import Item, Response, Score, Unscored

COCO = Path(__file__).with_name("chair_coco.txt")
SEATS = (("seat",), ("seats",))
WORD = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*|[^\sa-z0-9]")
Forms = dict[tuple[str, ...], str]


@cache
def accepted(synonyms: str) -> Forms:
    """Accepted form -> object. A line lists an object's name and then its other forms, between commas."""
    forms: Forms = {}
    for line in synonyms.splitlines():
        names = [name.strip().lower() for name in line.split(",") if name.strip()]
        for name in names:
            forms.setdefault(tuple(name.split()), names[0])
    return forms


def mentions(text: str, forms: Forms) -> list[str]:
    """The objects a caption mentions, in order and with repetition; from left to right, the longest form wins."""
    words = WORD.findall(text.lower())
    longest = max(map(len, forms))
    matched: list[tuple[str, ...]] = []
    at = 0
    while at < len(words):
        spans = (tuple(words[at : at + size]) for size in range(min(longest, len(words) - at), 0, -1))
        form = next((span for span in spans if span in forms), None)
        if form:
            matched.append(form)
        at += len(form) if form else 1
    if any(forms[form] == "toilet" for form in matched):  # the official exception: such a seat is no chair
        matched = [form for form in matched if form not in SEATS]
    return [forms[form] for form in matched]


@dataclass(frozen=True)
class Chair(Benchmark):
    """CHAIRi is made-up mentions over mentions, CHAIRs captions with one over captions; the paper's is their mean.

    Read it beside recall and words: captions that say less look better. Without a mention CHAIRi is NaN. Beyond
    `metrics`, `compute` gives "chair/words", the mean length of a caption in words.
    """

    question: str = "Please describe this image in detail."
    hub: str = ""

    label: ClassVar[str] = "CHAIR"
    group: ClassVar[Group] = "hallucination"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("chair/mean_is@listed", "CHAIR", (100.0, 0.0)),
        Metric("chair/i@listed", "CHAIRi", (100.0, 0.0)),
        Metric("chair/s@listed", "CHAIRs", (100.0, 0.0)),
        Metric("chair/recall@listed", "Object recall", (0.0, 100.0)),
    )
    max_new_tokens: ClassVar[int] = 512
    layout: ClassVar[str] = (
        "gt_objects.json (image id -> list of objects, from COCO's 2014 instances and captions), images/ with "
        "COCO_val2014_<12 digits>.jpg (cocodataset.org) or <id>.jpg, and, where the objects are not COCO's, "
        "synonyms.txt (a line per object: its name, then every other accepted form, plurals too, between commas). "
        "Or the parquet files of tsunghanwu/mscoco_chair."
    )

    def items(self, folder: Path, images: Images) -> Iterator[Item]:
        """One caption per image, in the file's order."""
        if table := _parquet.rows(folder, self.hub, "test"):
            yield from self._from_rows(table, images)
            return
        pictures = required(folder, "images", self.layout)
        own = folder / "synonyms.txt"
        synonyms = (own if own.is_file() else COCO).read_text(encoding="utf-8")
        for id, objects in read_json(folder, "gt_objects.json", self.layout).items():
            coco = pictures / f"COCO_val2014_{id:0>12}.jpg"
            image = images.at(coco if coco.is_file() else picture(pictures, id))
            yield Item(id, image, self.question, id, {"objects": objects, "synonyms": synonyms})

    def _from_rows(self, table: Iterator[_parquet.Row], images: Images) -> Iterator[Item]:
        """The same from tsunghanwu/mscoco_chair; its objects are COCO's."""
        synonyms = COCO.read_text(encoding="utf-8")
        for row in table:
            id, facts = str(row["question_id"]), {"objects": row["gt_object"], "synonyms": synonyms}
            yield Item(id, images.of(_parquet.picture(row["image"], id)), self.question, id, facts)

    def score(self, item: Item, response: Response, judge: Judge | None) -> Score | Unscored:
        """Mentions, made-up mentions, objects there and objects found, and words."""
        said = mentions(response.text, accepted(item.facts["synonyms"]))
        there = set(item.facts["objects"])
        made_up = sum(name not in there for name in said)
        parts = {
            "mentions": len(said),
            "made_up": made_up,
            "captions": 1,
            "captions_with_made_up": int(made_up > 0),
            "objects": len(there),
            "found": len(there & set(said)),
            "words": len(response.text.split()),
        }
        return Score(item.id, {name: float(count) for name, count in parts.items()})

    def compute(self, totals: Totals) -> dict[str, Any]:
        """CHAIR over the corpus in percent, recall, and the mean number of words."""
        i = ratio(totals["made_up"], totals["mentions"])
        s = ratio(totals["captions_with_made_up"], totals["captions"])
        return {
            "chair/mean_is@listed": (i + s) / 2,
            "chair/i@listed": i,
            "chair/s@listed": s,
            "chair/recall@listed": ratio(totals["found"], totals["objects"]),
            "chair/words": ratio(totals["words"], totals["captions"], 1.0),
        }
