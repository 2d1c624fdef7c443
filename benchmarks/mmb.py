"""MMBench dev, circular. Rules of open-compass/MMBench `eval_mmbench.py`; prompt of LLaVA `model_vqa_mmbench.py`."""

import base64
import binascii
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from benchmarks import _parquet
from benchmarks._files import required
from benchmarks._groups import means, tally
from harness.benchmark import Benchmark, Group, Images, Metric, Totals, Unit, cluster
from harness.judge import Judge
from harness.template import OPTION_LETTER
from harness.types import Image, Item, Response, Score, Unscored, UsageError

LETTERS = "ABCD"
PASS = 10**6  # row `index` of pass k of a question is its own index + k * PASS
CN_LETTER = "\n请直接回答选项字母。"
CATEGORIES = ("category", "l2-category")
# What may stand around a letter that is a word of its own, in the order in which it is tried.
AROUND = (
    ("", "."), ("", ","), ("", ":"), ("", ")"), ("", ")."), ("(", ")"), ("(", ")."),
    (":", ""), (":", ","), (":", "."), (":", ")"), (":", ")."),
)  # fmt: skip


def parse(text: str, choices: dict[str, str]) -> str | None:
    """The one letter that is a word of its own, else the one choice that the response contains, else None.

    The letter A in a response of more than three words is taken for the article. Where this finds nothing the
    official code asks an LLM; here that counts as wrong, and "mmb/unmatched" says how often.
    """
    words = text.split()
    found = [letter for letter in "ABCDE" if letter in words]
    if len(found) == 1 and not ("A" in words and len(words) > 3):
        return found[0]
    for before, after in AROUND:
        found = [letter for letter in "ABCDE" if f"{before}{letter}{after}" in words]
        if len(found) == 1:
            return found[0]
    named = [letter for letter, choice in choices.items() if choice.lower() in text.lower()]
    return named[0] if len(named) == 1 else None


@dataclass(frozen=True)
class Mmb(Benchmark):
    """A question counts only where the options of every circular pass are answered right.

    A file without circular rows is expanded: pass k moves every option k places on. Beyond `metrics`, `compute`
    gives "mmb/category/<name>", "mmb/l2-category/<name>" and "mmb/unmatched", the percentage of rows without a
    choice. `language="cn"` asks for the letter in Chinese.
    """

    file: str = "mmbench_dev_20230712.tsv"
    language: Literal["en", "cn"] = "en"
    hub: str = ""

    label: ClassVar[str] = "MMB"
    group: ClassVar[Group] = "comprehension"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("mmb/circular", "MMB", (0.0, 100.0)),
        Metric("mmb/single_pass", "MMB single pass", (0.0, 100.0)),
        Metric("mmb/unmatched", "MMB rows without a choice", (100.0, 0.0)),
    )
    max_new_tokens: ClassVar[int] = 1024
    layout: ClassVar[str] = (
        "mmbench_dev_20230712.tsv (set mmb.file for another) from github.com/open-compass/MMBench. "
        "Or the parquet files of lmms-lab/MMBench."
    )

    def items(self, folder: Path, images: Images) -> Iterator[Item]:
        """All rows in the file's order; a question's passes join by `unit`."""
        if table := _parquet.rows(folder, self.hub, "dev", self.language):
            yield from self._from_rows(table, images)
            return
        rows = _rows(required(folder, self.file, self.layout))
        pictures = {row["index"]: row["image"] for row in rows}
        circular = any(int(row["index"]) >= PASS for row in rows)
        for row in rows:
            choices = _choices(row)
            if row["answer"] not in dict(zip(LETTERS, choices, strict=False)):
                raise UsageError(f"row {row['index']} of {self.file} has no answer; only the dev split has answers.")
            data = row["image"] if len(row["image"]) > 64 else pictures.get(row["image"], "-")
            try:
                image = images.of(base64.b64decode(data, validate=True))
            except binascii.Error:
                raise UsageError(f"row {row['index']} of {self.file} has no base64 image. {self.layout}") from None
            for step in range(1 if circular else len(choices)):
                turned = choices[-step:] + choices[:-step] if step else choices
                answer = LETTERS[(LETTERS.index(row["answer"]) + step) % len(choices)]
                yield self._item(row, int(row["index"]) + step * PASS, turned, answer, image)

    def _from_rows(self, table: Iterator[_parquet.Row], images: Images) -> Iterator[Item]:
        """The same rows from lmms-lab/MMBench, which has every pass."""
        for cells in table:
            image = images.of(_parquet.picture(cells["image"], f"row {cells['index']}"))
            row = {name: _cell(cell) for name, cell in cells.items() if name != "image"}
            row["l2-category"] = row.pop("L2-category", "")
            choices = _choices(row)
            if row["answer"] not in dict(zip(LETTERS, choices, strict=False)):
                raise UsageError(f"row {row['index']} has no answer; only the dev split has answers.")
            yield self._item(row, int(row["index"]), choices, row["answer"], image)

    def _item(self, row: dict[str, str], index: int, choices: list[str], answer: str, image: Image) -> Item:
        """One pass of a question."""
        listed = dict(zip(LETTERS, choices, strict=False))
        hint = [row["hint"]] if row.get("hint") else []
        lines = [*hint, row["question"], *(f"{letter}. {choice}" for letter, choice in listed.items())]
        facts: dict[str, Any] = {"answer": answer, "choices": listed, "first": index < PASS}
        facts |= {name: row[name] for name in CATEGORIES if row.get(name)}
        prompt = "\n".join(lines) + (CN_LETTER if self.language == "cn" else OPTION_LETTER)
        return Item(str(index), image, prompt, str(index % PASS), facts)

    def score(self, item: Item, response: Response, judge: Judge | None) -> Score | Unscored:
        """1 where the one clear choice is the answer."""
        said = parse(response.text, item.facts["choices"])
        return Score(item.id, {"right": float(said == item.facts["answer"]), "unmatched": float(said is None)})

    def units(self, scored: Sequence[tuple[Item, Score]]) -> list[Unit]:
        """One unit per question: whether all of its passes are right, and the first."""
        groups: dict[str, list[tuple[Item, Score]]] = {}
        for item, score in scored:
            groups.setdefault(item.unit, []).append((item, score))
        return [_question(name, group) for name, group in groups.items()]

    def compute(self, totals: Totals) -> dict[str, Any]:
        """Accuracy in percent, circular and of the first pass, of all and of each category."""
        return means("mmb", totals)


def _question(name: str, group: list[tuple[Item, Score]]) -> Unit:
    """The parts of a question from those of its passes."""
    facts = group[0][0].facts
    circular = float(all(score.parts["right"] for _, score in group))
    groups = ["circular", *(f"{kind}/{facts[kind]}" for kind in CATEGORIES if kind in facts)]
    parts = tally(circular, groups)
    parts["unmatched/sum"] = sum(score.parts["unmatched"] for _, score in group)
    parts["unmatched/n"] = float(len(group))
    for item, score in group:
        if item.facts["first"]:
            parts |= tally(score.parts["right"], ["single_pass"])
    return Unit(name, cluster(group[0][0]), parts)


def _rows(path: Path) -> list[dict[str, str]]:
    """The rows of the table as text, the empty cells as pandas and LLaVA's `is_none` see them."""
    import pandas as pd  # slow to import, and listing benchmarks needs none of it

    table = pd.read_csv(path, sep="\t", dtype=str).fillna("")
    return [{str(name): _cell(cell) for name, cell in row.items()} for row in table.to_dict("records")]


def _cell(cell: object) -> str:
    """A cell's text; the many ways to say nothing are none."""
    return "" if str(cell).lower() in ("nan", "none") else str(cell)


def _choices(row: dict[str, str]) -> list[str]:
    """The options up to the first empty one."""
    texts = [*(row.get(letter, "") for letter in LETTERS), ""]
    return texts[: texts.index("")]
