"""Several sources as one: `--data ocrvqa+textcaps+llava150k`, or with weights, `llava150k:2+ocrvqa`.

Whatever number of examples is drawn, every part gives its share of it: the paper's 15k are 5k of each of three. A
smaller draw is the beginning of a larger one. An example's id begins with the name of its part, and its `source` is its
part, so what a source declares (`short_answers`) holds for its own examples alone.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

from harness.contracts import plugins
from harness.contracts.pictures import Keep, Seen
from harness.contracts.records import Dropped, Example
from harness.contracts.settings import Reading
from harness.contracts.source import AS_LLAVA, PACKAGE, Order, Source
from harness.system.errors import UsageError
from harness.system.jsonl import dumps

WEIGHT = re.compile(r"(.+):(\d{1,4})", re.DOTALL)


def weighed(word: str) -> tuple[str, int]:
    """A part's word and its weight: ("llava150k", 2) of "llava150k:2"; 1 where it has none."""
    found = WEIGHT.fullmatch(word)
    return (found[1], int(found[2])) if found else (word, 1)


def parts_of(name: str) -> dict[str, int]:
    """The names of the sources in a source's name, with their weights: of a single one its own."""
    if "+" not in name or name in plugins.names(PACKAGE):
        return {name: 1}
    return dict(map(weighed, name.split("+")))


def shares(weights: Sequence[int], n: int) -> list[int]:
    """How many of `n` examples each part gives; their sum is `n`, and those of a smaller `n` are no more."""
    taken = [0] * len(weights)
    for _ in range(n):
        taken[_next(taken, weights, range(len(weights)))] += 1
    return taken


def _next(taken: Sequence[int], weights: Sequence[int], among: Collection[int]) -> int:
    """Whose turn it is: the part that is furthest behind its share."""
    return min(among, key=lambda at: ((taken[at] + 1) / weights[at], at))


@dataclass(frozen=True)
class Joined(Source):
    """Sources of different names, in the order of these, and their weights, whole numbers without a common divisor."""

    parts: tuple[Source, ...] = ()
    weights: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The parts' names, with the weights that are not 1."""
        return self._called(lambda part: part.name)

    def __str__(self) -> str:
        """The same, of a file its name."""
        return self._called(lambda part: Path(str(part)).stem)

    def _called(self, call: Callable[[Source], str]) -> str:
        pairs = zip(self.parts, self.weights, strict=True)
        return "+".join(call(part) + (f":{weight}" if weight != 1 else "") for part, weight in pairs)

    @property
    def heldout(self) -> None:
        """None: its parts have their own."""

    def check(self) -> None:
        """UsageError where a part lacks files."""
        for part in self.parts:
            part.check()

    def at(self, home: Path) -> Source:
        """The same with each part's files in a folder of its name."""
        return replace(self, home=home, parts=tuple(part.at(home / part.name) for part in self.parts))

    def identity(self, reading: Reading) -> dict[str, str]:
        """One digest over what identifies the parts."""
        if self.home is None:
            return {"source": self.name}
        content = sha256(dumps([part.identity(reading) for part in self.parts]).encode()).hexdigest()
        return {"source": self.name, "content": content}

    def shares(self, n: int) -> dict[str, int]:
        """How many of `n` each part gives."""
        return dict(zip((part.name for part in self.parts), shares(self.weights, n), strict=True))

    def check_drawn(self, examples: Sequence[Example]) -> None:
        """UsageError where a part had fewer examples than its share, so that the others took its place."""
        given = Counter(example.source for example in examples)
        for name, share in self.shares(len(examples)).items():
            if given[name] < share:
                raise UsageError(
                    f"{name} has {given[name]:,} usable examples, and its share of {len(examples):,} in {self} is "
                    f"{share:,}; ask for fewer (--examples), or give the others less weight ({name}:2+...)."
                )

    def load(
        self,
        order: Order | None = None,
        reading: Reading = AS_LLAVA,
        keep: Keep | None = None,
        seen: Seen | None = None,
    ) -> Iterator[Example | Dropped]:
        """Part after part; or, sorted by `order(id)` within each, in turns by weight while a part has examples left."""
        streams = [self._of(part, order, reading, keep, seen) for part in self.parts]
        return chain.from_iterable(streams) if order is None else self._in_turns(dict(enumerate(streams)))

    def _of(
        self, part: Source, order: Order | None, reading: Reading, keep: Keep | None, seen: Seen | None
    ) -> Iterator[Example | Dropped]:
        by = None if order is None else lambda id: order(f"{part.name}:{id}")
        return (replace(made, id=f"{part.name}:{made.id}") for made in part.load(by, reading, keep, seen))

    def _in_turns(self, left: dict[int, Iterator[Example | Dropped]]) -> Iterator[Example | Dropped]:
        taken, ids = [0] * len(left), set[str]()
        while left:
            at = _next(taken, self.weights, left)
            for made in left[at]:
                yield made
                if isinstance(made, Example) and made.id not in ids:  # what is dropped is nobody's turn
                    ids.add(made.id)
                    taken[at] += 1
                    break
            else:
                del left[at]

    def __reduce__(self) -> tuple[Any, ...]:
        """Its parts know how they go to another process."""
        return Joined, (self.home, self.images, self.parts, self.weights)
