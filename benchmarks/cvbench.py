"""CV-Bench: counting and relations in two dimensions, depth and distance in three. Rules of cambrian-mllm/cambrian
`eval/eval/{ade,coco,omni}` and of the dataset's card (nyu-visionx/CV-Bench).

Traps: the figure is no mean over questions: ADE20K and COCO have half of the 2D figure each, 2D and 3D half of the
whole each. lmms-eval's task prints the mean over all 2,638 questions. Both look at the first letter of the response, so
that "A cat" is A and "Because" is B.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Literal

from benchmarks import _choices, _parquet
from benchmarks._files import checked, name_of, records, required, said, text_in
from benchmarks._groups import means, tally
from benchmarks._parses import choice
from harness.contracts.benchmark import Benchmark, Files, Group, Images, Metric, Published, Totals, json_line, ratio
from harness.contracts.judge import Judge
from harness.contracts.offered import Hub
from harness.contracts.records import Image, Item, Response, Score, Unscored
from harness.contracts.wordings import OPTION_LETTER
from harness.system.errors import UsageError

PARTS = ("test_2d", "test_3d")
SOURCES = {"ADE20K": "2D", "COCO": "2D", "Omni3D": "3D"}  # each with its type
KINDS = ("source", "source@robust", "source@vlmevalkit")
FIELDS = ("idx", "task", "source", "choices", "answer", "prompt")
ANSWERED = ("questionId", "prompt", "answer", "gt_answer", "category", "options")  # of Cambrian's answer files
SELECT = "Select from the following choices."  # before the options in a prompt of the data
KEYWORDS = ("answer is", "answer is:", "answer:")
FIRST = re.compile(r"[(\s]*([A-Z])", re.IGNORECASE)
BARE = re.compile(r"\W*[a-z](?![\w.]\w|\s*\w)", re.IGNORECASE)  # a letter that begins no word and no sentence


def parse(text: str) -> str:
    """The first character behind the last "answer is" or "answer:" and brackets, as a capital: Cambrian's rule.

    A colon behind "answer is" is that character, as in the official script.
    """
    text = text.lower().strip()
    for keyword in KEYWORDS:
        text = text.rpartition(keyword)[2] if keyword in text else text
    return text.strip().rstrip(".").lstrip("(").rstrip(")")[:1].upper()


def parse_lmms(text: str) -> str:
    """The letter that the response begins with, brackets and blanks aside, as a capital: lmms-eval's rule."""
    found = FIRST.match(text.strip())
    return found[1].upper() if found else ""


@dataclass(frozen=True)
class CvBench(Benchmark):
    """The letter of an option, combined over the sources: half (ADE20K + COCO) / 2, half Omni3D.

    `wording="llava"` lists the options as LLaVA does, a line "A. ..." each, and not as the data have them.
    "cvbench/cambrian" has the official rule, "cvbench/vlmevalkit" VLMEvalKit's letter by the same formula (its kit
    prints 2D and 3D apart), "cvbench/lmms_eval" lmms-eval's letter over all questions. Beyond `metrics`, `compute`
    gives "cvbench/source/<name>" and "cvbench/task/<name>".
    """

    wording: Literal["cambrian", "llava"] = "cambrian"
    hub: str = ""

    label: ClassVar[str] = "CV-Bench"
    group: ClassVar[Group] = "vqa"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("cvbench/cambrian", "CV-Bench", (0.0, 100.0)),
        Metric("cvbench/cambrian@robust", "CV-Bench (any clear choice)", (0.0, 100.0)),
        Metric("cvbench/2d", "CV-Bench 2D", (0.0, 100.0)),
        Metric("cvbench/3d", "CV-Bench 3D", (0.0, 100.0), chance=50.0),  # two options each
        Metric("cvbench/vlmevalkit", "CV-Bench by VLMEvalKit's rule", (0.0, 100.0)),
        Metric("cvbench/lmms_eval", "CV-Bench by lmms-eval's rule", (0.0, 100.0)),
        Metric("cvbench/valid", "CV-Bench letters", (0.0, 100.0)),
    )
    max_new_tokens: ClassVar[int] = 128
    layout: ClassVar[str] = (
        "test_2d.parquet and test_3d.parquet from huggingface.co/datasets/nyu-visionx/CV-Bench; or test_2d.jsonl, "
        "test_3d.jsonl and img/, which its build_img.py makes."
    )
    offered: ClassVar[Hub] = Hub("nyu-visionx/CV-Bench", ("test_2d.parquet", "test_3d.parquet"), "405 MB")
    official_n: ClassVar[int] = 2638
    protocol: ClassVar[str] = "option letter"

    def items(self, folder: Path, images: Images) -> Iterator[Item]:
        """The questions, 2D first, in the files' order."""
        if table := _parquet.rows(folder, self.hub, "test"):
            for row in table:
                yield self._item(row, images.of(_parquet.picture(row["image"], f"CV-Bench question {row['idx']}")))
            return
        paths = [required(folder, f"{part}.jsonl", self.told(folder)) for part in PARTS]
        for record in chain.from_iterable(records(path, [*FIELDS, "filename"]) for path in paths):
            yield self._item(record, images.at(folder / record["filename"]))

    def _item(self, row: Mapping[str, Any], image: Image | None) -> Item:
        """One question; UsageError where its options, its answer or its source are none."""
        id, options, given = str(row["idx"]), row["choices"], str(row["answer"])
        if not isinstance(options, list) or not 1 < len(options) <= len(_choices.LETTERS):
            raise UsageError(f"CV-Bench question {id} should have two to eight choices, and has {options!r}.")
        choices = dict(zip(_choices.LETTERS, map(str, options), strict=False))
        right = given.strip("()")
        if right not in choices:
            raise UsageError(f"CV-Bench question {id} has the answer {given!r}, which is none of its choices.")
        if row["source"] not in SOURCES:
            raise UsageError(f"CV-Bench question {id} is from {row['source']!r}, not from {', '.join(SOURCES)}.")
        prompt = text_in(f"the prompt of CV-Bench question {id}", row["prompt"]).removesuffix(OPTION_LETTER)
        if self.wording == "llava":
            asked = prompt.partition(SELECT)[0].rstrip()
            prompt = "\n".join([asked, *(f"{letter}. {words}" for letter, words in choices.items())])
        facts = {"answer": right, "choices": choices, "source": row["source"], "task": str(row["task"])}
        return Item(id, image, prompt + OPTION_LETTER, id, facts)

    def stratum(self, item: Item) -> str:
        """Its source and its task."""
        return f"{item.facts['source']}/{item.facts['task']}"

    def score(self, item: Item, response: Response, judge: Judge | None) -> Score | Unscored:
        """1 for the right letter, by each of the rules."""
        text, right, choices = response.text, item.facts["answer"], item.facts["choices"]
        found, source = parse(text), item.facts["source"]
        bare = found if BARE.match(text.strip()) else None
        parts = tally(float(found == right), [f"source/{source}", f"task/{item.facts['task']}"])
        parts |= tally(float(choice(text, choices, bare) == right), [f"source@robust/{source}"])
        parts |= tally(float(_choices.inferred(text, choices) == right), [f"source@vlmevalkit/{source}"])
        parts |= tally(float(parse_lmms(text) == right), ["lmms_eval"])
        return Score(item.id, parts | tally(float(found in choices), ["valid"]))

    def compute(self, totals: Totals) -> dict[str, Any]:
        """Accuracies in percent; a combination without one of its sources has no value."""
        found = means("cvbench", totals)
        combined = {kind: _combined(totals, kind) for kind in KINDS}
        flat, deep, whole = combined["source"]
        ours = {"2d": flat, "3d": deep, "cambrian": whole, "cambrian@robust": combined["source@robust"][2]}
        ours["vlmevalkit"] = combined["source@vlmevalkit"][2]
        return found | {f"cvbench/{name}": value for name, value in ours.items()}

    def published(self, files: Files) -> Published:
        """Cambrian's answer files, named by their source (ADE20K=PATH), which have questions and right answers too; or
        the questions (parquet or JSON lines, any number of files) with answers by idx or question_id.
        """
        if not files.questions:
            listed = [(source, path) for source, path in files.answers.items()]
            if unknown := [source for source, _ in listed if source not in SOURCES]:
                names = ", ".join(f"{source}=PATH" for source in SOURCES)
                raise UsageError(
                    f"--answers {unknown[0] or 'PATH'}: without --questions, CV-Bench's answers are named {names}."
                )
            items, found = list[Item](), list[Response]()
            for source, path in listed:
                for number, row in enumerate(checked(path, _choices.rows(path, []), ANSWERED), 1):
                    id = f"{source}/{name_of(path, number, row['questionId'])}"
                    about = {"task": row["category"], "choices": row["options"], "answer": row["gt_answer"]}
                    items.append(self._item({"idx": id, "source": source, "prompt": row["prompt"], **about}, None))
                    found.append(Response(id, said(path, number, row, ("answer",)), 0))
            return Published(items, found)
        asked = chain.from_iterable(_choices.rows(path, FIELDS) for path in files.questions.values())
        path = files.one("answers")
        answered = []
        for number, row in enumerate(_choices.rows(path, []), 1):
            given = next((row[name] for name in ("idx", "question_id", "index") if name in row), None)
            id = name_of(path, number, given)
            answered.append(Response(id, said(path, number, row, ("prediction", "text", "answer")), 0))
        return Published([self._item(row, None) for row in asked], answered)

    def answers(self, items: Sequence[Item], texts: Mapping[str, str]) -> dict[str, str]:
        """Cambrian's answer files, one for each source."""
        lines: dict[str, str] = {}
        for item in items:
            facts = item.facts
            row = {"questionId": item.id, "prompt": item.prompt, "answer": texts[item.id]}
            about = {"category": facts["task"], "options": list(facts["choices"].values())}
            name = f"{facts['source']}.jsonl"
            lines[name] = lines.get(name, "") + json_line({**row, "gt_answer": f"({facts['answer']})", **about})
        return lines

    def official(self, totals: Mapping[str, float]) -> dict[str, float]:
        """What the card's code prints, by its names and with its four decimals."""
        flat, deep, whole = (value / 100 for value in _combined(totals, "source"))
        figures = {"CV-Bench Accuracy": whole, "2D Accuracy": flat, "3D Accuracy": deep}
        figures |= {f"{source} Accuracy": _share(totals, "source", source) / 100 for source in SOURCES}
        return {name: round(value, 4) for name, value in figures.items()}


def _share(totals: Totals, kind: str, source: str) -> Any:
    """Percent right of a source's questions, by one of the rules."""
    return ratio(totals.get(f"{kind}/{source}/sum", 0.0), totals.get(f"{kind}/{source}/n", 0.0))


def _combined(totals: Totals, kind: str) -> tuple[Any, Any, Any]:
    """2D, 3D and the whole in percent, by the card's formula."""
    ade, coco, omni = (_share(totals, kind, source) for source in SOURCES)
    flat = (ade + coco) / 2
    return flat, omni, (flat + omni) / 2
