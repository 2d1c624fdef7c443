"""CHAIR: objects that a caption makes up. Rules of LisaAnne/Hallucination `utils/chair.py`, in three variants.

How words are reduced to their singular is not the same in published figures, so every metric id names the variant:
"noun" (umd-huang-lab/SIMA, the paper's), "lemma" (shikiw/OPERA, lmms-eval), or "listed", for objects that are not
COCO's, where every form is listed. A figure of one variant does not compare with a figure of another: on real captions
CHAIRs differs by up to 3.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Literal

from benchmarks import _parquet
from benchmarks._coco_objects import annotated, mentions
from benchmarks._files import picture, read_json, records, required, said, text_of
from benchmarks._listed_objects import accepted, found
from harness.contracts.benchmark import Benchmark, Files, Group, Images, Metric, Published, Totals, json_line, ratio
from harness.contracts.judge import Judge
from harness.contracts.records import Item, Response, Score, Unscored
from harness.system.errors import UsageError

COCO_NAME = re.compile(r"(?:COCO_\w+_)?0*(\d+)(?:\.jpg)?")


def drawn(ids: Sequence[str], n: int, seed: int) -> list[str]:
    """`n` of the ids, in their order; all of them where there are no more."""
    chosen = {*sorted(ids, key=lambda id: sha256(f"{seed}/{_id(id)}".encode()).hexdigest())[:n]}
    return [id for id in ids if id in chosen]


@dataclass(frozen=True)
class Chair(Benchmark):
    """CHAIRi is made-up mentions over mentions, CHAIRs captions with one over captions; the paper's is their mean.

    Read it beside recall and words: captions that say less look better. Where nothing is mentioned CHAIRi is NaN (the
    official script divides by zero). Beyond `metrics`, `compute` gives "chair/words", the mean length of a caption.

    Of a folder with more COCO pictures than `n`, such as all of val2014, as many are asked about: those whose ids the
    `seed` hashes lowest, whatever the folder's order; a smaller `n` asks about some of the same. Papers take 500 at
    random and publish no list (OPERA shuffles what `os.listdir` gives), so the list is ours and in no paper's figures.

    Traps: the list of images, the prompt, the token limit and the decoding differ by paper, and longer captions make
    more up. `question` and `variant` are the same for all rows of a comparison.
    """

    question: str = "Please describe this image in detail."
    variant: Literal["noun", "lemma", "listed"] = "noun"
    hub: str = ""
    n: int = 500
    seed: int = 0

    label: ClassVar[str] = "CHAIR"
    group: ClassVar[Group] = "hallucination"
    max_new_tokens: ClassVar[int] = 512
    layout: ClassVar[str] = (
        "images/ with COCO_val2014_<12 digits>.jpg (cocodataset.org) or <id>.jpg; gt_objects.json (image id -> list of "
        "objects) or annotations/ with COCO's 2014 instances and captions; and, where the objects are not COCO's "
        "(chair.variant=listed), synonyms.txt (a line per object: its name, then every other accepted form, plurals "
        "too, between commas). Or the parquet files of tsunghanwu/mscoco_chair."
    )
    fetch: ClassVar[str] = (
        "wget -P {home} http://images.cocodataset.org/zips/val2014.zip "
        "http://images.cocodataset.org/annotations/annotations_trainval2014.zip && "
        "unzip -q '{home}/*.zip' -d {home} && mv {home}/val2014 {home}/images"
    )
    official_n: ClassVar[int] = 500
    protocol: ClassVar[str] = "open question"

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UsageError(f"chair.n={self.n}: ask about one picture or more.")
        labels = {"mean_is": "CHAIR", "i": "CHAIRi", "s": "CHAIRs"}
        metrics = [Metric(f"chair/{id}@{self.variant}", label, (100.0, 0.0)) for id, label in labels.items()]
        metrics.append(Metric(f"chair/recall@{self.variant}", "Object recall", (0.0, 100.0)))
        object.__setattr__(self, "metrics", tuple(metrics))  # of the object, not the class: ids name the variant

    def items(self, folder: Path, images: Images) -> Iterator[Item]:
        """One caption per image, in the order of gt_objects.json, or of the pictures' names."""
        if table := _parquet.rows(folder, self.hub, "test"):
            yield from self._from_rows(table, images)
            return
        pictures = required(folder, "images", self.told(folder))
        if (folder / "gt_objects.json").is_file() or not (folder / "annotations").is_dir():
            gold = read_json(folder, "gt_objects.json", self.told(folder))
        else:
            there = sorted(_id(path.stem) for path in pictures.iterdir())
            gold = self._annotated(folder / "annotations", drawn(there, self.n, self.seed))
        own = folder / "synonyms.txt"
        if own.is_file() != (self.variant == "listed"):
            raise UsageError(
                f"chair.variant={self.variant} and {own} do not go together: that file lists every form of objects "
                "that are not COCO's, and the variant listed needs it."
            )
        for id in gold if self.variant == "listed" else drawn(list(gold), self.n, self.seed):
            objects = gold[id]
            coco = pictures / f"COCO_val2014_{id:0>12}.jpg"
            image = images.at(coco if coco.is_file() else picture(pictures, id))
            facts = {"objects": objects} | ({"synonyms": text_of(own)} if own.is_file() else {})
            yield Item(id, image, self.question, id, facts)

    def _from_rows(self, table: Iterator[_parquet.Row], images: Images) -> Iterator[Item]:
        """The same from tsunghanwu/mscoco_chair, whose objects are COCO's."""
        if self.variant == "listed":
            raise UsageError(
                "chair.variant=listed is for objects that are not COCO's; set chair.variant for parquet data."
            )
        for row in table:
            id, image = _id(row["question_id"]), images.of(_parquet.picture(row["image"], str(row["question_id"])))
            yield Item(id, image, self.question, id, {"objects": row["gt_object"]})

    def score(self, item: Item, response: Response, judge: Judge | None) -> Score | Unscored:
        """Mentions, made-up mentions, objects there and objects found, and words."""
        if self.variant == "listed":
            mentioned = [name for name, *_ in found(response.text, accepted(item.facts["synonyms"]))]
            length = len(response.text.split())
        else:
            mentioned, length = mentions(response.text, self.variant)
        there = set(item.facts["objects"])
        made_up = sum(name not in there for name in mentioned)
        parts = {
            "mentions": len(mentioned),
            "made_up": made_up,
            "captions": 1,
            "captions_with_made_up": int(made_up > 0),
            "objects": len(there),
            "found": len(there & set(mentioned)),
            "words": len(response.text.split()),
            "length": length,
        }
        return Score(item.id, {name: float(count) for name, count in parts.items()})

    def compute(self, totals: Totals) -> dict[str, Any]:
        """CHAIR over the corpus in percent, recall, and the mean length."""
        i = ratio(totals["made_up"], totals["mentions"])
        s = ratio(totals["captions_with_made_up"], totals["captions"])
        return {
            f"chair/mean_is@{self.variant}": (i + s) / 2,
            f"chair/i@{self.variant}": i,
            f"chair/s@{self.variant}": s,
            f"chair/recall@{self.variant}": ratio(totals["found"], totals["objects"]),
            "chair/words": ratio(totals["words"], totals["captions"], 1.0),
        }

    def published(self, files: Files) -> Published:
        """Captions by image, and as questions JSON (image id -> objects) or COCO's annotations folder.

        Either knows more images than anybody describes, so the captions say which ones are asked about.
        """
        path, source = files.one("answers"), files.one("questions")
        rows = records(path, ["image_id", "caption"])
        texts = [said(path, number, row, ("caption",)) for number, row in enumerate(rows, 1)]
        answers = [Response(_id(row["image_id"]), text, 0) for row, text in zip(rows, texts, strict=True)]
        asked = list(dict.fromkeys(response.id for response in answers))
        if source.is_dir():
            gold = self._annotated(source, asked)
        else:
            objects = read_json(source.parent, source.name, self.layout)
            if not isinstance(objects, dict) or not all(isinstance(named, list) for named in objects.values()):
                raise UsageError(f"{source} should map image ids to lists of objects.")
            gold = {_id(id): named for id, named in objects.items()}
        return Published([Item(id, None, "", id, {"objects": gold[id]}) for id in asked if id in gold], answers)

    def answers(self, items: Sequence[Item], texts: Mapping[str, str]) -> dict[str, str]:
        """A caption per image."""
        return {"captions.jsonl": "".join(json_line({"image_id": one.id, "caption": texts[one.id]}) for one in items)}

    def official(self, totals: Mapping[str, float]) -> dict[str, float]:
        """The fractions that the script prints; its "Len" is the mean length in hundreds."""
        return {
            "CHAIRs": ratio(totals["captions_with_made_up"], totals["captions"], 1.0),
            "CHAIRi": ratio(totals["made_up"], totals["mentions"], 1.0),
            "Recall": ratio(totals["found"], totals["objects"], 1.0),
            "Len": 0.01 * totals["length"] / totals["captions"],
        }

    def _annotated(self, folder: Path, ids: Iterable[str]) -> dict[str, list[str]]:
        """The ground truth by the official rule, found with the same words as the captions."""
        if self.variant == "listed":
            raise UsageError("chair.variant=listed is for objects that are not COCO's; take noun or lemma.")
        return annotated(folder, list(ids), self.variant)


def _id(name: object) -> str:
    """An image's id, from a number or a file name of COCO's."""
    coco = COCO_NAME.fullmatch(str(name))
    return coco[1] if coco else str(name)
