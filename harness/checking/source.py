"""The part of `harness check` that tries a source: its records, its examples, and that no order changes them."""

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from harness.checking.drawn import files_of
from harness.checking.promises import asked
from harness.contracts import plugins
from harness.contracts.records import Dropped
from harness.contracts.source import PACKAGE, declared
from harness.contracts.testbed_file import read_testbed
from harness.sources._chosen import source
from harness.system.errors import UsageError

SOME = 200  # examples that are made
DRAWN = 4  # of a source of ours, by the embedded world


def check_source(name: str, options: Mapping[str, Any], data: Path | None) -> Iterator[str]:
    """A source: what it says that identifies it, its records' ids, and its first examples in two orders.

    Its files are those of `data`, those beside an outside file, or what the embedded world draws.
    """
    here, bed = plugins.stem(name), read_testbed("mini")
    if options:
        raise plugins.unknown(f"option of {here}", next(iter(options)), ["(it has none)"])
    made = source(name) if plugins.outside(PACKAGE, name) else declared(name)(data)
    made = made.at(data.absolute()) if data else made
    with files_of(made, bed, DRAWN, 0) as files:
        told = asked(here, "identity", lambda: plugins.plain(files.source.identity(bed.reading), here))
        if told != asked(here, "identity", lambda: files.source.identity(bed.reading)):
            raise UsageError(f"{here}.identity gives another answer the second time; it must last.")
        yield f"{here}: says what identifies it ({', '.join(told)})"
        pairs = asked(here, "records", lambda: list(files.source.records(bed.reading)))
        if not pairs:
            raise UsageError(f"{here}.records gives none; wanted: pairs of an id and what example needs.")
        first = asked(here, "example", lambda: list(islice(files.examples(0), SOME)))
        other = {one.id: one for one in asked(here, "example", lambda: list(islice(files.examples(1), SOME)))}
    if twice := len(first) - len({one.id for one in first}):
        raise UsageError(f"{here}.records gives {twice} ids twice; an id is made of its record alone.")
    for one in first:
        if other.get(one.id, one) != one:
            raise UsageError(f"{here}.example makes another example of {one.id} in another order.")
    dropped = [one for one in first if isinstance(one, Dropped)]
    why = f" ({dropped[0].id}: {dropped[0].reason})" if dropped else ""
    yield f"{here}: {len(first)} of {len(pairs)} records made examples, {len(dropped)} dropped{why}"
    yield f"{here}: not tried: whether its identity changes with every byte that changes an example"
