"""`--limit N` draws a part that looks like the whole; the first N items of POPE are one split, of MME one subtask."""

import random
from collections import Counter

import pytest

from benchmarks.mmb import Mmb
from benchmarks.mme import Mme
from benchmarks.pope import SPLITS, Pope
from benchmarks.sqa import Sqa
from harness.contracts.records import Item
from harness.scoring.limit import stratified


def item(id: str, unit: str = "", **facts: object) -> Item:
    return Item(id, None, "?", unit or id, facts)


POPE = [item(f"{split}/{n}", split=split) for split in SPLITS for n in range(3000)]
MME = [
    item(f"{task}/{n}/{k}", f"{task}/{n}", subtask=task)
    for task, count in (("existence", 30), ("posters", 147), ("code", 20), ("landmark", 200))
    for n in range(count)
    for k in range(2)
]
MMB = [
    item(f"{n + 1_000_000 * k}", str(n), category=("ocr", "mood")[n % 5 == 0])
    for n in range(50)
    for k in range(2 + n % 3)
]


def of(items: list[Item], fact: str) -> Counter[str]:
    return Counter(item.facts[fact] for item in items)


@pytest.mark.parametrize("limit", [3, 10, 100, 301])
def test_popes_splits_have_equal_parts(limit: int) -> None:
    drawn = stratified(POPE, limit, Pope().stratum)
    assert len(drawn) == limit
    assert set(of(drawn, "split")) == set(SPLITS)
    assert max(of(drawn, "split").values()) - min(of(drawn, "split").values()) <= 1


def test_mutant_the_first_items_are_one_split() -> None:
    """What `--limit` was before."""
    assert set(of(POPE[:301], "split")) == {"random"}


def test_every_subtask_of_mme_is_there_and_in_proportion() -> None:
    assert set(of(stratified(MME, 8, Mme().stratum), "subtask")) == {"existence", "posters", "code", "landmark"}
    drawn, all_of_them = of(stratified(MME, 200, Mme().stratum), "subtask"), of(MME, "subtask")
    for task, count in all_of_them.items():
        assert drawn[task] == pytest.approx(count * 200 / len(MME), abs=4)


@pytest.mark.parametrize(("items", "benchmark"), [(MME, Mme()), (MMB, Mmb())], ids=["mme", "mmb"])
@pytest.mark.parametrize("limit", [1, 5, 7, 31, 90])
def test_units_stay_whole(items: list[Item], benchmark: Mme | Mmb, limit: int) -> None:
    whole, drawn = Counter(i.unit for i in items), stratified(items, limit, benchmark.stratum)
    found = Counter(i.unit for i in drawn)
    assert all(whole[unit] == count for unit, count in found.items())
    assert len(drawn) <= limit or len(found) == 1
    assert len(drawn) > limit - max(whole.values())


@pytest.mark.parametrize("items", [POPE[::10], MME, MMB], ids=["pope", "mme", "mmb"])
def test_a_smaller_part_lies_in_a_larger_one_whatever_the_order_of_the_file(items: list[Item]) -> None:
    def stratum(item: Item) -> str:
        return str(sorted(item.facts.items()))

    shuffled = random.Random(1).sample(items, len(items))
    before: set[str] = set()
    for limit in range(1, 120, 7):
        drawn = stratified(items, limit, stratum)
        assert drawn == [item for item in items if item in drawn]
        assert {i.id for i in drawn} == {i.id for i in stratified(shuffled, limit, stratum)}
        assert before <= {i.id for i in drawn}
        before = {i.id for i in drawn}
    assert stratified(items, len(items), stratum) == items


def test_science_questions_with_and_without_a_picture_keep_their_shares() -> None:
    items = [item(str(n), where=("text", "img")[n % 3 == 0], subject="natural science") for n in range(90)]
    assert of(stratified(items, 30, Sqa().stratum), "where") == {"img": 10, "text": 20}
