"""TextVQA validation, v0.5.1. Rules of LLaVA `m4c_evaluator.py` (from facebookresearch/mmf), quirks included.

Traps: LLaVA-1.5's published 58.2 has the OCR line in the prompt; without it, as lmms-eval asks by default, the same
model gets about 46. LLaVA-NeXT's figures are without it (`ocr=false`). In LLaVA's answer files `question_id` is the
image's id, and answers find their question by its text in the prompt.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from benchmarks import _parquet
from benchmarks._files import checked, picture, read_json, records, required, said
from benchmarks._groups import means, tally
from benchmarks._parses import contains, is_phrase
from harness.contracts.benchmark import Benchmark, Files, Group, Images, Metric, Published, Totals
from harness.contracts.judge import Judge
from harness.contracts.offered import Hub
from harness.contracts.records import Image, Item, Response, Score, Unscored
from harness.contracts.wordings import SHORT_ANSWER

NUMBERS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5",
    "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
ARTICLES = ("a", "an", "the")
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
# The look-behind is mistyped in the official pattern; it never excludes a full stop.
FULL_STOP = re.compile(r"(?!<=\d)(\.)(?!\d)")
FULL_STOPS = 32  # the official code passes re.UNICODE where `count` belongs
DIGIT_COMMA = re.compile(r"(?<=\d)(\,)+(?=\d)")

# Repaired forms whose misspelling lacks every apostrophe, then the misspellings that lack some of them.
_REPAIRED = """
ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's isn't it'd
it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't should've shouldn't somebody'll
somebody's someone'd someone'll someone's something'd something'll that's there'd there're there's they'd they'll
they're they've 'twas wasn't we've weren't what'll what're what's what've when's where'd where's where've who'd who'll
who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're you've
""".split()
_PARTLY = """
couldn'tve couldn't've couldnt've couldn't've hadnt've hadn't've hadn'tve hadn't've hed've he'd've he'dve he'd've
itd've it'd've it'dve it'd've mightnt've mightn't've mightn'tve mightn't've ow's'at 'ow's'at 'ows'at 'ow's'at
'ow'sat 'ow's'at shed've she'd've she'dve she'd've shouldnt've shouldn't've shouldn'tve shouldn't've
somebody'd somebodyd somebodyd've somebody'd've somebody'dve somebody'd've someoned've someone'd've
someone'dve someone'd've somethingd've something'd've something'dve something'd've thered've there'd've
there'dve there'd've theyd've they'd've they'dve they'd've wed've we'd've we'dve we'd've whod've who'd've
who'dve who'd've wouldnt've wouldn't've wouldn'tve wouldn't've yall'll y'all'll y'allll y'all'll
yall'd've y'all'd've y'alld've y'all'd've y'all'dve y'all'd've youd've you'd've you'dve you'd've
""".split()
CONTRACTIONS = {word.replace("'", ""): word for word in _REPAIRED} | dict(zip(_PARTLY[::2], _PARTLY[1::2], strict=True))


def _without_punctuation(text: str) -> str:
    """Each mark is dropped where it touches a blank anywhere, or digits hold a comma; else it becomes a blank."""
    result = text
    for mark in PUNCTUATION:
        drop = f"{mark} " in text or f" {mark}" in text or DIGIT_COMMA.search(text)
        result = result.replace(mark, "" if drop else " ")
    return FULL_STOP.sub("", result, count=FULL_STOPS)


def process(text: str) -> str:
    """The official answer processor: case, punctuation, number words, articles, contractions."""
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    text = _without_punctuation(text.replace("\n", " ").replace("\t", " ").strip())
    words = [NUMBERS.get(word, word) for word in text.lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def accuracy(text: str, answers: Sequence[str]) -> float:
    """min(1, matches / 3), averaged over leaving each of the annotators out."""
    said = process(text)
    return _agreement([process(answer) == said for answer in answers])


def accuracy_robust(text: str, answers: Sequence[str]) -> float:
    """The best accuracy of an answer whose words the response contains; never less than the official one."""
    found = [answer for answer in set(answers) if contains(process(text), process(answer))]
    return max([accuracy(text, answers), *(accuracy(answer, answers) for answer in found)])


def _agreement(matches: Sequence[bool]) -> float:
    """The accuracy of an answer that these annotators gave, summed in the official order."""
    total = sum(matches)
    return sum(min(1.0, (total - match) / 3) for match in matches) / len(matches)


@dataclass(frozen=True)
class Textvqa(Benchmark):
    """VQA accuracy against ten annotators. `ocr` adds the line of Rosetta's tokens to the prompt, as LLaVA-1.5's
    published figures have it; without it the same model loses about twelve points.
    """

    ocr: bool = True
    hub: str = ""

    label: ClassVar[str] = "VQA^T"
    group: ClassVar[Group] = "vqa"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("textvqa/all", "VQA^T", (0.0, 100.0)),
        Metric("textvqa/all@robust", "VQA^T (answer in the response)", (0.0, 100.0)),
        Metric("textvqa/valid", "VQA^T phrases", (0.0, 100.0)),
    )
    max_new_tokens: ClassVar[int] = 128
    layout: ClassVar[str] = (
        "TextVQA_0.5.1_val.json, train_images/ and (for ocr=true) TextVQA_Rosetta_OCR_v0.2_val.json, all from "
        "textvqa.org/dataset. Or the parquet files of lmms-lab/textvqa."
    )
    offered: ClassVar[Hub] = Hub("lmms-lab/textvqa", ("data/validation*",), "920 MB")
    official_n: ClassVar[int] = 5000
    protocol: ClassVar[str] = "short answer, OCR tokens"

    def items(self, folder: Path, images: Images) -> Iterator[Item]:
        """The questions in the file's order."""
        if table := _parquet.rows(folder, self.hub, "validation"):
            yield from self._from_rows(table, images)
            return
        tokens: dict[str, list[str]] = {}
        if self.ocr:
            read = read_json(folder, "TextVQA_Rosetta_OCR_v0.2_val.json", self.told(folder))["data"]
            tokens = {row["image_id"]: row["ocr_tokens"] for row in read}
        pictures = required(folder, "train_images", self.told(folder))
        for row in read_json(folder, "TextVQA_0.5.1_val.json", self.told(folder))["data"]:
            read_off = tokens.get(row["image_id"], []) if self.ocr else None
            yield _item(row, read_off, images.at(picture(pictures, row["image_id"])))

    def _from_rows(self, table: Iterator[_parquet.Row], images: Images) -> Iterator[Item]:
        """The same questions from lmms-lab/textvqa, whose rows have the tokens too."""
        for row in table:
            image = images.of(_parquet.picture(row["image"], str(row["question_id"])))
            yield _item(row, row["ocr_tokens"] if self.ocr else None, image)

    def score(self, item: Item, response: Response, judge: Judge | None) -> Score | Unscored:
        """The VQA accuracy of one response."""
        text, answers = response.text, item.facts["answers"]
        strict, valid = tally(accuracy(text, answers), ["all"]), tally(float(is_phrase(text)), ["valid"])
        return Score(item.id, strict | tally(accuracy_robust(text, answers), ["all@robust"]) | valid)

    def compute(self, totals: Totals) -> dict[str, Any]:
        """The mean in percent."""
        return means("textvqa", totals)

    def published(self, files: Files) -> Published:
        """LLaVA's answers to the official questions, or answers to records with `gt_answers`.

        Without --questions the answers are such records themselves.
        """
        answers_path = files.one("answers")
        path = files.one("questions") if files.questions else answers_path
        rows = records(path, ["question_id"])
        answers = rows if path == answers_path else records(answers_path, ["question_id"])
        texts = [said(answers_path, n, row, ("text", "pred_answer")) for n, row in enumerate(answers, 1)]
        if not rows or "gt_answers" not in rows[0]:
            checked(path, rows, ["image_id", "question", "answers"])
            return _with_accuracy(*_official_layout(rows, answers, texts))
        checked(path, rows, ["gt_answers"])
        items = [
            Item(id, None, "", id, {"answers": row["gt_answers"]}) for id, row in zip(numbered(rows), rows, strict=True)
        ]
        responses = [Response(id, text, 0) for id, text in zip(numbered(answers), texts, strict=True)]
        return _with_accuracy(items, responses)


def _item(row: Mapping[str, Any], tokens: Sequence[str] | None, image: Image) -> Item:
    """One question, with a line of tokens unless they are None.

    As LLaVA's question file (`llava_textvqa_val_v051_ocr.jsonl`) has it: the line is there where a picture has no
    tokens as well, empty; and a question has one capital letter, its first ("Is this denny's?").
    """
    id, prompt = str(row["question_id"]), row["question"].capitalize()
    prompt += f"\nReference OCR token: {', '.join(tokens)}" if tokens is not None else ""
    return Item(id, image, prompt + SHORT_ANSWER, id, {"answers": row["answers"]})


def _with_accuracy(items: Sequence[Item], responses: Sequence[Response]) -> Published:
    """Both, with the fraction that the M4C evaluator returns: one running sum in the order of the answers."""
    references = {item.id: item.facts["answers"] for item in items}
    said = {response.id: response.text for response in responses if response.id in references}
    summed = 0.0
    for id, text in said.items():
        summed += accuracy(text, references[id])
    return Published(items, responses, official={"accuracy": summed / len(said)} if said else {})


def numbered(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows' ids. An id that occurs again, for another question about the image, gets its number: "x", "x#2"."""
    seen: Counter[str] = Counter()
    found = []
    for row in rows:
        id = _number(row)
        seen[id] += 1
        found.append(id if seen[id] == 1 else f"{id}#{seen[id]}")
    return found


def _number(row: Mapping[str, Any]) -> str:
    """A row's question_id; 3.0 is 3, as a JSON writer may have it."""
    id = row["question_id"]
    return str(int(id)) if isinstance(id, float) and id.is_integer() else str(id)


def asked(prompt: str) -> str:
    """The question in a prompt of LLaVA's, in lower case: how `eval_textvqa.py` finds what a response is to."""
    if prompt.startswith("OCR tokens: "):  # LLaVA-1.0
        found = re.search(r"Question: (.*?) Short answer:", prompt, re.DOTALL)
        return found[1].lower() if found else ""
    lines = prompt.split("\n")
    return lines[1 if prompt.startswith("Reference OCR token:") and len(lines) > 1 else 0].lower()


def _official_layout(
    rows: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]], texts: Sequence[str]
) -> tuple[list[Item], list[Response]]:
    """Items by the official question id; a response has that id, or its image's and the question in its prompt.

    Where two questions about an image read the same, the official script scores both responses by the later one's
    answers.
    """
    ids = {str(row["question_id"]) for row in rows}
    by_text: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        by_text.setdefault((str(row["image_id"]), row["question"].lower()), []).append(str(row["question_id"]))
    last = {id: same[-1] for same in by_text.values() for id in same}
    references = {str(row["question_id"]): row["answers"] for row in rows}
    by_prompt = False
    used: Counter[tuple[str, str]] = Counter()
    responses = []
    for row, text in zip(answers, texts, strict=True):
        id = _number(row)
        if id not in ids:
            key = (id, asked(str(row.get("prompt", ""))))
            same = by_text.get(key, [f"{id} {key[1]!r}"])
            id, by_prompt = same[min(used[key], len(same) - 1)], True
            used[key] += 1
        responses.append(Response(id, text, 0))
    items = [Item(id, None, "", id, {"answers": references[last[id] if by_prompt else id]}) for id in references]
    return items, responses
