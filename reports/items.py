"""Single items of a run: which moved a score, what every method said to them, what was wrong in it, and the picture.

Which items are shown never depends on how they look: the extremes by a figure, or the first by a hash of their ids.
"""

import base64
import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from harness.contracts.benchmark import Benchmark, Unit
from harness.contracts.images import Places, read_image, resolve
from harness.contracts.records import Image, Item, Response, Score
from harness.contracts.row_names import BASELINE
from harness.system.errors import UsageError
from harness.system.jsonl import read_jsonl
from reports.outcomes import Outcome
from reports.runs import Run, StoredCell

LONGEST = 1500  # characters of a response that are shown
SIDE = 320  # pixels of the longer side of a shown image
CAPTIONS, MADE_UP = "chair", "made_up"  # the benchmark of captions, and the part that counts what they make up
Changed = Mapping[str, float]  # unit -> how much worse a benchmark's figure were without what it did (`moved`)
Spoken = tuple[tuple[str, bool], ...]  # pieces of a text and whether each is wrong


@dataclass(frozen=True, slots=True)
class Said:
    """What one row said to one item; `cut` characters more are not shown."""

    label: str
    pieces: Spoken
    cut: int = 0


@dataclass(frozen=True, slots=True)
class Shown:
    """One item: `image` is a data URI or empty, `moved` what it did to the row's difference, in the metric's unit."""

    benchmark: str
    id: str
    image: str
    prompt: str
    said: tuple[Said, ...]
    moved: float = math.nan
    unit: str = ""


@dataclass
class Asked:
    """The items and responses of one benchmark and seed, read once; a cell that is damaged or gone has none."""

    benchmark: Benchmark
    items: dict[str, Item]
    responses: dict[str, dict[str, str]]
    places: Places

    @classmethod
    def of(cls, benchmark: Benchmark, cells: Sequence[StoredCell]) -> "Asked":
        """From the cells of every row."""
        items: dict[str, Item] = {}
        said: dict[str, dict[str, str]] = {}
        for cell in cells:
            try:
                if not items:
                    items = {item.id: item for item in read_jsonl(Item, cell.file(cell.items, "items.jsonl"))}
                answers = read_jsonl(Response, cell.file(cell.responses, "responses.jsonl"))
                said[cell.label] = {answer.id: answer.text for answer in answers}
            except (UsageError, ValueError):
                continue
        return cls(benchmark, items, said, Places(cells[0].store, cells[0].data))

    def of_unit(self, unit: str) -> list[str]:
        """The ids of the items scored together as `unit`."""
        return [name for name, item in self.items.items() if unit in (item.unit, name)]

    def differ(self, name: str, labels: Sequence[str]) -> bool:
        """Whether the rows of these labels said different things to an item."""
        return len({self.responses.get(label, {}).get(name) for label in labels}) > 1

    def shown(self, name: str, labels: Sequence[str], moved: float = math.nan, unit: str = "") -> Shown:
        """One item with what the rows of these labels said."""
        item = self.items[name]
        said = tuple(self.said(label, item) for label in labels if name in self.responses.get(label, {}))
        return Shown(
            self.benchmark.label, name, picture(item.image, self.places), item.prompt[:LONGEST], said, moved, unit
        )

    def said(self, label: str, item: Item) -> Said:
        """One response with its wrong places."""
        text = self.responses[label][item.id]
        shown = text[:LONGEST]
        return Said(label, pieces(shown, made_up(self.benchmark, item, shown)), max(0, len(text) - LONGEST))


def made_up(benchmark: Benchmark, item: Item, text: str) -> list[tuple[int, int]]:
    """Where (start, stop) the text says what the score counts as made up; nothing where it counts no such part.

    A mention ends at the word that raises the count, read from the left as the scorer reads it, and has as few words as
    raise it by themselves. So the marks follow the score's own rule, whatever it is.
    """

    def count(fragment: str) -> float:
        score = benchmark.score(item, Response(item.id, fragment, 0), None)
        return score.parts.get(MADE_UP, 0.0) if isinstance(score, Score) else 0.0

    if benchmark.judged or not isinstance(one := _safely(count, text), float) or not one:
        return []
    words, places, before = [(m.start(), m.end()) for m in re.finditer(r"\S+", text)], list[tuple[int, int]](), 0.0
    for last, (_, stop) in enumerate(words):
        now = count(text[:stop])
        if now > before:
            starts = (words[first][0] for first in range(last, max(-1, last - 4), -1))
            start = next((start for start in starts if count(text[start:stop])), words[last][0])
            places.append((start, stop - (text[stop - 1] in ".,;:!?")))
        elif now < before and places:  # what looked like an object is part of a longer name
            places.pop()
        before = now
    return places


def _safely(count: Callable[[str], float], text: str) -> float | None:
    """The count, None where an item has facts of another version."""
    try:
        return count(text)
    except (KeyError, TypeError, AttributeError, ValueError):
        return None


def pieces(text: str, places: Sequence[tuple[int, int]]) -> Spoken:
    """The text cut at the wrong places; places beyond it or over one another are left out."""
    made, at = list[tuple[str, bool]](), 0
    for start, stop in sorted(places):
        if at <= start < stop <= len(text):
            made += [(text[at:start], False), (text[start:stop], True)]
            at = stop
    return tuple(piece for piece in [*made, (text[at:], False)] if piece[0])


def decoded(image: Image | None, places: Places) -> Pillow.Image | None:
    """The picture's pixels; None where it is gone, changed or no image."""
    if image is None:
        return None
    at = resolve(image, places)
    try:
        return read_image(Path(at.path), at.sha256, at.upright)
    except (OSError, ValueError):
        return None


def encoded(picture: Pillow.Image, side: int = SIDE) -> tuple[str, bytes]:
    """A picture encoded anew with no side longer than `side` pixels: "png" or "jpeg", and the bytes."""
    small, file = picture.copy(), io.BytesIO()
    small.thumbnail((side, side))
    form = "png" if max(small.size) <= 128 else "jpeg"
    small.save(file, form, **({"quality": 80} if form == "jpeg" else {}))
    return form, file.getvalue()


def picture(image: Image | None, places: Places) -> str:
    """The image small, decoded and encoded anew, as a data URI; empty where it is gone, changed or no image."""
    found = decoded(image, places)
    if found is None:
        return ""
    form, data = encoded(found)
    return f"data:image/{form};base64,{base64.b64encode(data).decode()}"


def asked(run: Run, seed: int) -> dict[str, Asked]:
    """Benchmark name -> what was asked and said with one seed, of the benchmarks that are installed."""
    known = run.benchmarks()
    cells = {name: [c for c in run.cells if (c.benchmark, c.seed) == (name, seed) and c.done] for name in known}
    return {name: Asked.of(known[name], some) for name, some in cells.items() if some}


def moved(benchmark: Benchmark, new: Sequence[Unit], old: Sequence[Unit]) -> dict[str, float]:
    """Unit id -> how much worse the benchmark's first metric of `new` were, had this one unit gone as in `old`.

    Computed from sums of parts, so it is exact for ratios and F1 too, and 0 where both scored alike. Without those of
    which it cannot be told: all, where the metric is no function of sums.
    """
    before = {unit.id: unit.parts for unit in old}
    common = [unit for unit in new if unit.id in before]
    names = sorted({name for unit in (*new, *old) for name in unit.parts})
    if not common:
        return {}

    def array(parts: Sequence[Mapping[str, float]]) -> NDArray[np.float64]:
        return np.array([[one.get(name, 0.0) for name in names] for one in parts])

    sums, metric = array([unit.parts for unit in new]).sum(axis=0), benchmark.metrics[0]
    swapped = sums - array([unit.parts for unit in common]) + array([before[unit.id] for unit in common])
    with np.errstate(all="ignore"):
        whole = benchmark.compute(dict(zip(names, sums, strict=True)))[metric.id]
        without = benchmark.compute(dict(zip(names, swapped.T, strict=True)))[metric.id]
    change = (whole - np.broadcast_to(without, len(common))) * (1 if metric.higher_is_better else -1)
    return {unit.id: float(value) for unit, value in zip(common, change, strict=True) if not math.isnan(value)}


def changes(outcomes: Sequence[Outcome], seed: int, known: Mapping[str, Asked]) -> dict[tuple[str, str], Changed]:
    """(row, benchmark) -> what `moved` against the baseline with one seed."""
    units = {(one.method, one.benchmark): one.units for one in outcomes if one.seed == seed and one.benchmark in known}
    return {
        (row, name): moved(known[name].benchmark, mine, units[BASELINE, name])
        for (row, name), mine in units.items()
        if row != BASELINE and (BASELINE, name) in units
    }


def extremes(
    labels: tuple[str, str], changed: Mapping[str, Changed], known: Mapping[str, Asked], best: bool
) -> Iterator[Shown]:
    """Per benchmark the item that did most for a row against the baseline (or most against it), if any did.

    `labels` are the baseline's and the row's, `changed` its `changes` by benchmark.
    """
    for name, these in known.items():
        worse = {u: value for u, value in changed.get(name, {}).items() if abs(value) > 1e-9 and (value > 0) == best}
        if not worse:
            continue
        unit = max(worse, key=lambda one: (abs(worse[one]), order(one)))
        names = sorted(these.of_unit(unit), key=lambda name: not these.differ(name, labels))  # of a pair, what differs
        for name in names[:1]:
            yield these.shown(name, labels, worse[unit], these.benchmark.metrics[0].label)


def side_by_side(known: Mapping[str, Asked], labels: Sequence[str], count: int = 4) -> list[Shown]:
    """Figure 5: what all rows said to the same images, of CHAIR, whose score counts what is made up."""
    if CAPTIONS not in known:
        return []
    these = known[CAPTIONS]
    common = [name for name in these.items if all(name in said for said in these.responses.values())]
    return [these.shown(name, labels) for name in sorted(common, key=order)[:count]]


def order(name: str) -> str:
    """A fixed order that has nothing to do with what an item is."""
    return sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
