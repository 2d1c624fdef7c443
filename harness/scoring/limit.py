"""A part of a benchmark that looks like the whole: what `--limit N` draws."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from hashlib import sha256

from harness.contracts.records import Item


def stratified(items: Sequence[Item], limit: int | None, stratum: Callable[[Item], str]) -> list[Item]:
    """At most `limit` of the items (None: all), in their order: the same for every row, in every stratum its share.

    Drawn are whole units (MME's two questions of an image, MMBench's passes), and at least one, however large. Each
    stratum gives one unit first, then all give in proportion to their size; which units is decided by a hash of their
    ids, so that a smaller limit's items are among a larger one's, whatever the order of the file.
    """
    if limit is None:
        return list(items)
    units: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        units[item.unit].append(item)
    strata: dict[str, list[str]] = defaultdict(list)
    for name, group in units.items():
        strata[stratum(group[0])].append(name)
    places: list[tuple[float, str, str]] = []
    for label, names in strata.items():
        for place, name in enumerate(sorted(names, key=_hash)):
            places.append(((place + 0.5) / len(names) if place else 0.0, _hash(label), name))
    drawn: set[str] = set()
    room = limit
    for _, _, name in sorted(places):
        room -= len(units[name])
        if drawn and room < 0:
            break
        drawn.add(name)
    return [item for item in items if item.unit in drawn]


def _hash(name: str) -> str:
    return sha256(name.encode()).hexdigest()
