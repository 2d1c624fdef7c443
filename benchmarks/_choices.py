"""What newer sets of multiple choice share: the tables in which they are handed around, and how kits read a letter."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import _parquet
from benchmarks._files import checked, records, spreadsheet
from harness.contracts.benchmark import Images
from harness.contracts.records import Image
from harness.system.errors import UsageError

LETTERS = "ABCDEFGH"
MARKS = str.maketrans(".()[],:;!*#{}", " " * 13)
REFUSALS = (  # after which VLMEvalKit looks for no letter
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
SAID = tuple(  # what lmms-eval takes for the beginning of an answer
    "the answer is|answer is|the correct answer is|correct answer is|the best answer is|best answer is|"
    "the correct option is|correct option is|the best option is|best option is|the choice is|choice is|"
    "the correct choice is|correct choice is|i choose|i select|i pick|my answer is|my choice is|"
    "옵션|정답은|답은|답:|答案是|答案为|选|答えは".split("|")
)
NEAR = 4  # words from the end within which a letter must stand


def rows(path: Path, needed: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a table without their pictures, each with the `needed` columns.

    It is a parquet file (or a folder of them), a .xlsx, .tsv or .csv file, or one JSON object per line.
    """
    if path.is_dir() or path.suffix == ".parquet":
        read = _parquet.read(sorted(path.rglob("*.parquet")) if path.is_dir() else [path])
        found = [{name: cell for name, cell in row.items() if name != "image"} for row in read]
    elif {".xlsx", ".tsv", ".csv"} & set(path.suffixes):
        found = [dict(row) for row in spreadsheet(path)]
    else:
        found = records(path, [])
    if not found:
        raise UsageError(f"{path} holds no rows.")
    return checked(path, found, needed)


def picture(images: Images, cell: Any, where: str) -> Image:
    """The picture in a cell: embedded, as parquet files have it, or as base64."""
    if not isinstance(cell, str):
        return images.of(_parquet.picture(cell, where))
    try:
        data = base64.b64decode(cell, validate=True)
    except ValueError:
        data = b""
    if not data:
        raise UsageError(f"{where} has no base64 image.")
    return images.of(data)


def listed(row: Mapping[str, Any]) -> dict[str, str]:
    """The options in columns A, B, ... of a row, as VLMEvalKit's tables have them; empty and missing ones are none."""
    cells = {letter: row.get(letter) for letter in LETTERS}
    return {letter: str(cell) for letter, cell in cells.items() if cell not in (None, "") and cell == cell}


def inferred(text: str, choices: Mapping[str, str]) -> str:
    """The letter that VLMEvalKit's `can_infer` reads (`vlmeval/utils/matching_util.py`), without its LLM.

    The one letter of an option among the words, if it stands near their end; else the one option whose words the
    response contains, unless it is more than twice as long as all options. "Z", which is never right, where neither is
    clear or the model refuses.
    """
    if any(refusal in text for refusal in REFUSALS):
        return "Z"
    words = text.translate(MARKS).split()
    found = [letter for letter in choices if letter in words]
    if len(found) == 1 and words.index(found[0]) >= len(words) - NEAR:
        return found[0]
    if not found and "Z" in words:
        return "Z"
    if len(text) > 2 * sum(map(len, choices.values())):
        return "Z"
    named = [letter for letter, option in choices.items() if option.lower() in text.lower()]
    return named[0] if len(named) == 1 else "Z"


def extracted(text: str, letters: str = "ABCD") -> str:
    """The letter that lmms-eval's `extract_mcq_answer` reads (0.7.2, `tasks/_task_utils/mcq_extract.py`); "" for none.

    It begins the response or ends it, else stands last behind a phrase like "the answer is", else in brackets, before a
    full stop, a colon, a bracket or a blank, else anywhere: the first of these that there is, and of several letters in
    one form the last.
    """
    text = text.strip()
    for mark in ",.!?;:'\"":
        text = text.strip(mark)
    bare, text = text.strip(), f" {text} "

    def last(form: str) -> list[tuple[int, str]]:
        return [(text.rfind(form.format(letter)), letter) for letter in letters if form.format(letter) in text]

    behind = [text.lower().find(phrase) + len(phrase) for phrase in SAID if phrase in text.lower()]
    ranked = (
        [(0, letter) for letter in letters if bare.startswith(letter) and not bare[1:2].isalpha()],
        [(0, letter) for letter in letters if bare.endswith(letter) and not bare[-2:-1].isalpha()],
        [(text.find(letter, start), letter) for start in behind for letter in letters if letter in text[start:]],
        *map(last, ("({})", "{}.", "{}:", "{})", "{} ", "{}")),
    )
    found = next((places for places in ranked if places), [(0, "")])
    return max(found, key=lambda place: place[0])[1]
