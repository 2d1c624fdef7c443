"""The split: the same examples for every method, whatever the order of the file; and the lock that says so."""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.contracts.images import Places
from harness.contracts.records import Dropped, Example, Image, Turn
from harness.system.errors import HarnessError, UsageError
from harness.system.jsonl import read_jsonl
from harness.training.split import DROPPED, EXAMPLES, LOCK, check_lock, content_hash, split, write_split

Order = Callable[[str], str]


def example(id: str, root: str = "/photos") -> Example:
    return Example(id, "toy", Image(f"{root}/{id}.jpg", "ab" * 32), (Turn("What?", f"It is {id}."),))


class Source:
    """Yields what it is given in the order asked for, and counts."""

    def __init__(self, *found: Example | Dropped) -> None:
        self.found = found
        self.taken = 0

    def __call__(self, order: Order) -> Iterator[Example | Dropped]:
        for thing in sorted(self.found, key=lambda thing: order(thing.id)):
            self.taken += 1
            yield thing


def source(count: int = 50) -> list[Example]:
    return [example(f"x{number}") for number in range(count)]


def test_the_split_knows_no_file_order() -> None:
    forward = source()
    shuffled = random.Random(3).sample(forward, len(forward))
    chosen = split(Source(*forward), 10, seed=5)
    assert chosen == split(Source(*shuffled), 10, seed=5)
    assert len(set(chosen.examples)) == 10
    assert chosen.examples != tuple(sorted(chosen.examples, key=lambda e: e.id))


def test_the_split_depends_on_the_seed_and_grows() -> None:
    small, large = (split(Source(*source()), n, seed=5) for n in (10, 20))
    assert large.examples[:10] == small.examples
    assert small != split(Source(*source()), 10, seed=6)


def test_no_more_is_read_than_needed() -> None:
    found = Source(*source())
    split(found, 10, seed=0)
    assert found.taken <= 11


def test_duplicates_are_dropped() -> None:
    chosen = split(Source(*source(20), *source(20)), 20, seed=0)
    assert len({e.id for e in chosen.examples}) == 20
    assert {drop.reason for drop in chosen.dropped} == {"the same record twice"}


def test_too_few_examples() -> None:
    with pytest.raises(UsageError, match=r"60 examples .* has 50 usable"):
        split(Source(*source()), 60, seed=0)


def test_of_few_records_more_than_half_may_not_be_lost() -> None:
    bad = [Dropped(f"b{n}", "image: no such file") for n in range(8)]
    with pytest.raises(HarnessError, match=r"8 of 9 .*\(image: no such file: 8\).*reading.max_dropped=0.90"):
        split(Source(*source(1), *bad), None, seed=0)
    assert len(split(Source(*source(1), *bad), None, seed=0, max_dropped=0.9).examples) == 1


def test_where_nothing_is_usable_the_five_most_frequent_reasons_are_shown() -> None:
    """With their counts and cures; what is about one record alone is not."""
    reasons = [f"reason {n} (of record {k})" for n in range(7) for k in range(20 - n)]
    bad = [Dropped(str(n), reason) for n, reason in enumerate(reasons)]
    bad += [Dropped(f"s{n}", "a system turn (cure: leave it out)") for n in range(30)]
    with pytest.raises(UsageError) as stopped:
        split(Source(*bad), None, seed=0)
    assert str(stopped.value) == (
        "some examples are asked for and the source has 0 usable ones (a system turn: 30, leave it out; reason 0: 20; "
        "reason 1: 19; reason 2: 18; reason 3: 17; for other reasons: 45); mend the records."
    )


def test_many_malformed_records_stop_the_run() -> None:
    bad = [Dropped(f"b{n}", "image: cannot be decoded (OSError: x)" if n % 3 else "no conversations") for n in range(9)]
    with pytest.raises(HarnessError, match=r"9 of 159 .*\(image: cannot be decoded: 6; no conversations: 3\)"):
        split(Source(*source(150), *bad), 150, seed=0)
    one = split(Source(*source(150), bad[0]), 150, seed=0)
    assert len(one.dropped) <= 1
    assert len(split(Source(*source(50), *bad), 50, seed=0).examples) == 50


def written(folder: Path) -> list[Example]:
    return list(read_jsonl(Example, folder / EXAMPLES))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    chosen = split(Source(*source(), Dropped("bad", "no conversations")), 50, seed=0)
    write_split(tmp_path, chosen, Places(Path("/store")))
    return tmp_path


def test_the_files_of_a_split(folder: Path) -> None:
    chosen = split(Source(*source()), 50, seed=0)
    assert written(folder) == list(chosen.examples)
    assert {drop.id for drop in read_jsonl(Dropped, folder / DROPPED)} <= {"bad"}
    lock = json.loads((folder / LOCK).read_text())
    assert lock["examples"] == [[e.id, content_hash(e)] for e in chosen.examples]
    check_lock(folder / LOCK, written(folder))


def test_a_lock_knows_no_place(tmp_path: Path) -> None:
    locks = []
    for root in ("/photos", "/store/data/images"):
        chosen = split(Source(example("a", root), example("b", root)), 2, seed=0)
        write_split(tmp_path, chosen, Places(Path("/store")))
        locks.append((tmp_path / LOCK).read_text())
        check_lock(tmp_path / LOCK, written(tmp_path))
    assert locks[0] == locks[1]
    assert {e.image.path for e in written(tmp_path) if e.image} == {"data/images/a.jpg", "data/images/b.jpg"}


def test_a_lock_refuses_other_examples(folder: Path) -> None:
    examples = written(folder)
    first, *others = examples
    assert first.image is not None
    cases = [
        ("is missing", others),
        ("is not in it", [*examples, example("new")]),
        ("has changed", [replace(first, turns=(Turn("What?", "Other."),)), *others]),
        ("has changed", [replace(first, image=replace(first.image, sha256="cd" * 32)), *others]),
        ("another order", examples[::-1]),
        ("not once each", [*examples, first]),
    ]
    for clause, given in cases:
        with pytest.raises(HarnessError, match=clause):
            check_lock(folder / LOCK, given)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"digest":"x","examples":[["a","b"]]}', '{"examples":3}'])
def test_a_damaged_lock(text: str, folder: Path) -> None:
    examples = written(folder)
    (folder / LOCK).write_text(text)
    with pytest.raises(HarnessError, match="is damaged"):
        check_lock(folder / LOCK, examples)
