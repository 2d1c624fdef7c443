"""RealWorldQA: photographs from streets, a question each for a letter, a word or a number.

Traps: xAI published the data and no scorer, so several rules are in use, and each has its own metric here; "RealWorldQA
54.8" may be by any of them. lmms-eval wanted the answer alone (`tasks/realworldqa/utils.py` of
001eca00) and reads letters anywhere since (0.7.2), Cambrian takes the first word behind "answer is"
(`eval/eval/realworldqa/realworldqa_test.py`), VLMEvalKit asks another file, RealWorldQA.tsv, that has options. The
instruction that ends each question is part of the data.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from benchmarks import _choices, _parquet
from benchmarks._files import checked, name_of, required, said, spreadsheet, text_in
from benchmarks._groups import means, tally
from benchmarks._parses import answers, choice, is_phrase
from harness.contracts.benchmark import Benchmark, Files, Group, Images, Metric, Published, Totals, json_line, ratio
from harness.contracts.judge import Judge
from harness.contracts.offered import Hub
from harness.contracts.records import Image, Item, Response, Score, Unscored
from harness.contracts.wordings import OPTION_LETTER, SHORT_ANSWER

LETTER = "Please answer directly with only the letter of the correct option and nothing else."
WORD = "Please answer directly with a single word or number."
OPTION = re.compile(r"^([A-H])[.)] ?(.+)$", re.MULTILINE)
KEYWORDS = ("answer is", "answer is:", "answer:")
NUMBERS = "zero one two three four five six seven eight nine ten".split()


def parse(text: str) -> str:
    """The whole response in lower case, without outer blanks and last full stops."""
    return text.lower().strip().rstrip(".")


def match_lmms(text: str, answer: str) -> bool:
    """Whether lmms-eval 0.7.2 takes a response for right: it reads a letter anywhere, and other answers alone."""
    right = answer.strip()
    if right.upper() in tuple("ABCD"):
        return _choices.extracted(text) == right.upper()
    return parse(text) == right.lower()


def parse_cambrian(text: str) -> str:
    """The first word in lower case, of what stands behind the last "answer is" or "answer:"; "" where there is none."""
    text = text.lower().strip()
    for keyword in KEYWORDS:
        text = text.rpartition(keyword)[2] if keyword in text else text
    return next(iter(text.strip().rstrip(".").split()), "")


@dataclass(frozen=True)
class RealWorldQa(Benchmark):
    """Exact match with a letter, a word or a number.

    `wording="llava"` puts LLaVA's request for a letter or a phrase in place of the one in the data. Beyond `metrics`,
    `compute` gives "realworldqa/letter" and "realworldqa/word", the column for either kind of question. The robust twin
    reads any clear choice, and a word or number in the first sentence, also spelled out.
    """

    wording: Literal["xai", "llava"] = "xai"
    hub: str = ""

    label: ClassVar[str] = "RealWorldQA"
    group: ClassVar[Group] = "vqa"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("realworldqa/exact", "RealWorldQA", (0.0, 100.0)),
        Metric("realworldqa/exact@robust", "RealWorldQA (any clear answer)", (0.0, 100.0)),
        Metric("realworldqa/lmms_eval", "RealWorldQA by lmms-eval's rule", (0.0, 100.0)),
        Metric("realworldqa/cambrian", "RealWorldQA by Cambrian's rule", (0.0, 100.0)),
        Metric("realworldqa/vlmevalkit", "RealWorldQA letters by VLMEvalKit's rule", (0.0, 100.0)),
        Metric("realworldqa/valid", "RealWorldQA in the form asked for", (0.0, 100.0)),
    )
    max_new_tokens: ClassVar[int] = 128
    layout: ClassVar[str] = (
        "the parquet files of lmms-lab/RealWorldQA or xai-org/RealworldQA; or RealWorldQA.tsv (index, question, A, B, "
        "..., answer, image as base64), as VLMEvalKit has it."
    )
    offered: ClassVar[Hub] = Hub("lmms-lab/RealWorldQA", ("data/*",), "678 MB")
    official_n: ClassVar[int] = 765
    protocol: ClassVar[str] = "letter or short answer"

    def items(self, folder: Path, images: Images) -> Iterator[Item]:
        """The questions in the file's order; the parquet data tell no ids, so there it is the row's number."""
        table: Iterable[Mapping[str, Any]] | None = _parquet.rows(folder, self.hub, "test")
        path = folder / "RealWorldQA.tsv"
        if table is None:
            path = required(folder, "RealWorldQA.tsv", self.told(folder))
            table = checked(path, list(spreadsheet(path)), ["index", "question", "answer", "image"])
        for number, row in enumerate(table):
            image = _choices.picture(images, row["image"], f"RealWorldQA question {row.get('index', number)}")
            yield self._item(path, number, row, image)

    def _item(self, path: Path, number: int, row: Mapping[str, Any], image: Image | None) -> Item:
        """One question, which has options in columns or in its own text, or none."""
        id = name_of(path, number + 1, row.get("index", number)).removesuffix(".0")
        question = text_in(f"RealWorldQA question {id}", row["question"]).strip()
        right = text_in(f"the answer of RealWorldQA question {id}", row["answer"])
        columns = _choices.listed(row)
        if columns:
            question = "\n".join([question, *(f"{letter}. {words}" for letter, words in columns.items())])
        choices = columns or {letter: words.strip() for letter, words in OPTION.findall(question)}
        choices = choices if right.strip().upper() in choices else {}
        if LETTER not in question and WORD not in question:
            question += f"\n{LETTER if choices else WORD}"
        if self.wording == "llava":
            question = question.replace(LETTER, "").replace(WORD, "").rstrip()
            question += OPTION_LETTER if choices else SHORT_ANSWER
        return Item(id, image, question, id, {"answer": right, "choices": choices})

    def stratum(self, item: Item) -> str:
        """Whether it asks for a letter."""
        return "letter" if item.facts["choices"] else "word"

    def score(self, item: Item, response: Response, judge: Judge | None) -> Score | Unscored:
        """1 where the parsed response is the answer, by each of the rules."""
        text, choices, answer = response.text, item.facts["choices"], item.facts["answer"]
        found, wanted = parse(text), answer.lower().strip()
        exact = float(found == wanted)
        parts = tally(exact, ["exact", self.stratum(item)])
        parts |= tally(float(match_lmms(text, answer)), ["lmms_eval"])
        parts |= tally(float(parse_cambrian(text) == answer.lower()), ["cambrian"])
        if not choices:
            robust = exact or any(answers(text, form) for form in forms(wanted))
            return Score(item.id, parts | tally(float(robust), ["exact@robust"]) | _valid(is_phrase(text)))
        letter = found.upper() if found.upper() in choices else None
        right = answer.strip().upper()
        parts |= tally(float(choice(text, choices, letter) == right), ["exact@robust"])
        parts |= tally(float(_choices.inferred(text, choices) == right), ["vlmevalkit"])
        return Score(item.id, parts | _valid(letter is not None))

    def compute(self, totals: Totals) -> dict[str, Any]:
        """Accuracy in percent by each rule; VLMEvalKit's is over the questions with options."""
        return means("realworldqa", {"vlmevalkit/sum": 0.0, "vlmevalkit/n": 0.0} | dict(totals))

    def published(self, files: Files) -> Published:
        """Cambrian's answers, JSON lines that have question and right answer too (question_id, prompt, answer,
        gt_answer); or the data as questions, with JSON lines or a table of index or question_id and the response.
        """
        path = files.one("answers")
        rows = _choices.rows(path, [])
        if files.questions:
            asked = files.one("questions")
            questions = _choices.rows(asked, ["question", "answer"])
            items = [self._item(asked, number, row, None) for number, row in enumerate(questions)]
        else:
            rows = checked(path, rows, ["question_id", "prompt", "answer", "gt_answer"])
            facts = ({"index": r["question_id"], "question": r["prompt"], "answer": r["gt_answer"]} for r in rows)
            items = [self._item(path, number, row, None) for number, row in enumerate(facts)]
        found = []
        for number, row in enumerate(rows, 1):
            id = name_of(path, number, row.get("question_id", row.get("index"))).removesuffix(".0")
            found.append(Response(id, said(path, number, row, ("prediction", "text", "answer")), 0))
        return Published(items, found)

    def answers(self, items: Sequence[Item], texts: Mapping[str, str]) -> dict[str, str]:
        """Cambrian's answer file."""
        rows = (
            {"question_id": item.id, "prompt": item.prompt, "answer": texts[item.id], "gt_answer": item.facts["answer"]}
            for item in items
        )
        return {"answers.jsonl": "".join(map(json_line, rows))}

    def official(self, totals: Mapping[str, float]) -> dict[str, float]:
        """lmms-eval's share, and what Cambrian's script prints."""
        right, n = totals["cambrian/sum"], totals["cambrian/n"]
        exact = ratio(totals["lmms_eval/sum"], totals["lmms_eval/n"], 1.0)
        return {"exact_match": exact, "accuracy": ratio(right, n), "correct": right, "total": n}


def forms(answer: str) -> list[str]:
    """An answer and, for a number up to ten, its other spelling."""
    if answer in NUMBERS:
        return [answer, str(NUMBERS.index(answer))]
    spelled = answer.isascii() and answer.isdecimal() and int(answer) < len(NUMBERS)
    return [answer, NUMBERS[int(answer)]] if spelled else [answer]


def _valid(held: bool) -> dict[str, float]:
    return tally(float(held), ["valid"])
