"""A micro-batch prepared ahead is the one that is asked for, with the errors that it has, and one thread makes all."""

import threading
from collections.abc import Sequence

import pytest

from harness.models.tree import Branch, Tree
from harness.system.errors import HarnessError
from harness.training.ahead import Ahead
from harness.training.engine import Run, train
from tests.trainings import lines, same


def trees(*names: str) -> list[Tree]:
    return [Tree(name, None, (1,), (Branch((2,), (True,)),)) for name in names]


class Maker:
    """Joins ids, and remembers what was made on which thread."""

    def __init__(self) -> None:
        self.made: list[tuple[str, str]] = []
        self.two = threading.Event()

    def __call__(self, given: Sequence[Tree]) -> str:
        name = "".join(tree.id for tree in given)
        self.made.append((name, threading.current_thread().name))
        if len(self.made) == 2:
            self.two.set()
        if name == "x":
            raise HarnessError("x cannot be made.")
        return name


def test_what_comes_next_is_begun_before_it_is_asked_for() -> None:
    make = Maker()
    ahead = Ahead(make)
    assert ahead(trees("a"), trees("b", "c")) == "a"
    assert make.two.wait(20)  # nobody has asked for it yet
    ahead.close()
    assert [name for name, _ in make.made] == ["a", "bc"] and len({thread for _, thread in make.made}) == 1


def test_another_than_the_one_begun_is_made_all_the_same() -> None:
    make = Maker()
    ahead = Ahead(make)
    assert [ahead(trees("a"), trees("b")), ahead(trees("c"), trees("d")), ahead(trees("d"))] == ["a", "c", "d"]
    assert [name for name, _ in make.made] == ["a", "b", "c", "d"]
    ahead.close()


def test_an_error_is_raised_where_its_batch_is_asked_for_and_nowhere_else() -> None:
    make = Maker()
    ahead = Ahead(make)
    assert ahead(trees("a"), trees("x")) == "a"
    with pytest.raises(HarnessError, match="x cannot be made"):
        ahead(trees("x"), trees("b"))
    assert ahead(trees("b")) == "b"
    ahead.close()


def test_a_training_that_prepares_nothing_ahead_is_the_same_bits(job, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    early, late = (job(name, per_device_train_batch_size=2) for name in ("early", "late"))
    train(early)
    begun = Ahead.__call__
    monkeypatch.setattr(Ahead, "__call__", lambda self, trees, after=(): begun(self, trees))
    train(late)
    assert lines(early) == lines(late) and same(early, late)


def test_no_thread_is_left_behind(job, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    def broken(self: Run, *given: object) -> None:
        raise HarnessError("no.")

    before = set(threading.enumerate())  # other tests' may not have ended
    train(job("one"))
    monkeypatch.setattr(Run, "step", broken)
    with pytest.raises(HarnessError, match=r"no\."):
        train(job("two"))
    assert not [one for one in threading.enumerate() if one not in before and one.name.startswith("ahead")]
