"""What the viewer shows of a run, as plain JSON in parts: an index, lists by benchmark and seed, items by the hundred.

The index says which lists there are (`sets`) and the rows. A list has one sign per item and row and no text, so that
10,000 items are filtered at once; a part has the texts of `PART` items. Every text is made visible here and cut; it is
text for whoever shows it, never markup.
"""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from harness.contracts.benchmark import Benchmark, Unit
from harness.contracts.images import Places
from harness.contracts.records import Image, Item, Response
from harness.contracts.row_names import BASELINE
from harness.scoring.heard import REPLIES, Heard, Kept, heard, kept
from harness.system.console import visible, visible_lines
from harness.system.errors import HarnessError
from harness.system.jsonl import loads
from harness.system.untrusted import DATA, fits, json_object, opened
from reports.items import moved
from reports.numerals import numeral
from reports.outcomes import measure
from reports.runs import JUDGE, UNITS, Run, StoredCell

PART = 100  # items in a part
LONGEST = 8000  # characters of a question or a response that are shown
FACT, FACTS = 2000, 20  # the same of one fact of an item, and how many of them
KINDS = 200  # groups of a benchmark's items that can be chosen from
ANSWERS = ("answer", "label", "answers", "reference")  # facts that hold what should have been said
ITEMS, RESPONSES = "items.jsonl", "responses.jsonl"
# An item's sign in a list: better or worse than the baseline, the same, unscored, nothing to compare with, absent.
BETTER, WORSE, SAME, UNSCORED, ALONE, ABSENT = "bwsun-"

Pictured = Callable[[Image], Mapping[str, str]]
"""Where a picture is for who shows it: "small", and "large" where that is more; empty where it cannot be shown."""


class Lines:
    """A stage's file with a thing per line, read a few at a time; of each line its place is kept in memory."""

    def __init__(self, cell: StoredCell, stage: str, name: str, kind: Any) -> None:
        """HarnessError where the file is not what was stored, or not there."""
        self.cell, self.stage, self.name, self.kind = cell, stage, name, kind
        self.places = dict[str, tuple[int, int]]()
        self.path, at = stored(cell, stage, name), 0
        with opened(self.path, limit=DATA) as file:
            self.stamp = _stamp(file)
            for line in file:
                fits(text := line.decode("utf-8"), f"{stage}/{name}")
                self.places[loads(kind, text).id] = (at, len(line))
                at += len(line)

    def read(self, ids: Sequence[str]) -> dict[str, Any]:
        """The things of these ids, as far as they are there; HarnessError where the file has changed since."""
        found = {}
        with opened(self.path, limit=DATA) as file:
            if _stamp(file) != self.stamp:
                stored(self.cell, self.stage, self.name)
            for id in ids:
                if id in self.places:
                    at, size = self.places[id]
                    file.seek(at)
                    found[id] = loads(self.kind, file.read(size).decode("utf-8"))
        return found


def _stamp(file: BinaryIO) -> tuple[int, ...]:
    """What tells an open file from what it was: a changed one is looked at again, byte for byte."""
    status = os.fstat(file.fileno())
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def stored(cell: StoredCell, stage: str, name: str) -> Path:
    """A file of one of a cell's stages, as it was stored; HarnessError, which names it, where it is gone or changed."""
    path = cell.file(stage, name)
    if not path.is_file():
        raise HarnessError(f"{path} is not there; give the comparison's command again: it makes what is missing.")
    return path


@dataclass
class Answered:
    """What one row said to a benchmark, and how it was scored: units by id, reasons by the ids of unscored items, and
    who judged (empty where nobody was asked), with the replies that were kept.
    """

    lines: Lines
    units: Sequence[Unit]
    reasons: Mapping[str, str]
    judge: str = ""
    replies: Kept = field(default_factory=dict)

    @classmethod
    def of(cls, cell: StoredCell) -> "Answered":
        """Read from a cell that is done; HarnessError where a file of it is damaged."""
        reasons = json_object(stored(cell, cell.score, UNITS), limit=DATA)["unscored"]
        told, replies = cell.file(cell.score, JUDGE), cell.file(cell.score, REPLIES)
        judge = str(json_object(told, limit=DATA).get("name", "")) if told.is_file() else ""
        said = kept(replies) if replies.is_file() else {}
        return cls(Lines(cell, cell.responses, RESPONSES, Response), cell.outcome().units, reasons, judge, said)

    @cached_property
    def by_id(self) -> dict[str, Unit]:
        """Its units."""
        return {unit.id: unit for unit in self.units}

    def unit(self, id: str, joined: str) -> Unit | None:
        """The unit that an item counts in; None where it counts in none."""
        return self.by_id.get(joined) or self.by_id.get(id)


@dataclass
class Set:
    """One benchmark with one seed; `cells` are those that are scored, by row."""

    benchmark: Benchmark
    name: str
    seed: int
    rows: Sequence[str]
    cells: Mapping[str, StoredCell]
    places: Places

    @cached_property
    def items(self) -> Lines:
        """The items."""
        cell = next(iter(self.cells.values()))
        return Lines(cell, cell.items, ITEMS, Item)

    @cached_property
    def answered(self) -> dict[str, Answered]:
        """What every row said."""
        return {row: Answered.of(cell) for row, cell in self.cells.items()}

    @cached_property
    def ids(self) -> list[str]:
        """The items' ids, in the benchmark's order."""
        return list(self.items.places)

    def forget(self) -> None:
        """Keep nothing of it in memory; what is asked next is read again."""
        for name in ("items", "answered", "ids"):
            self.__dict__.pop(name, None)

    def check(self) -> None:
        """HarnessError where a file that is shown is not what was stored; reads every byte of them and keeps none."""
        for cell in self.cells.values():
            for stage, name in ((cell.items, ITEMS), (cell.responses, RESPONSES), (cell.score, UNITS)):
                stored(cell, stage, name)
            for name in (JUDGE, REPLIES):  # which not every judge leaves
                cell.file(cell.score, name)

    def listing(self) -> dict[str, Any]:
        """A sign per row and item, and the kind of each item by the benchmark's own groups."""
        kinds, kind_of, units = dict[str, int](), list[int](), list[tuple[str, str]]()
        for item in self._each():
            units.append((item.id, item.unit))
            kind_of.append(kinds.setdefault(self._kind(item), len(kinds)))
        few = 1 < len(kinds) <= KINDS
        parts = {part for row in self.answered.values() for unit in row.units for part in unit.parts.values()}
        return {
            "kinds": list(kinds) if few else [],
            "kind_of": kind_of if few else [],
            "signs": ["".join(self._signs(row, units)) for row in self.rows],
            "words": ["flipped to right", "flipped to wrong"] if parts <= {0, 1} else ["better", "worse"],
        }

    def _kind(self, item: Item) -> str:
        """The group that the benchmark puts an item in; none where the item has facts of another version."""
        try:
            return visible(self.benchmark.stratum(item))[:80]
        except (KeyError, TypeError, AttributeError, ValueError):
            return ""

    def _each(self) -> Iterator[Item]:
        """Every item, a part at a time."""
        for first in range(0, len(self.ids), PART):
            yield from self.items.read(self.ids[first : first + PART]).values()

    def _signs(self, row: str, items: Sequence[tuple[str, str]]) -> Iterator[str]:
        """What became of each item (id, unit) in a row against the baseline, by what moves the table's figure."""
        mine, base = self.answered.get(row), self.answered.get(BASELINE)
        changed = moved(self.benchmark, mine.units, base.units) if mine and base and mine is not base else {}
        for id, joined in items:
            unit = mine.unit(id, joined) if mine else None
            if mine is None or id not in mine.lines.places:
                yield ABSENT
            elif unit is None:
                yield UNSCORED
            elif mine is base:
                yield SAME
            elif unit.id not in changed:
                yield ALONE
            else:
                yield SAME if abs(changed[unit.id]) <= 1e-9 else BETTER if changed[unit.id] > 0 else WORSE

    def part(self, number: int, pictured: Pictured) -> list[dict[str, Any]]:
        """The texts of the items of one part; HarnessError where a stage has been damaged since."""
        ids = self.ids[number * PART : (number + 1) * PART]
        items = self.items.read(ids)
        said = {row: answered.lines.read(ids) for row, answered in self.answered.items()}
        return [
            {
                "id": visible(id)[:300],
                "prompt": cut(item.prompt)[0],
                "facts": facts(item.facts),
                "picture": dict(pictured(item.image)) if item.image else {},
                "said": [self._said(row, item, said.get(row, {}).get(id)) for row in self.rows],
            }
            for id, item in items.items()
        ]

    def _said(self, row: str, item: Item, response: Response | None) -> dict[str, Any] | None:
        """A row's response and score; None where there is no response."""
        if response is None:
            return None
        text, more = cut(response.text)
        answered = self.answered[row]
        unit, lost = answered.unit(item.id, item.unit), answered.reasons.get(item.id, "")
        why = "" if unit else lost or "another item of its unit is unscored"
        parts = unit.parts if unit else {}
        return {
            "text": text,
            "cut": more,
            "why": cut(response.unanswered or why, 300)[0],
            "score": self._alone(unit) if unit else "",
            "parts": visible(", ".join(f"{name} {value:g}" for name, value in parts.items() if value))[:600],
            "judge": visible(answered.judge)[:200],
            "heard": [self._heard(one) for one in self._asked(answered, item, response)],
        }

    def _asked(self, answered: Answered, item: Item, response: Response) -> Sequence[Heard]:
        return heard(self.benchmark, item, response, answered.replies) if answered.replies else ()

    @staticmethod
    def _heard(one: Heard) -> dict[str, str]:
        """A judge's question and reply, and what was made of it, by whom, for how much."""
        who = " at ".join(filter(None, (one.model, one.server)))
        cost = "" if one.usd is None else f"{one.usd:.2g} USD"
        return {
            "question": cut(one.question)[0],
            "reply": cut(one.reply)[0],
            "made": cut(one.made, FACT)[0],
            "by": visible(", ".join(filter(None, (f"run {one.run + 1}", who, cost))))[:200],
        }

    def _alone(self, unit: Unit) -> str:
        """The benchmark's first metric on one unit alone; empty where it is not defined on one."""
        metric = self.benchmark.metrics[0]
        value = measure(self.benchmark, [unit]).get(metric.id, math.nan)
        return f"{visible(metric.label)[:40]} {numeral(value, metric.digits)}" if math.isfinite(value) else ""


@dataclass
class Viewed:
    """A run as the viewer has it: one `Set` for each benchmark and seed that has a scored cell."""

    run: Run
    images: Path | None = None
    notes: Sequence[str] = ()
    pictures: dict[str, Image] = field(default_factory=dict)

    @cached_property
    def sets(self) -> list[Set]:
        """In the order of the run's benchmarks, seed by seed."""
        known = self.run.benchmarks()
        asked = dict.fromkeys((c.benchmark, c.seed) for c in self.run.cells if c.benchmark in known)
        places = Places(self.run.store, self.run.cells[0].data if self.run.cells else None, self.images)
        return [
            Set(known[name], name, seed, list(self.run.rows), cells, places)
            for name, seed in asked
            if (cells := self._cells(name, seed))
        ]

    def _cells(self, name: str, seed: int) -> dict[str, StoredCell]:
        return {c.row: c for c in self.run.cells if (c.benchmark, c.seed) == (name, seed) and c.done}

    def set(self, number: int) -> Set:
        """One of the sets, the only one of which anything is kept in memory from now on."""
        for other, one in enumerate(self.sets):
            if other != number:
                one.forget()
        return self.sets[number]

    def check(self) -> None:
        """HarnessError where nothing is scored, or a stage that is shown is damaged."""
        if not self.sets:
            raise HarnessError(f"{self.run.name}: nothing of it is scored; give its command again.")
        for one in self.sets:
            one.check()

    def index(self) -> dict[str, Any]:
        """The rows, the sets, and what must be said of them."""
        setting, rows = self.run.setting, list(self.run.rows)
        sizes = [len(self.set(number).ids) for number in range(len(self.sets))]
        missing = [f"{visible(c.label)} on {visible(c.benchmark)}, seed {c.seed}" for c in self.run.missing]
        lost = f"not scored yet, or failed: {', '.join(missing[:12])}{' ...' if missing[12:] else ''}"
        return {
            "title": visible(f"{', '.join(label for row, label in self.run.rows.items() if row != BASELINE)}"
                             f" on {self.run.manifest.data}")[:300],
            "testbed": visible(setting.testbed_in_words)[:100],
            "synthetic": setting.synthetic,
            "rows": [visible(label)[:80] for label in self.run.rows.values()],
            "baseline": rows.index(BASELINE) if BASELINE in rows else -1,
            "part": PART,
            "sets": [{"label": visible(one.benchmark.label)[:80], "name": visible(one.name)[:80], "seed": one.seed,
                      "items": size} for one, size in zip(self.sets, sizes, strict=True)],
            "notes": [*map(visible, self.notes), *([lost] if missing else [])],
        }  # fmt: skip

    def name(self, image: Image) -> str:
        """A picture's name for files and addresses, whatever its record says; remembered in `pictures`."""
        name = sha256(image.key.encode("utf-8", "surrogatepass")).hexdigest()[:24]
        self.pictures[name] = image
        return name


def cut(text: str, longest: int = LONGEST) -> tuple[str, int]:
    """A text made visible, as long as it may be, and how many of its characters are left out."""
    return visible_lines(text[:longest]), max(0, len(text) - longest)


def facts(known: Mapping[str, Any]) -> list[list[str]]:
    """What scoring knows of an item, name and text: the reference answer first, with the option that it names."""
    names = [name for name in ANSWERS if name in known]
    names += [name for name in known if name not in names]
    told = list[list[str]]()
    for name in names[:FACTS]:
        value = known[name]
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        if name == "answer" and (option := chosen(value, known.get("choices"))):
            text = option
        title = "reference answer" if name in ANSWERS and not told else name
        told.append([visible(title)[:80], cut(text, FACT)[0]])
    return told


def chosen(answer: Any, choices: Any) -> str:
    """The option that an answer names by its letter or place, with the letter; empty where it names none."""
    if isinstance(choices, list) and type(answer) is int and 0 <= answer < min(26, len(choices)):
        return f"{chr(65 + answer)}: {choices[answer]}"
    if isinstance(choices, dict) and isinstance(answer, str) and answer in choices:
        return f"{answer}: {choices[answer]}"
    return ""
