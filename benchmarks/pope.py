"""POPE: is there a ... in the image? Rules of AoiDragon/POPE `evaluate.py` (as LLaVA `eval_pope.py` runs it).

Traps: the official parse takes everything without a "no" for a yes, so that an empty response is right half of the
time. Some papers print accuracy, one split's F1 or lmms-eval's pooled F1 as "POPE". LLaVA's published figures are on
an earlier random split of 2,910 questions (`random_rows=2910`), which moves the mean by up to 0.3.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from benchmarks import _parquet
from benchmarks._files import name_of, read_json, records, required, said
from benchmarks._parses import yes_or_no
from harness.contracts.benchmark import Benchmark, Files, Group, Images, Metric, Published, Totals, json_line, ratio
from harness.contracts.judge import Judge
from harness.contracts.offered import Hub
from harness.contracts.records import Image, Item, Response, Score, Unscored
from harness.contracts.wordings import SHORT_ANSWER
from harness.system.errors import UsageError

SPLITS = ("random", "popular", "adversarial")
PARSES = ("", "@robust")
OUTCOMES = ("tp", "fp", "tn", "fn")
UNNAMED = "all"


def parse(text: str) -> str:
    """The official reading: "no" where the first sentence has the word No, no or not, and "yes" otherwise.

    Otherwise means anything: an empty response, "NO" and "Nope" are yes.
    """
    words = text.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def read(text: str) -> str | None:
    """The robust reading. The official "no" is one, and stands where a sentence says yes and then denies; its "yes" is
    none, for it is what everything else counts as.
    """
    official = "no" if parse(text) == "no" else None
    said = yes_or_no(text, official)
    return official if said == "yes" and official else said


def _outcome(label: str, said: str | None) -> str:
    """tp, fp, tn or fn with yes as positive; what is neither yes nor no is wrong whatever the label."""
    if label == "no":
        return "tn" if said == "no" else "fp"
    return "tp" if said == "yes" else "fn"


@dataclass(frozen=True)
class Pope(Benchmark):
    """F1 of "yes" on three sets of negatives; the papers' number is the mean of the three.

    Beyond `metrics`, `compute` gives "pope/<split>/<f1|accuracy|precision|recall|yes_ratio>" for each split in the
    data, the same with "@robust", and "pope/valid", the percentage of responses that hold a yes or a no at all.
    """

    random_rows: Literal[3000, 2910] = 3000
    hub: str = ""

    label: ClassVar[str] = "POPE"
    group: ClassVar[Group] = "hallucination"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("pope/f1_macro3", "POPE", (0.0, 100.0), chance=50.0),
        Metric("pope/f1_macro3@robust", "POPE (any clear yes or no)", (0.0, 100.0), chance=50.0),
        Metric("pope/accuracy_macro3", "POPE accuracy", (0.0, 100.0), chance=50.0),
        Metric("pope/valid", "POPE valid", (0.0, 100.0)),
    )
    max_new_tokens: ClassVar[int] = 128
    layout: ClassVar[str] = (
        "coco_pope_random.json, coco_pope_popular.json and coco_pope_adversarial.json from "
        "github.com/AoiDragon/POPE (output/coco), and val2014/ with COCO's 2014 validation images. "
        "Or the parquet files of lmms-lab/POPE."
    )
    offered: ClassVar[Hub] = Hub("lmms-lab/POPE", ("data/*",), "255 MB")
    official_n: ClassVar[int] = 9000
    protocol: ClassVar[str] = "short answer"

    @property
    def official_units(self) -> int:
        """3,000 questions in each of two splits, and the random one."""
        return self.official_n - 3000 + self.random_rows

    def items(self, folder: Path, images: Images) -> Iterator[Item]:
        """The questions of the three files, one file after the other."""
        if table := _parquet.rows(folder, self.hub, "test"):
            yield from self._from_rows(table, images)
            return
        pictures = required(folder, "val2014", self.told(folder))
        for split in SPLITS:
            name = f"coco_pope_{split}.json"
            name = f"{name}l" if (folder / f"{name}l").exists() else name
            rows = read_json(folder, name, self.told(folder))
            if split == "random":
                self._check(len(rows), folder / name)
            for row in rows:
                image = images.at(pictures / row["image"])
                yield _item(split, row, image)

    def _from_rows(self, table: Iterator[_parquet.Row], images: Images) -> Iterator[Item]:
        """The same questions from lmms-lab/POPE, which has them in one split and another order."""
        items: dict[str, list[Item]] = {split: [] for split in SPLITS}
        for row in table:
            split, image = row["category"], images.of(_parquet.picture(row["image"], row["question_id"]))
            if split not in items:
                raise UsageError(f"question {row['question_id']} has the category {split!r}, not {', '.join(SPLITS)}.")
            items[split].append(_item(split, row | {"text": row["question"], "label": row["answer"]}, image))
        self._check(len(items["random"]), "the parquet data")
        for split in SPLITS:
            yield from items[split]

    def _check(self, rows: int, where: object) -> None:
        """Raise UsageError where the random split is not the one that is asked for."""
        if (rows == 2910) != (self.random_rows == 2910):
            raise UsageError(
                f"{where} has {rows} questions and pope.random_rows is {self.random_rows}. LLaVA's "
                "published figures are on the 2,910 of POPE's commit e3e39262, today's file has 3,000."
            )

    def stratum(self, item: Item) -> str:
        """One of the three splits."""
        return str(item.facts["split"])

    def score(self, item: Item, response: Response, judge: Judge | None) -> Score | Unscored:
        """One of tp, fp, tn and fn, by the official parse and by the robust one."""
        split, label, said = item.facts["split"], item.facts["label"], parse(response.text)
        robust = read(response.text)
        got = {"": _outcome(label, said), "@robust": _outcome(label, robust)}
        parts = {f"{split}/{outcome}{way}": float(got[way] == outcome) for way in PARSES for outcome in OUTCOMES}
        return Score(item.id, {**parts, f"{split}/valid": float(robust is not None)})

    def compute(self, totals: Totals) -> dict[str, Any]:
        """The official figures per split, in percent, and their means over the three."""
        values: dict[str, Any] = {}
        splits = _splits(totals)
        for way in PARSES:
            for split in splits:
                tp, fp, tn, fn = (totals[f"{split}/{name}{way}"] for name in OUTCOMES)
                n = tp + fp + tn + fn
                values[f"pope/{split}/f1{way}"] = ratio(2 * tp, 2 * tp + fp + fn)
                values[f"pope/{split}/accuracy{way}"] = ratio(tp + tn, n)
                values[f"pope/{split}/precision{way}"] = ratio(tp, tp + fp)
                values[f"pope/{split}/recall{way}"] = ratio(tp, tp + fn)
                values[f"pope/{split}/yes_ratio{way}"] = ratio(tp + fp, n)
            for name in ("f1", "accuracy", "yes_ratio"):
                macro = sum(values.get(f"pope/{split}/{name}{way}", math.nan) for split in SPLITS) / len(SPLITS)
                values[f"pope/{name}_macro3{way}"] = macro
        asked = sum(totals[f"{split}/{name}"] for split in splits for name in OUTCOMES)
        values["pope/valid"] = ratio(sum(totals[f"{split}/valid"] for split in splits), asked)
        return values

    def published(self, files: Files) -> Published:
        """The official question files and LLaVA's answers by name; without questions, answers that carry labels."""
        questions = files.questions or files.answers
        if questions.keys() != files.answers.keys() or not questions:
            raise UsageError(
                "POPE needs --questions and --answers under the same names, e.g. --questions random=QUESTIONS "
                "--answers random=ANSWERS and the same for popular and adversarial."
            )
        items: list[Item] = []
        answers: list[Response] = []
        for name, path in questions.items():
            rows = records(path, ["question_id", "text", "label"])
            items += [_item(name, row, None) for row in rows]
            answers += _responses(files.answers[name], rows, f"{name}/" if name else "")
        return Published(items, answers)

    def answers(self, items: Sequence[Item], texts: Mapping[str, str]) -> dict[str, str]:
        """LLaVA's answers, a file per split, each with the ids of its own questions."""
        files: dict[str, str] = {}
        for item in items:
            name, number = f"{item.facts['split']}.jsonl", item.id.rpartition("/")[2]
            row = {"question_id": int(number) if number.isdigit() else number, "prompt": item.prompt}
            files[name] = files.get(name, "") + json_line({**row, "text": texts[item.id]})
        return files

    def official(self, totals: Mapping[str, float]) -> dict[str, float]:
        """The fractions `eval_pope.py` prints per file, as "<name>/f1", and the mean F1 as "f1_macro"."""
        values: dict[str, float] = {}
        splits = _splits(totals)
        for split in splits:
            name = "" if split == UNNAMED else f"{split}/"
            tp, fp, tn, fn = (totals[f"{split}/{outcome}"] for outcome in OUTCOMES)
            precision, recall = ratio(tp, tp + fp, 1.0), ratio(tp, tp + fn, 1.0)
            values |= {f"{name}{outcome}": totals[f"{split}/{outcome}"] for outcome in OUTCOMES}
            values[f"{name}accuracy"] = ratio(tp + tn, tp + fp + tn + fn, 1.0)
            values[f"{name}precision"], values[f"{name}recall"] = precision, recall
            values[f"{name}f1"] = ratio(2 * precision * recall, precision + recall, 1.0)
            values[f"{name}yes_ratio"] = ratio(tp + fp, tp + fp + tn + fn, 1.0)
        found = [value for id, value in values.items() if id == "f1" or id.endswith("/f1")]
        return values | {"f1_macro": sum(found) / len(found)}


def _splits(totals: Mapping[str, Any]) -> list[str]:
    """The splits that have items: the three in their order, then others."""
    found = [name.removesuffix("/tp") for name in totals if name.endswith("/tp")]
    return [split for split in SPLITS if split in found] + [split for split in found if split not in SPLITS]


def _responses(path: Path, questions: list[dict[str, Any]], prefix: str) -> list[Response]:
    """The responses by the ids of their questions.

    LLaVA's answer files number the questions of all splits in one go; `eval_pope.py` pairs them with the labels by
    their order. So do we where the ids differ, provided that every answer's prompt names the thing asked for.
    """
    rows = records(path, ["question_id"])
    ids = [name_of(path, number, row["question_id"]) for number, row in enumerate(rows, 1)]
    asked = [str(row["question_id"]) for row in questions]
    things = [_thing(row.get("prompt", "")) for row in rows]
    if {*ids} != {*asked} and things == [_thing(row["text"]) for row in questions] and None not in things:
        ids = asked
    texts = [said(path, number, row, ("text",)) for number, row in enumerate(rows, 1)]
    return [Response(prefix + id, text, 0) for id, text in zip(ids, texts, strict=True)]


def _thing(question: str) -> str | None:
    """What a question asks for; the official files have spellings like "an car in the imange"."""
    found = re.match(r"is there an? (.+) in the im", question.lower())
    return found[1] if found else None


def _item(split: str, row: dict[str, Any], image: Image | None) -> Item:
    """One question of a file; UsageError for a label that is neither yes nor no, which would count as a yes."""
    if row["label"] not in ("yes", "no"):
        raise UsageError(f"POPE question {row['question_id']} is labelled {row['label']!r}, not yes or no.")
    id = f"{split}/{row['question_id']}" if split else str(row["question_id"])
    return Item(id, image, row["text"] + SHORT_ANSWER, id, {"split": split or UNNAMED, "label": row["label"]})
