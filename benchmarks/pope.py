"""POPE: is there a ... in the image? Rules of AoiDragon/POPE `evaluate.py` (as LLaVA `eval_pope.py` runs it)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from benchmarks import _parquet
from benchmarks._files import read_json, required
from harness.benchmark import Benchmark, Group, Images, Metric, Totals, ratio
from harness.judge import Judge
from harness.template import SHORT_ANSWER
from harness.types import Item, Response, Score, Unscored

SPLITS = ("random", "popular", "adversarial")
PARSES = ("", "@robust")


def parse(text: str) -> str:
    """The official reading: "no" where the first sentence has the word No, no or not, and "yes" otherwise.

    Otherwise means anything: an empty response, "NO" and "Nope" are yes.
    """
    words = text.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def parse_robust(text: str) -> str | None:
    """The first word that is yes or no in any case; None where there is none, which counts as an error."""
    found = re.search(r"\b(yes|no)\b", text.lower())
    return found[1] if found else None


def _outcome(label: str, said: str | None) -> str:
    """tp, fp, tn or fn with yes as positive; what is neither yes nor no is wrong whatever the label."""
    if label == "yes":
        return "tp" if said == "yes" else "fn"
    return "tn" if said == "no" else "fp"


@dataclass(frozen=True)
class Pope(Benchmark):
    """F1 of "yes" on three sets of negatives; the papers' number is the mean of the three.

    Beyond `metrics`, `compute` gives "pope/<split>/<f1|accuracy|precision|recall|yes_ratio>" for each split, the
    same with "@robust", and "pope/valid", the percentage of responses that hold a yes or a no at all. A split
    without items gives NaN.
    """

    hub: str = ""

    label: ClassVar[str] = "POPE"
    group: ClassVar[Group] = "hallucination"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("pope/f1_macro3", "POPE", (0.0, 100.0), chance=50.0),
        Metric("pope/f1_macro3@robust", "POPE (first yes or no)", (0.0, 100.0), chance=50.0),
        Metric("pope/accuracy_macro3", "POPE accuracy", (0.0, 100.0), chance=50.0),
        Metric("pope/valid", "POPE valid", (0.0, 100.0)),
    )
    max_new_tokens: ClassVar[int] = 128
    layout: ClassVar[str] = (
        "coco_pope_random.json, coco_pope_popular.json and coco_pope_adversarial.json from "
        "github.com/AoiDragon/POPE (output/coco), and val2014/ with COCO's 2014 validation images. "
        "Or the parquet files of lmms-lab/POPE."
    )

    def items(self, folder: Path, images: Images) -> Iterator[Item]:
        """The questions of the three files, one file after the other."""
        if table := _parquet.rows(folder, self.hub, "test"):
            yield from self._from_rows(table, images)
            return
        pictures = required(folder, "val2014", self.layout)
        for split in SPLITS:
            name = f"coco_pope_{split}.json"
            name = f"{name}l" if (folder / f"{name}l").exists() else name
            for row in read_json(folder, name, self.layout):
                id = f"{split}/{row['question_id']}"
                image = images.at(pictures / row["image"])
                yield Item(id, image, row["text"] + SHORT_ANSWER, id, {"split": split, "label": row["label"]})

    def _from_rows(self, table: Iterator[_parquet.Row], images: Images) -> Iterator[Item]:
        """The same questions from lmms-lab/POPE, which has all of them in one split."""
        items: dict[str, list[Item]] = {split: [] for split in SPLITS}
        for row in table:
            split, id = row["category"], f"{row['category']}/{row['question_id']}"
            image = images.of(_parquet.picture(row["image"], id))
            facts = {"split": split, "label": row["answer"]}
            items[split].append(Item(id, image, row["question"] + SHORT_ANSWER, id, facts))
        for split in SPLITS:
            yield from items[split]

    def score(self, item: Item, response: Response, judge: Judge | None) -> Score | Unscored:
        """One of tp, fp, tn and fn, by the official parse and by the robust one."""
        split, label, robust = item.facts["split"], item.facts["label"], parse_robust(response.text)
        got = {"": _outcome(label, parse(response.text)), "@robust": _outcome(label, robust)}
        parts = {
            f"{split}/{outcome}{way}": float(got[way] == outcome)
            for way in PARSES
            for outcome in ("tp", "fp", "tn", "fn")
        }
        return Score(item.id, {**parts, f"{split}/valid": float(robust is not None)})

    def compute(self, totals: Totals) -> dict[str, Any]:
        """The official figures per split, in percent, and their means over the three."""
        values: dict[str, Any] = {}
        for way in PARSES:
            for split in SPLITS:
                tp, fp, tn, fn = (totals.get(f"{split}/{name}{way}", 0.0) for name in ("tp", "fp", "tn", "fn"))
                n = tp + fp + tn + fn
                values[f"pope/{split}/f1{way}"] = ratio(2 * tp, 2 * tp + fp + fn)
                values[f"pope/{split}/accuracy{way}"] = ratio(tp + tn, n)
                values[f"pope/{split}/precision{way}"] = ratio(tp, tp + fp)
                values[f"pope/{split}/recall{way}"] = ratio(tp, tp + fn)
                values[f"pope/{split}/yes_ratio{way}"] = ratio(tp + fp, n)
            for name in ("f1", "accuracy", "yes_ratio"):
                macro = sum(values[f"pope/{split}/{name}{way}"] for split in SPLITS) / len(SPLITS)
                values[f"pope/{name}_macro3{way}"] = macro
        names = ("tp", "fp", "tn", "fn")
        asked = sum(totals.get(f"{split}/{name}", 0.0) for split in SPLITS for name in names)
        values["pope/valid"] = ratio(sum(totals.get(f"{split}/valid", 0.0) for split in SPLITS), asked)
        return values
