"""A training's records over several processes: each makes its share, and all know of all."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from harness.contracts.records import Conversation, Example, Image, Record, Turn
from harness.models.batches import Outline
from harness.models.load import Loaded
from harness.models.tree import Tree
from harness.system.errors import HarnessError
from harness.system.jsonl import read_jsonl, write_jsonl
from harness.training import forest
from harness.training.forest import Forest
from harness.training.job import Job

MakeJob = Callable[..., Job]
LONG = Turn("what is it", "a red ball " * 400)


@pytest.fixture
def over(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Job, Loaded, int], list[Forest]]]:
    """Makes the forests of so many processes, which are threads here, and exchange what they know in any order."""

    def made(job: Job, loaded: Loaded, world: int) -> list[Forest]:
        met, shares = Barrier(world), list[Any]()

        def gather(told: list[Any], mine: Any) -> None:
            shares.append(mine)
            met.wait(10)
            told[:] = shares

        monkeypatch.setattr(forest.distributed, "all_gather_object", gather)
        with ThreadPoolExecutor(world) as pool:
            return list(pool.map(lambda rank: Forest(job, loaded, rank, world), range(world)))

    yield made


def beside(job: Job, pictures: list[Image], count: int = 7) -> Job:
    """The job with examples beside its records, of which every third is too long to be learnt."""
    turns = [(Turn("how many", "two"),), (LONG,), (Turn("what", "a green ball"),)]
    file = Path(job.out).with_name("examples.jsonl")
    write_jsonl(file, [Example(f"e{n}", "mix", pictures[n % 6], turns[n % 3]) for n in range(count)])
    return job.model_copy(update={"joint": str(file)})


@pytest.mark.parametrize("world", [2, 3])
def test_each_process_makes_its_share_and_knows_of_all(  # type: ignore[no-untyped-def]
    job: MakeJob, loaded: Loaded, pictures: list[Image], over, world: int
) -> None:
    asked = beside(job(), pictures)
    alone, several = Forest(asked, loaded), over(asked, loaded, world)
    for one in several:
        assert list(one.trees) == list(alone.trees) and one.joint == alone.joint and one.dropped == alone.dropped == 2
        for id, tree in one.trees.items():
            assert Outline.of(alone.whole(alone.trees[id])) == (Outline.of(tree) if isinstance(tree, Tree) else tree)
    made = [{id for id, tree in one.trees.items() if isinstance(tree, Tree)} for one in several]
    assert set().union(*made) == {*alone.trees} and sum(map(len, made)) == len(alone.trees)


def test_what_another_has_made_is_made_again_where_it_is_learnt_and_once(  # type: ignore[no-untyped-def]
    job: MakeJob, loaded: Loaded, pictures: list[Image], over, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = beside(job(), pictures)
    alone, (one, _) = Forest(asked, loaded), over(asked, loaded, 2)
    other = next(tree for tree in one.trees.values() if isinstance(tree, Outline))
    assert one.whole(other) == alone.trees[other.id]
    monkeypatch.delattr(forest, "tree")  # nothing is made from here on
    assert all(one.whole(one.trees[id]) == alone.trees[id] for id in (other.id, *(t.id for t in one.trees.values()
               if isinstance(t, Tree))))  # fmt: skip


def test_two_of_one_id_are_found_wherever_they_lie(job: MakeJob, loaded: Loaded, over) -> None:  # type: ignore[no-untyped-def]
    asked = job()
    first, second, *rest = read_jsonl(Record, Path(asked.records))
    write_jsonl(Path(asked.records), [first, replace(second, id=first.id), *rest])
    for world in (1, 2):
        with pytest.raises(HarnessError, match="two records have the same id"):
            over(asked, loaded, world)


def test_what_cannot_be_learnt_is_named(job: MakeJob, loaded: Loaded, pictures: list[Image], over) -> None:  # type: ignore[no-untyped-def]
    asked = job()
    write_jsonl(Path(asked.records), [*read_jsonl(Record, Path(asked.records)), Conversation("l", None, ((LONG,),))])
    with pytest.raises(HarnessError, match="record l cannot be trained on: too long"):
        over(asked, loaded, 1)
    asked = beside(job("none"), pictures)
    write_jsonl(Path(asked.records), [])
    with pytest.raises(HarnessError, match="no record to train on"):
        over(asked, loaded, 2)
