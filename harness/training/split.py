"""Which examples a comparison trains on: chosen once by a seed, written down, and the same for every method.

The choice depends on ids and seed alone, never on the order of a file, a worker or a method.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from harness.contracts.images import Places, movable
from harness.contracts.records import Dropped, Example
from harness.store.store import failpoint
from harness.system.errors import HarnessError, UsageError
from harness.system.jsonl import dumps, write_jsonl
from harness.system.untrusted import DATA, json_object

EXAMPLES, DROPPED, LOCK = "examples.jsonl", "dropped.jsonl", "split.lock"
MALFORMED_LIMIT = 0.01
FEW, MOST = 100, 0.5  # of fewer records, one is more than 1 %
REASONS = 5
DUPLICATE = "the same record twice"

Load = Callable[[Callable[[str], str]], Iterator[Example | Dropped]]


@dataclass(frozen=True, slots=True)
class Split:
    """The examples every method gets, in their order, and the records passed over on the way to them."""

    examples: tuple[Example, ...]
    dropped: tuple[Dropped, ...]


def split(load: Load, n: int | None, seed: int, max_dropped: float = MALFORMED_LIMIT) -> Split:
    """The first `n` usable examples in the order of a hash of id and seed; all of them where `n` is None.

    `load(order)` is a source's `load` with its folder bound. It is asked for no more than it takes to find `n`, so
    that choosing 10,000 of 150,000 examples reads 10,000 images. Raises UsageError where there are fewer than `n`, with
    the reasons; HarnessError where more of the records than the share `max_dropped` are malformed, or of fewer than 100
    more than half: a comparison on what happened to be readable is none on the data.
    """
    examples: list[Example] = []
    dropped: list[Dropped] = []
    ids: set[str] = set()
    for found in load(lambda id: sha256(f"{seed}/{id}".encode()).hexdigest()):
        if len(examples) == n:
            break
        if isinstance(found, Dropped):
            dropped.append(found)
        elif found.id in ids:
            dropped.append(Dropped(found.id, DUPLICATE))
        else:
            ids.add(found.id)
            examples.append(found)
    if not examples or (n is not None and len(examples) < n):
        raise UsageError(
            f"{n or 'some'} examples are asked for and the source has {len(examples)} usable ones"
            f"{reasons(dropped)}; {'ask for fewer' if examples else 'mend the records'}."
        )
    _check_malformed(len(examples), dropped, max_dropped)
    return Split(tuple(examples), tuple(dropped))


def _check_malformed(usable: int, dropped: Sequence[Dropped], max_dropped: float) -> None:
    malformed, seen = sum(drop.reason != DUPLICATE for drop in dropped), usable + len(dropped)
    share = max_dropped if seen >= FEW else max(max_dropped, MOST)
    if malformed > share * seen:
        raise HarnessError(
            f"{malformed:,} of {seen:,} records are malformed{reasons(dropped)}; mend the source before comparing, or "
            f"do without them: --set reading.max_dropped={min(0.99, malformed / seen + 0.01):.2f}."
        )


def reasons(dropped: Sequence[Dropped]) -> str:
    """The five most frequent reasons with their counts and cures, in brackets; empty where nothing was dropped.

    What stands in brackets in a reason is about one record alone, but for a cure.
    """
    cures = {drop.reason.split(" (")[0]: drop.reason.partition(" (cure: ")[2].rstrip(")") for drop in dropped}
    counts = Counter(drop.reason.split(" (")[0] for drop in dropped).most_common()
    if not counts:
        return ""
    shown = [
        f"{reason}: {count:,}{f', {cures[reason]}' if cures[reason] else ''}" for reason, count in counts[:REASONS]
    ]
    common = "; ".join(shown)
    rest = sum(count for _, count in counts[REASONS:])
    return f" ({common}{f'; for other reasons: {rest:,}' if rest else ''})"


def content_hash(example: Example) -> str:
    """sha256 of what an example is, wherever its image lies."""
    image = replace(example.image, path="") if example.image else None
    return sha256(dumps(replace(example, image=image)).encode()).hexdigest()


def lock_text(examples: Sequence[Example]) -> str:
    """`split.lock`: id and content hash of every example in order, and one digest over them."""
    entries = [[example.id, content_hash(example)] for example in examples]
    return json.dumps({"digest": _digest(entries), "examples": entries}, indent=0, ensure_ascii=False) + "\n"


def _digest(entries: object) -> str:
    return sha256(dumps(entries).encode()).hexdigest()


def check_lock(path: Path, examples: Sequence[Example]) -> None:
    """Raises HarnessError unless `examples` are those of the lock file, all of them, in its order."""
    try:
        lock = json_object(path, limit=DATA)
        locked = dict(lock["examples"])
        intact = lock["digest"] == _digest(lock["examples"]) and len(locked) == len(lock["examples"])
    except (UsageError, ValueError, KeyError, TypeError):
        intact = False
    if not intact:
        raise HarnessError(f"{path} is damaged; delete its folder and give the same command again.")
    given = {example.id: content_hash(example) for example in examples}
    names = sorted({*locked, *given})
    wrong = [id for id in names if locked.get(id) != given.get(id)]
    if wrong:
        how = "is missing" if wrong[0] not in given else "is not in it" if wrong[0] not in locked else "has changed"
        raise HarnessError(f"{len(wrong)} examples differ from {path}; the first: {wrong[0]!r} {how}.")
    if [example.id for example in examples] != list(locked):
        raise HarnessError(f"the examples are those of {path}, but in another order or not once each.")


def write_split(folder: Path, chosen: Split, places: Places) -> None:
    """Write a split into a stage's folder; image paths become relative to the place that they lie in."""
    examples = [movable(example, places) for example in chosen.examples]
    write_jsonl(folder / EXAMPLES, examples)
    failpoint("split.examples")
    write_jsonl(folder / DROPPED, chosen.dropped)
    failpoint("split.dropped")
    (folder / LOCK).write_text(lock_text(examples), encoding="utf-8")
    failpoint("split.lock")
