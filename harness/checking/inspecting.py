"""What is in a source: counts, lengths, pictures, doubles, what was dropped and why, and ten examples by a seed.

One pass over the examples; beside what the source itself keeps of its records, no more than a few counts and digests.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import islice
from statistics import fmean
from typing import Any

from harness.checking.drawn import Files
from harness.contracts.images import size_of
from harness.contracts.records import Dropped, Example
from harness.system.jsonl import dumps
from harness.training.split import DUPLICATE

SHOWN = 10
Words = Callable[[str], int]


@dataclass
class Contents:
    """What one pass has counted. Lengths and sizes are counts by value: `spread` makes figures of them."""

    usable: int = 0
    bare: int = 0
    """Without a picture."""
    preferences: int = 0
    """With a rejected answer."""
    pictures: int = 0
    """Different ones, by the digest of their files."""
    copies: int = 0
    """Examples that say what another one says about the same picture, under another id."""
    by_source: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    """By reason."""
    lengths: dict[str, Counter[int]] = field(default_factory=dict)
    shown: list[Example] = field(default_factory=list)
    """The first of the seed's order, with their pictures where they lie."""

    @property
    def records(self) -> int:
        """All records, usable or not."""
        return self.usable + self.dropped.total()

    def plain(self) -> dict[str, Any]:
        """The same for JSON."""
        return {
            "records": self.records,
            "usable": self.usable,
            "by_source": dict(self.by_source),
            "without_picture": self.bare,
            "share_without_picture": self.bare / self.usable if self.usable else None,
            "with_rejected_answer": self.preferences,
            "pictures": self.pictures,
            "same_record_twice": self.dropped[DUPLICATE],
            "same_content_under_another_id": self.copies,
            "dropped": dict(self.dropped.most_common()),
            "lengths": {name: spread(counts) for name, counts in self.lengths.items()},
            "examples": [_told(example) for example in self.shown],
        }


def spread(counts: Mapping[int, int]) -> dict[str, float]:
    """Least, median, mean, 95th percentile (the value that so many do not exceed) and most of counted values."""
    total, ranked = sum(counts.values()), sorted(counts)
    found: dict[str, float] = {"n": total, "least": ranked[0]}
    for name, share in (("median", 0.5), ("p95", 0.95)):
        reached = 0
        for value in ranked:
            reached += counts[value]
            if reached >= share * total:
                found[name] = value
                break
    mean = fmean(ranked, [counts[value] for value in ranked])
    return {**found, "mean": mean, "most": ranked[-1]}


def contents(files: Files, seed: int, n: int | None = None, words: Words | None = None) -> Contents:
    """One pass over the source, or over its first `n` records in the seed's order; `words` counts a text's tokens."""
    found, ids, said, pictures = Contents(), set[bytes](), set[bytes](), set[str]()
    for made in islice(files.examples(seed), n):
        id = _digest(made.id)
        if isinstance(made, Dropped):
            found.dropped[made.reason.split(" (")[0]] += 1
            continue
        if id in ids:
            found.dropped[DUPLICATE] += 1
            continue
        ids.add(id)
        _count(found, made, words)
        content = _digest(
            dumps(replace(made, id="", source="", image=None)) + (made.image.sha256 if made.image else "")
        )
        found.copies += content in said
        said.add(content)
        if made.image:
            if made.image.sha256 not in pictures:
                height, width = size_of(made.image)
                _note(found, width=width, height=height, **{"longer side": max(height, width)})
            pictures.add(made.image.sha256)
        if len(found.shown) < SHOWN:
            found.shown.append(made)
        elif made.image and all(made.image != one.image for one in found.shown):
            files.forget(made.image)
    found.pictures = len(pictures)
    return found


def _count(found: Contents, made: Example, words: Words | None) -> None:
    found.usable += 1
    found.by_source[made.source] += 1
    found.bare += made.image is None
    found.preferences += made.rejected is not None
    _note(found, turns=len(made.turns))
    texts = [("question", turn.question) for turn in made.turns] + [("answer", turn.answer) for turn in made.turns]
    texts += [("rejected answer", made.rejected)] if made.rejected is not None else []
    for what, text in texts:
        _note(found, **{f"{what}, characters": len(text)})
        if words:
            _note(found, **{f"{what}, tokens": words(text)})


def _note(found: Contents, **values: int) -> None:
    for name, value in values.items():
        found.lengths.setdefault(name, Counter())[value] += 1


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "backslashreplace"), digest_size=12).digest()


def _told(example: Example) -> dict[str, Any]:
    turns = [{"question": turn.question, "answer": turn.answer} for turn in example.turns]
    more = {} if example.rejected is None else {"rejected": example.rejected}
    return {"id": example.id, "source": example.source, "turns": turns, **more}


def facts(found: Contents) -> Iterator[tuple[str, str]]:
    """Counts in words: what, how many."""
    yield "records", f"{found.records:,}"
    yield "usable", f"{found.usable:,}"
    if len(found.by_source) > 1:
        yield "by source", ", ".join(f"{name} {count:,}" for name, count in sorted(found.by_source.items()))
    yield "without picture", f"{found.bare:,} ({_percent(found.bare, found.usable)})"
    yield "different pictures", f"{found.pictures:,}"
    if found.preferences:
        yield "with a rejected answer", f"{found.preferences:,} ({_percent(found.preferences, found.usable)})"
    yield "same content under another id", f"{found.copies:,}"
    yield "dropped", f"{found.dropped.total():,} ({_percent(found.dropped.total(), found.records)})"
    for reason, count in found.dropped.most_common(8):
        yield f"  {reason}", f"{count:,}"
    if rest := found.dropped.total() - sum(count for _, count in found.dropped.most_common(8)):
        yield "  for other reasons", f"{rest:,}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"
