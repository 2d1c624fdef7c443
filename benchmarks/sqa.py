"""ScienceQA test. Rules of LLaVA `model_vqa_science.py` (prompt) and `eval_science_qa.py` (score).

Traps: "SQA" is the accuracy on questions with an image (2,017) in LLaVA's and nSFT's tables and on all (4,241) in
others. The official parse takes "B", "B. ..." and one "The answer is B." but neither "b", " B" nor "B."; lmms-eval
knows no "The answer is". The same weights give 66.8 to 69.5 in different environments.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from benchmarks import _parquet
from benchmarks._files import parsed, read_json, required, responses
from benchmarks._groups import means, tally
from benchmarks._parses import choice
from harness.contracts.benchmark import Benchmark, Files, Group, Images, Metric, Published, Totals, ratio
from harness.contracts.judge import Judge
from harness.contracts.offered import Hub
from harness.contracts.records import Image, Item, Response, Score, Unscored
from harness.contracts.wordings import OPTION_LETTER
from harness.system.errors import UsageError

LETTERS = "ABCDE"


def parse(text: str) -> str | None:
    """The letter alone, or a letter with ". " at the very start, or one "The answer is X." anywhere."""
    if text and text in LETTERS and len(text) == 1:
        return text
    if len(text) >= 3 and text[0] in LETTERS and text[1:3] == ". ":
        return text[0]
    found = re.findall(r"The answer is ([A-Z]).", text)
    return found[0] if len(found) == 1 else None


@dataclass(frozen=True)
class Sqa(Benchmark):
    """Multiple choice. `images_only` keeps the questions with an image, the papers' IMG column.

    Beyond `metrics`, `compute` gives "sqa/all" (IMG and text questions together), "sqa/subject/<subject>",
    "sqa/grade/<1-6|7-12>" and, where there are text questions, "sqa/text". Published answers are scored on all.
    """

    images_only: bool = True
    hub: str = ""

    label: ClassVar[str] = "SQA"
    group: ClassVar[Group] = "vqa"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("sqa/img", "SQA", (0.0, 100.0), chance=35.5),
        Metric("sqa/img@robust", "SQA (any clear choice)", (0.0, 100.0), chance=35.5),
        Metric("sqa/valid", "SQA letters", (0.0, 100.0)),
    )
    max_new_tokens: ClassVar[int] = 1024
    layout: ClassVar[str] = (
        "problems.json, pid_splits.json and images/test/<id>/image.png, all from github.com/lupantech/ScienceQA. "
        "Or the parquet files of lmms-lab/ScienceQA."
    )
    offered: ClassVar[Hub] = Hub("lmms-lab/ScienceQA", ("ScienceQA-IMG/test*",), "130 MB")
    official_n: ClassVar[int] = 2017
    protocol: ClassVar[str] = "option letter"
    extras: ClassVar[Mapping[str, str]] = {"split": "pid_splits.json, whose test problems are asked"}
    missing_is_wrong: ClassVar[bool] = True

    def items(self, folder: Path, images: Images) -> Iterator[Item]:
        """The problems of the test split, in its order."""
        config = "ScienceQA-IMG" if self.images_only else "ScienceQA-FULL"
        if table := _parquet.rows(folder, self.hub, "test", config):
            yield from self._from_rows(table, images)
            return
        problems = read_json(folder, "problems.json", self.told(folder))
        for id in read_json(folder, "pid_splits.json", self.told(folder))["test"]:
            problem = problems[id]
            if not problem.get("image") and self.images_only:
                continue
            pictures = required(folder, "images", self.told(folder)) if problem.get("image") else None
            image = images.at(pictures / "test" / id / problem["image"]) if pictures else None
            yield _item(id, problem, image)

    def _from_rows(self, table: Iterator[_parquet.Row], images: Images) -> Iterator[Item]:
        """The same problems from lmms-lab/ScienceQA, which does not tell their ids: there, the row's number."""
        for number, row in enumerate(table):
            id, seen = str(row.get("id", number)), row.get("image")
            if seen or not self.images_only:
                yield _item(id, row, images.of(_parquet.picture(seen, id)) if seen else None)

    def stratum(self, item: Item) -> str:
        """Its subject, and whether it has an image."""
        return f"{item.facts['where']}/{item.facts.get('subject')}"

    def score(self, item: Item, response: Response, judge: Judge | None) -> Score | Unscored:
        """1 for the right letter; a letter beyond the choices is as wrong as none."""
        right = LETTERS[item.facts["answer"]]
        where = item.facts["where"]
        groups = ["all", where]
        if item.facts.get("subject"):
            groups.append(f"subject/{item.facts['subject']}")
        if item.facts.get("grade"):
            grade = int(str(item.facts["grade"]).removeprefix("grade"))
            groups.append("grade/1-6" if grade <= 6 else "grade/7-12")
        said = parse(response.text)
        choices = dict(zip(LETTERS, map(str, item.facts["choices"]), strict=False))
        robust = tally(float(choice(response.text, choices, said) == right), [f"{where}@robust", "all@robust"])
        valid = tally(float(said is not None), ["valid"])
        return Score(item.id, tally(float(said == right), groups) | robust | valid)

    def compute(self, totals: Totals) -> dict[str, Any]:
        """Accuracy in percent, of all and of each group."""
        return means("sqa", totals)

    def published(self, files: Files) -> Published:
        """The problems of the test split (all of them where the file does not tell), and LLaVA's answers."""
        path = files.one("questions")
        problems = parsed(path)
        if not isinstance(problems, dict) or not all(
            isinstance(row, dict) and "choices" in row and "answer" in row for row in problems.values()
        ):
            raise UsageError(f"{path} should map problem ids to problems with choices and answer. {self.layout}")
        if "split" in files.extras:
            ids = [str(id) for id in parsed(files.extras["split"])["test"]]
        else:
            ids = [id for id, problem in problems.items() if problem.get("split", "test") == "test"]
        absent = [id for id in ids if id not in problems]
        if absent:
            raise UsageError(f"{path} lacks {len(absent)} problems of the split, e.g. {absent[0]}.")
        items = [_item(id, problems[id], None) for id in ids]
        return Published(items, list(responses(files.one("answers"))))

    def official(self, totals: Mapping[str, float]) -> dict[str, float]:
        """What `eval_science_qa.py` prints: accuracy in percent of all and of those with an image, and counts."""
        right, n = totals["all/sum"], totals["all/n"]
        with_image = ratio(totals.get("img/sum", 0.0), totals.get("img/n", 0.0))
        return {"accuracy": ratio(right, n), "accuracy_img": with_image, "correct": right, "count": n}


def _item(id: str, problem: Mapping[str, Any], image: Image | None) -> Item:
    """One problem; `where` says whether the problem has an image. UsageError for a right answer that is no choice."""
    choices, right = problem["choices"], problem["answer"]
    if not isinstance(choices, list) or not 1 < len(choices) <= len(LETTERS):
        raise UsageError(f"ScienceQA problem {id} should have two to {len(LETTERS)} choices, and has {choices!r}.")
    if type(right) is not int or not 0 <= right < len(choices):
        raise UsageError(f"ScienceQA problem {id} has the answer {right!r}, not the number of one of its choices.")
    facts = {name: problem.get(name) for name in ("answer", "choices", "subject", "grade")}
    return Item(id, image, prompt(problem), id, facts | {"where": "img" if problem.get("image") else "text"})


def prompt(problem: Mapping[str, Any]) -> str:
    """The CQM-A format: context where there is a hint, question, options, and the request for a letter."""
    hint = (problem.get("hint") or "").strip()
    listed = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, problem["choices"], strict=False)]
    context = [f"Context: {hint}"] if hint else []
    return "\n".join([*context, problem.get("question", "").strip(), *listed]) + OPTION_LETTER
