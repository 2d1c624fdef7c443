"""MMStar: questions that need the picture, 250 for each of six capabilities. Rules of MMStar-Benchmark/MMStar
`eval/vlmeval/evaluate/mmstar.py`.

Traps: the official rule looks at one character, so that "A man" is A and "Because it is red" is B; the robust twin
reads letters that are words. lmms-eval (0.7.2) and VLMEvalKit have other rules for the letter, and lmms-eval's average
is over the 18 axes and not over the questions. A part of the gain over a text-only model is what the language model
has read before.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from benchmarks import _choices, _parquet
from benchmarks._files import checked, name_of, required, said, spreadsheet, text_in
from benchmarks._groups import means, tally
from benchmarks._parses import choice
from harness.contracts.benchmark import Benchmark, Files, Group, Images, Metric, Published, Totals, ratio
from harness.contracts.judge import Judge
from harness.contracts.offered import Hub
from harness.contracts.records import Image, Item, Response, Score, Unscored
from harness.contracts.wordings import OPTION_LETTER
from harness.system.errors import UsageError

LETTERS = "ABCDE"
OPENINGS = ("(", "option ", "the answer is ")
OPTION = re.compile(r"(?:^|[\s,])([A-E]): ")
BARE = re.compile(r"(?:\(|option |the answer is )?[a-e](?![\w.]\w|\s*\w)", re.IGNORECASE)
CATEGORIES = (
    "coarse perception", "fine-grained perception", "instance reasoning", "logical reasoning", "science & technology",
    "math",
)  # fmt: skip
OFFICIAL_N, OFFICIAL_EACH = 1500, 250  # what the official script divides by, however many it was given
COLUMNS = ("index", "question", "answer", "category", "l2_category")


def parse(text: str) -> str:
    """The character that the official rule holds against the right letter, as a capital; "" where there is none.

    It is the first one, or the one behind "(", "option " or "the answer is ".
    """
    said = text.lower().strip().replace("\n", " ")
    start = next((len(opening) for opening in OPENINGS if said.startswith(opening)), 0)
    return said[start : start + 1].upper()


def options(question: str) -> dict[str, str]:
    """Letter -> option in the last "Options: A: ..., B: ..." of a question; none where there is no such line."""
    _, mark, text = question.rpartition("Options:")
    places: list[re.Match[str]] = []
    for match in OPTION.finditer(text) if mark else ():
        if match[1] == LETTERS[len(places) : len(places) + 1]:
            places.append(match)
    ends = [*(place.start() for place in places[1:]), len(text)]
    return {place[1]: text[place.end() : end].strip(" ,\n") for place, end in zip(places, ends, strict=False)}


def slug(category: str) -> str:
    """A category as part of a metric's id."""
    return category.replace(" & ", "_").replace(" ", "_")


@dataclass(frozen=True)
class Mmstar(Benchmark):
    """One character of the response must be the right letter.

    Beyond `metrics`, `compute` gives "mmstar/axis/<capability>(<axis>)" for the axes in the data.
    """

    hub: str = ""

    label: ClassVar[str] = "MMStar"
    group: ClassVar[Group] = "comprehension"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("mmstar/all", "MMStar", (0.0, 100.0)),
        Metric("mmstar/all@robust", "MMStar (any clear choice)", (0.0, 100.0)),
        Metric("mmstar/valid", "MMStar letters", (0.0, 100.0)),
        *(Metric(f"mmstar/{slug(name)}", f"MMStar {name}", (0.0, 100.0)) for name in CATEGORIES),
    )
    max_new_tokens: ClassVar[int] = 128
    layout: ClassVar[str] = "mmstar.parquet or MMStar.tsv from huggingface.co/datasets/Lin-Chen/MMStar."
    offered: ClassVar[Hub] = Hub("Lin-Chen/MMStar", ("MMStar.tsv",), "60 MB")
    official_n: ClassVar[int] = OFFICIAL_N
    protocol: ClassVar[str] = "option letter"
    missing_is_wrong: ClassVar[bool] = True

    def items(self, folder: Path, images: Images) -> Iterator[Item]:
        """The questions in the file's order."""
        table: Iterable[Mapping[str, Any]] | None = _parquet.rows(folder, self.hub, "val", "val" if self.hub else "")
        path = folder / "MMStar.tsv"
        if table is None:
            path = required(folder, "MMStar.tsv", self.told(folder))
            table = checked(path, list(spreadsheet(path)), [*COLUMNS, "image"])
        for number, row in enumerate(table, 1):
            image = _choices.picture(images, row["image"], f"MMStar question {row['index']}")
            yield _item(path, number, row, image)

    def stratum(self, item: Item) -> str:
        """Its capability."""
        return str(item.facts["category"])

    def score(self, item: Item, response: Response, judge: Judge | None) -> Score | Unscored:
        """1 where the character is the right letter."""
        right, choices, found = item.facts["answer"], item.facts["choices"], parse(response.text)
        bare = found if BARE.match(response.text.strip()) else None  # a letter that begins a word names no option
        robust = choice(response.text, choices, bare)
        category = item.facts["category"]
        groups = ["all", slug(category), f"axis/{category}({item.facts['axis']})"]
        parts = tally(float(found == right), groups) | tally(float(robust == right), ["all@robust"])
        letters = choices or LETTERS
        return Score(item.id, parts | tally(float(found != "" and found in letters), ["valid"]))

    def compute(self, totals: Totals) -> dict[str, Any]:
        """Accuracy in percent, of all, of each capability and of each axis."""
        none = {f"{slug(name)}/{part}": 0.0 for name in CATEGORIES for part in ("sum", "n")}
        return means("mmstar", none | dict(totals))

    def published(self, files: Files) -> Published:
        """The official sheet of predictions (.xlsx, .tsv, .csv), which has its questions; or the data as questions
        with a sheet, or with JSON lines of question_id and text.
        """
        path = files.one("answers")
        answers = _choices.rows(path, [])
        asked = files.one("questions") if files.questions else path
        questions = _choices.rows(asked, COLUMNS) if files.questions else checked(asked, answers, COLUMNS)
        items = [_item(asked, number, row, None) for number, row in enumerate(questions, 1)]
        found = []
        for number, row in enumerate(answers, 1):
            id = _id(path, number, row.get("index", row.get("question_id")))
            found.append(Response(id, said(path, number, row, ("prediction", "text")), 0))
        return Published(items, found)

    def answers(self, items: Sequence[Item], texts: Mapping[str, str]) -> dict[str, str]:
        """The columns of the official sheet, which its script wants as .xlsx."""
        file = io.StringIO()
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow([*COLUMNS, "bench", "prediction"])
        for item in items:
            about = (item.prompt.removesuffix(OPTION_LETTER), item.facts["answer"], item.facts["category"])
            table.writerow([item.id, *about, item.facts["axis"], item.facts["bench"], texts[item.id]])
        return {"answers.tsv": file.getvalue()}

    def official(self, totals: Mapping[str, float]) -> dict[str, float]:
        """What the official script writes: shares of 1,500 questions, of 250 for each capability, of each axis."""
        figures = {"final score": totals["all/sum"] / OFFICIAL_N}
        figures |= {name: totals.get(f"{slug(name)}/sum", 0.0) / OFFICIAL_EACH for name in CATEGORIES}
        axes = [part.removesuffix("/n") for part in totals if part.startswith("axis/") and part.endswith("/n")]
        shares = {axis: ratio(totals[f"{axis}/sum"], totals[f"{axis}/n"], 1.0) for axis in axes}
        return figures | {axis.removeprefix("axis/"): share for axis, share in shares.items()}


def _id(path: Path, number: int, value: object) -> str:
    """An index; pandas may have made it a float."""
    return name_of(path, number, value).removesuffix(".0")


def _item(path: Path, number: int, row: Mapping[str, Any], image: Image | None) -> Item:
    """One question; UsageError where its right answer is no letter or its capability is none of the six."""
    id, right = _id(path, number, row["index"]), str(row["answer"]).strip().upper()
    question = text_in(f"MMStar question {id}", row["question"])
    if right not in LETTERS or len(right) != 1:
        raise UsageError(f"MMStar question {id} has the answer {row['answer']!r}, which is no letter from A to E.")
    if row["category"] not in CATEGORIES:
        raise UsageError(f"MMStar question {id} is of the capability {row['category']!r}, which MMStar does not have.")
    columns = _choices.listed(row)  # VLMEvalKit's table has options there, the official one in the question
    choices = columns or options(question)
    prompt = "\n".join([question.strip(), *(f"{letter}. {words}" for letter, words in columns.items())])
    bench = row.get("bench") or (row.get("meta_info") or {}).get("source") or ""  # the TSV's column, the parquet's
    about = {"category": row["category"], "axis": str(row["l2_category"]), "bench": str(bench)}
    facts = {"answer": right, "choices": choices if right in choices else {}, **about}
    return Item(id, image, prompt + OPTION_LETTER, id, facts)
