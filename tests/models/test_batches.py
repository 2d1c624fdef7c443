"""Data order and micro-batches: everything once, the same for every method, however it is cut."""

import random

from hypothesis import given
from hypothesis import strategies as st

from harness.models.batches import micro_batches, order, steps
from harness.models.tree import Branch, Tree


def trees(count: int) -> list[Tree]:
    rng = random.Random(count)
    return [Tree(f"t{n}", None, (1,), (Branch((2,) * rng.randrange(1, 30), (True,)),)) for n in range(count)]


def test_the_order_is_of_the_ids_not_of_their_list() -> None:
    ids = [f"r{n}" for n in range(50)]
    assert order(ids, 1, 0) == order(ids[::-1], 1, 0)
    assert order(ids, 1, 0) != order(ids, 1, 1) != order(ids, 2, 1)
    without = [name for name in order(ids, 1, 0) if name != "r7"]
    assert order([name for name in ids if name != "r7"], 1, 0) == without


@given(st.integers(1, 40), st.integers(1, 3), st.integers(1, 12))
def test_every_epoch_has_every_record_once(count: int, epochs: int, size: int) -> None:
    ids = [f"r{n}" for n in range(count)]
    made = steps(ids, 0, epochs, size)
    flat = [name for step in made for name in step]
    assert all(len(step) <= size for step in made)
    assert sorted(flat) == sorted(ids * epochs)
    assert sorted(flat[:count]) == sorted(ids)


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 4))
def test_a_step_is_cut_without_loss(count: int, size: int, ranks: int) -> None:
    step = trees(count)
    rounds = micro_batches(step, size, ranks)
    assert all(len(each) == ranks for each in rounds)
    assert all(len(batch) <= size for each in rounds for batch in each)
    assert sorted(tree.id for each in rounds for batch in each for tree in batch) == sorted(t.id for t in step)
    longest = [max(tree.tokens for batch in each for tree in batch) for each in rounds]
    assert longest == sorted(longest, reverse=True)
