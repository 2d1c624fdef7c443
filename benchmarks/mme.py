"""MME: pairs of yes/no questions. Rules of the release's `eval_tool/calculation.py`; prompt as LLaVA has it.

Traps: the papers' "MME" is the perception sum (at most 2000), some add cognition (800). The official parse looks at
the first four characters: "not", "none" and "now" are no, "It is yes" is neither and counts as wrong. Half of the
score is accuracy+, which needs both questions of an image right.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from benchmarks import _parquet
from benchmarks._files import picture, text_of
from benchmarks._parses import yes_or_no
from harness.contracts.benchmark import Benchmark, Files, Group, Images, Metric, Published, Totals, Unit, cluster, ratio
from harness.contracts.judge import Judge
from harness.contracts.offered import Hub
from harness.contracts.records import Image, Item, Response, Score, Unscored
from harness.contracts.wordings import SHORT_ANSWER
from harness.system.errors import UsageError

PERCEPTION = tuple("existence count position color posters celebrity scene landmark artwork OCR".split())
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
QUESTIONS = dict(
    zip(PERCEPTION + COGNITION, (60, 60, 60, 60, 294, 340, 400, 400, 400, 40, 140, 40, 40, 40), strict=True)
)
PAIR = 2  # questions about an image
SUFFIX = "Please answer yes or no."
PARSES = ("", "@robust")


def parse(text: str) -> str:
    """yes or no where that is all, or where the first four characters hold it (yes before no); else other."""
    text = text.lower()
    if text in ("yes", "no"):
        return text
    return next((word for word in ("yes", "no") if word in text[:4]), "other")


@dataclass(frozen=True)
class Mme(Benchmark):
    """Accuracy plus accuracy+ (both questions of an image right) per subtask, at most 200 each.

    Every subtask in `subtasks` must be there, because a missing one lowers the sums. Beyond `metrics`, `compute`
    gives "mme/subtask/<name>", "mme/accuracy", "mme/accuracy+", the same and the sums with "@robust", and
    "mme/perception_max", which is 200 per perception subtask.
    """

    subtasks: tuple[str, ...] = PERCEPTION + COGNITION
    hub: str = ""

    label: ClassVar[str] = "MME"
    group: ClassVar[Group] = "comprehension"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("mme/perception", "MME", (0.0, 2000.0), digits=0, chance=750.0),
        Metric("mme/cognition", "MME cognition", (0.0, 800.0), digits=0, chance=300.0),
        Metric("mme/perception@robust", "MME (any clear yes or no)", (0.0, 2000.0), digits=0, chance=750.0),
        Metric("mme/valid", "MME valid", (0.0, 100.0)),
    )
    max_new_tokens: ClassVar[int] = 128
    layout: ClassVar[str] = (
        "a folder per subtask (existence, count, ...) with <image>.jpg or .png and <image>.txt, or with images/ and "
        "questions_answers_YN/, as in MME_Benchmark_release_version from "
        "github.com/BradyFU/Awesome-Multimodal-Large-Language-Models (branch Evaluation). "
        "Or the parquet files of lmms-lab/MME."
    )
    offered: ClassVar[Hub] = Hub("lmms-lab/MME", ("data/*",), "865 MB")
    official_n: ClassVar[int] = 2374
    protocol: ClassVar[str] = "short answer"

    @property
    def official_units(self) -> int:
        """The two questions about an image are one."""
        return self.official_n // PAIR

    @property
    def ends(self) -> tuple[float, float]:
        """200 for each perception subtask that is asked."""
        return 0.0, 200.0 * len(set(PERCEPTION) & set(self.subtasks))

    def items(self, folder: Path, images: Images) -> Iterator[Item]:
        """Subtask by subtask, image by image, the two questions of an image one after the other."""
        if table := _parquet.rows(folder, self.hub, "test"):
            yield from self._from_rows(table, images)
            return
        for subtask in self.subtasks:
            root = folder / subtask
            texts, pictures = root / "questions_answers_YN", root / "images"
            if not texts.is_dir():
                texts = pictures = root
            files = sorted(texts.glob("*.txt"))
            if not files:
                raise UsageError(
                    f"there are no questions in {root}. The folder should hold: {self.layout} "
                    f"To do without {subtask}, leave it out of mme.subtasks."
                )
            for file in files:
                image = images.at(picture(pictures, file.stem))
                lines = [line for line in text_of(file).split("\n") if line.strip()]
                for number, line in enumerate(lines):
                    question, tab, answer = line.rpartition("\t")
                    if not tab:
                        raise UsageError(f"{file} has a line without a tab: {line!r}. Expected: question, tab, answer.")
                    yield _item(f"{subtask}/{file.stem}", number, question, answer, image)
                if len(lines) != PAIR:
                    raise UsageError(f"{file} has {len(lines)} questions and should have {PAIR}: accuracy+ needs both.")

    def _from_rows(self, table: Iterator[_parquet.Row], images: Images) -> Iterator[Item]:
        """The same questions from lmms-lab/MME, in the release's order."""
        found: dict[tuple[int, str], list[Item]] = {}
        for row in table:
            subtask, stem = row["category"], PurePosixPath(row["question_id"]).stem
            if subtask in self.subtasks:
                pair = found.setdefault((self.subtasks.index(subtask), f"{stem}.txt"), [])
                image = images.of(_parquet.picture(row["image"], row["question_id"]))
                pair.append(_item(f"{subtask}/{stem}", len(pair), row["question"], row["answer"], image))
        missing = [name for place, name in enumerate(self.subtasks) if not any(at == place for at, _ in found)]
        if missing:
            raise UsageError(f"the parquet data have no {missing[0]}; to do without it, leave it out of mme.subtasks.")
        for (_, name), pair in sorted(found.items()):
            if len(pair) != PAIR:
                raise UsageError(f"{name} has {len(pair)} questions in the parquet data and should have {PAIR}.")
            yield from pair

    def stratum(self, item: Item) -> str:
        """Its subtask."""
        return str(item.facts["subtask"])

    def score(self, item: Item, response: Response, judge: Judge | None) -> Score | Unscored:
        """1 where the response says the answer; what is neither yes nor no is wrong."""
        subtask, answer = item.facts["subtask"], item.facts["answer"]
        official = parse(response.text)
        said = {"": official, "@robust": yes_or_no(response.text, None if official == "other" else official)}
        right = {f"{subtask}/right{way}": float(said[way] == answer) for way in PARSES}
        return Score(item.id, {f"{subtask}/n": 1.0, f"{subtask}/valid": float(said[""] != "other"), **right})

    def units(self, scored: Sequence[tuple[Item, Score]]) -> list[Unit]:
        """One unit per image: its questions, and whether all (two) of them are right."""
        groups: dict[str, list[tuple[Item, Score]]] = {}
        for item, score in scored:
            groups.setdefault(item.unit, []).append((item, score))
        return [_pair(name, group) for name, group in groups.items()]

    def compute(self, totals: Totals) -> dict[str, Any]:
        """Sums over the subtasks that have items; NaN where none has."""
        values: dict[str, Any] = {}
        zero = 0.0 * next(iter(totals.values()))  # an array where the totals are arrays
        for way in PARSES:
            scores = {
                name: ratio(totals[f"{name}/right{way}"], totals[f"{name}/n"])
                + ratio(totals[f"{name}/both{way}"], totals[f"{name}/pairs"])
                for name in PERCEPTION + COGNITION
                if f"{name}/n" in totals
            }
            values |= {f"mme/subtask/{name}{way}": value for name, value in scores.items()}
            for sum_name, members in (("perception", PERCEPTION), ("cognition", COGNITION)):
                present = [scores[name] for name in members if name in scores]
                values[f"mme/{sum_name}{way}"] = sum(present) if present else zero + float("nan")
            for part, of, name in (("right", "n", "accuracy"), ("both", "pairs", "accuracy+")):
                counted = [sum(totals[f"{task}/{part}"] for task in scores) for part in (f"{part}{way}", of)]
                values[f"mme/{name}{way}"] = ratio(*counted)
        values["mme/valid"] = ratio(*(sum(totals[f"{task}/{part}"] for task in scores) for part in ("valid", "n")))
        values["mme/perception_max"] = zero + 200.0 * sum(f"{name}/n" in totals for name in PERCEPTION)
        return values

    def published(self, files: Files) -> Published:
        """A folder with <subtask>.txt of image, question, ground truth and response, between tabs.

        Without --questions (such files without the response) as many questions are expected as the release has.
        """
        answers = {name: _lines(files.one("answers") / f"{name}.txt", 4) for name in self.subtasks}
        rows = answers
        if files.questions:
            rows = {name: _lines(files.one("questions") / f"{name}.txt", 3) for name in self.subtasks}
        items: list[Item] = []
        for name in self.subtasks:
            asked = dict.fromkeys((image, question, truth.lower()) for image, question, truth, *_ in rows[name])
            expected = len(asked) if files.questions else QUESTIONS[name]
            for image, question, truth in list(asked)[:expected]:
                if truth not in ("yes", "no"):
                    raise UsageError(f"{name}.txt has the ground truth {truth!r}; it should be Yes or No.")
                unit, facts = f"{name}/{image}", {"subtask": name, "answer": truth}
                items.append(Item(f"{unit}/{question}", None, question, unit, facts))
            absent = [f"{name}/absent {number}" for number in range(1, expected - len(asked) + 1)]
            items += [Item(id, None, "", id, {}) for id in absent]
        said = [
            Response(f"{name}/{image}/{question}", text, 0)
            for name in self.subtasks
            for image, question, _, text in answers[name]
        ]
        return Published(items, said)

    def answers(self, items: Sequence[Item], texts: Mapping[str, str]) -> dict[str, str]:
        """A file per subtask: image, question, ground truth and response, between tabs; a response on one line."""
        files: dict[str, str] = {}
        for item in items:
            name, truth = f"{item.facts['subtask']}.txt", item.facts["answer"].capitalize()
            line = "\t".join(
                [
                    item.unit.rpartition("/")[2],
                    item.prompt.removesuffix(SHORT_ANSWER),
                    truth,
                    " ".join(texts[item.id].split()),
                ]
            )
            files[name] = files.get(name, "") + line + "\n"
        return files

    def official(self, totals: Mapping[str, float]) -> dict[str, float]:
        """The scores `calculation.py` prints: the two sums and every subtask."""
        values = self.compute(totals)
        sums = {name: values[f"mme/{name}"] for name in ("perception", "cognition")}
        return sums | {name: values[f"mme/subtask/{name}"] for name in QUESTIONS if f"{name}/n" in totals}


def _lines(path: Path, columns: int) -> list[list[str]]:
    """The fields of every line that is not empty; a tab in the last field belongs to it."""
    if not path.is_file():
        raise UsageError(f"there is no {path}. To do without {path.stem}, leave it out of the option subtasks.")
    rows = [line.split("\t", columns - 1) for line in text_of(path).split("\n") if line.strip()]
    for number, row in enumerate(rows, 1):
        if len(row) != columns:
            raise UsageError(f"line {number} of {path} has {len(row)} fields between tabs and should have {columns}.")
    return rows


def _item(unit: str, number: int, question: str, answer: str, image: Image) -> Item:
    """One of an image's questions, with LLaVA's prompt."""
    right = answer.strip().lower()
    if right not in ("yes", "no"):
        raise UsageError(f"MME question {unit}/{number} has the answer {answer!r}; it should be Yes or No.")
    facts = {"subtask": unit.split("/")[0], "answer": right}
    return Item(f"{unit}/{number}", image, question.removesuffix(SUFFIX).rstrip() + SHORT_ANSWER, unit, facts)


def _pair(name: str, group: list[tuple[Item, Score]]) -> Unit:
    """The parts of an image's questions summed, and whether each parse has all of them right.

    Without its second response (`--allow-partial`) an image does not count for accuracy+.
    """
    item = group[0][0]
    subtask = item.facts["subtask"]
    parts = {part: sum(score.parts[part] for _, score in group) for part in group[0][1].parts}
    paired = len(group) > 1
    both = {f"{subtask}/both{way}": float(paired and parts[f"{subtask}/right{way}"] == len(group)) for way in PARSES}
    return Unit(name, cluster(item), {**parts, f"{subtask}/pairs": float(paired), **both})
