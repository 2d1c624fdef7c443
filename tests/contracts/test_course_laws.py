"""Any graph of steps, any order of ends, any failures: each step once, after what it reads; losses by reading alone."""

import errno
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from harness.comparison.progress import Silent
from harness.contracts import schedule
from harness.contracts.executor import Executor, Failure
from harness.contracts.plugins import make
from harness.contracts.schedule import EXECUTORS, Course, failure, pending
from harness.contracts.steps import Step
from harness.store.store import Stage, Store
from harness.system.errors import Denied, HarnessError
from tests.laws import caught, law
from tests.toy_steps import Toy, Watching, run, step, text


class Fake(Store):
    """Has the stages that it is told of."""

    def __init__(self, has: Iterable[str] = ()) -> None:
        super().__init__(Path("/nowhere"))
        self.has = set(has)

    def done(self, stage: Stage) -> bool:
        return stage.key in self.has


@st.composite
def graphs(draw: st.DrawFn, most: int = 9) -> list[Step]:
    """Steps that read, derive from, and let go first some of those before them; some ask a judge."""
    steps = list[Step]()
    for number in range(draw(st.integers(1, most))):
        some = st.lists(st.sampled_from(steps), max_size=3, unique_by=lambda one: one.key) if steps else st.just([])
        kind = draw(st.sampled_from(["toy"] * 6 + ["other"]))
        asks = draw(st.sampled_from(["", "", "judge", "writer"]))
        takes = {"processes": draw(st.integers(1, 4)), "gpus": draw(st.integers(0, 2)), "asks": asks}
        steps.append(step(f"{number}", *draw(some), derived=draw(some), after=draw(some), kind=kind, **takes))
    return steps


FATES = st.lists(st.sampled_from(["made"] * 5 + ["error", "denied", "unmade"]), min_size=9, max_size=9)
ROOM = st.fixed_dictionaries({}, optional={"processes": st.integers(1, 6), "gpus": st.integers(0, 3)})


@dataclass
class Played:
    """What one run of a course came to."""

    began: list[Step]
    ended: list[Step]
    lost: dict[str, Failure]
    told: list[tuple[Any, ...]]
    store: Fake


def play(steps: Sequence[Step], fates: Sequence[str], room: dict[str, float], pick: Callable[[int], int]) -> Played:
    """An executor in one thread: begins whatever it may, and ends one of those under way, any of them."""
    store, watcher = Fake(), Watching()
    course = Course(steps, watcher, store)
    fate = {one.key: fates[at] for at, one in enumerate(steps)}
    began, ended = list[Step](), list[Step]()
    while course.waiting or course.running:
        while one := course.next(**room):
            course.start(one)
            began.append(one)
            busy = [other.resources for other in course.running.values()]
            for name, most in room.items():
                assert len(busy) == 1 or sum(getattr(takes, name) for takes in busy) <= most
        assert course.running, "nothing runs and something waits"
        under = list(course.running.values())
        one = under[pick(len(under)) % len(under)]
        ended.append(one)
        errors = {"error": HarnessError("no."), "denied": Denied("401.")}
        failed = Failure(one.title, errors[fate[one.key]]) if fate[one.key] in errors else None
        if fate[one.key] == "made":
            store.has.add(one.key)
        course.end(one, failed)
    return Played(began, ended, course.lost, watcher.told, store)


@law(200)
@given(graphs(), FATES, ROOM, st.randoms(use_true_random=False))
def test_each_step_once_after_what_it_reads_and_losses_by_reading_alone(
    steps: list[Step], fates: list[str], room: dict[str, float], rng: Any
) -> None:
    played = play(steps, fates, room, rng.randrange)
    by_key = {one.key: one for one in steps}
    began = [one.key for one in played.began]
    assert len(began) == len(set(began))  # never twice
    assert sorted(one.key for one in played.ended) == sorted(began)
    assert {*played.store.has, *played.lost} == by_key.keys() and not played.store.has & played.lost.keys()
    place = {key: at for at, key in enumerate(began)}
    over = {one.key: at for at, one in enumerate(played.ended)}
    for key in began:
        one = by_key[key]
        for stage in one.reads.values():
            assert stage.key in played.store.has and place[stage.key] < place[key]
            assert over[stage.key] < over[key]
        for first in one.after:
            assert first in played.lost or place[first] < place[key]
    for key, failed in played.lost.items():
        one = by_key[key]
        reads = {stage.key for stage in one.reads.values()}
        own = key in place and fates[steps.index(one)] != "made"
        denied = one.resources.asks and isinstance(failed.error, Denied)
        assert own or reads & played.lost.keys() or denied, f"{one.title} is lost for nothing"
    for key in played.store.has:
        assert not {stage.key for stage in by_key[key].reads.values()} & played.lost.keys()


@law(100)
@given(graphs(), FATES, ROOM, st.randoms(use_true_random=False))
def test_a_watcher_hears_of_every_step_once_and_of_one_reason_per_failure(
    steps: list[Step], fates: list[str], room: dict[str, float], rng: Any
) -> None:
    """Who failed has a reason, who was taken along has none; the sentence is that of whoever failed."""
    played = play(steps, fates, room, rng.randrange)
    assert played.told[0] == ("expect", *(one.title for one in steps))
    about = {what: [line for line in played.told if line[0] == what] for what in ("started", "finished", "failed")}
    assert [line[1] for line in about["started"]] == [one.title for one in played.began]
    titles = [line[1] for line in (*about["finished"], *about["failed"])]
    assert sorted(titles) == sorted(one.title for one in steps)
    started = {line[1] for line in about["started"]}
    for _, title, why in about["failed"]:
        assert bool(why) == (title in started)
    ends = {one.title: played.lost[one.key] for one in steps if one.key in played.lost}
    for title, failed in ends.items():
        assert failed.title in started and (title not in started or failed.title == title)


@law(100)
@given(graphs(), ROOM, st.randoms(use_true_random=False), st.randoms(use_true_random=False))
def test_who_ends_first_changes_nothing_of_what_is_made(
    steps: list[Step], room: dict[str, float], one: Any, other: Any
) -> None:
    """Errors only, for what a refusal takes along depends on what had begun."""
    fates = ["error" if rng < 0.2 else "made" for rng in (one.random() for _ in range(9))]
    first, second = (play(steps, fates, room, rng.randrange) for rng in (one, other))
    assert first.store.has == second.store.has
    assert first.lost.keys() == second.lost.keys()


@law(100)
@given(graphs(), st.sets(st.integers(0, 8)), st.sets(st.integers(0, 8), min_size=1))
def test_pending_is_what_is_missing_on_the_way_to_the_goals(
    steps: list[Step], have: set[int], wanted: set[int]
) -> None:
    """By its definition: a step runs if a goal needs it, and what is done hides what it was made from."""
    done = {steps[at].key for at in have if at < len(steps)}
    goals = [steps[at] for at in sorted(wanted) if at < len(steps)]
    assume(goals)
    found = pending(goals, Fake(done), steps)
    needed, left = set[str](), [goal for goal in goals if goal.key not in done]
    while left:
        one = left.pop()
        needed.add(one.key)
        left += [s for s in steps if s.key in {r.key for r in one.reads.values()} - done - needed]
    assert [one.key for one in found] == [one.key for one in steps if one.key in needed]


@law(60)
@given(graphs(), FATES, st.randoms(use_true_random=False))
def test_what_ran_and_failed_is_what_is_pending_next_time(steps: list[Step], fates: list[str], rng: Any) -> None:
    """The same command again asks for the lost steps and for no other."""
    played = play(steps, fates, {}, rng.randrange)
    again = pending(steps, played.store, steps)
    assert {one.key for one in again} == played.lost.keys()
    healed = play(again, ["made"] * 9, {}, rng.randrange)
    assert healed.lost == {} and healed.store.has | played.store.has == {one.key for one in steps}


def without_reads(self: Course, one: Step) -> bool:
    """A mutant: it looks at what waits, not at what runs."""
    return not any(stage.key in self.waiting for stage in one.reads.values())


def takes_the_next(self: Course, one: Step, failed: Failure) -> None:
    """A mutant: a failure takes those along that read the step itself, and no further."""
    taken = {one.key: one}
    taken |= {s.key: s for s in self.waiting.values() if one.key in {r.key for r in s.reads.values()}}
    for key, other in taken.items():
        self.waiting.pop(key, None)
        self.lost[key] = failed
        self.watcher.failed(other, str(failed.error) if other is one else "")


def takes_everything(self: Course, one: Step, failed: Failure) -> None:
    """A mutant: whatever still waits is lost."""
    for key, other in {one.key: one, **self.waiting}.items():
        self.waiting.pop(key, None)
        self.lost[key] = failed
        self.watcher.failed(other, str(failed.error) if other is one else "")


def takes_who_lets_go_first(self: Course, one: Step, failed: Failure) -> None:
    """A mutant: a step that only lets another go first is lost with it."""
    taken = {one.key: one}
    for s in self.waiting.values():
        if {*taken} & {*(r.key for r in s.reads.values()), *s.after}:
            taken[s.key] = s
    for key, other in taken.items():
        self.waiting.pop(key, None)
        self.lost[key] = failed
        self.watcher.failed(other, str(failed.error) if other is one else "")


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("_ready", without_reads),
        ("_lose", takes_the_next),
        ("_lose", takes_everything),
        ("_lose", takes_who_lets_go_first),
        ("_fits", lambda self, one, room: True),
    ],
    ids=["begins too early", "loses too little", "loses all", "loses who lets go first", "overfills"],
)
def test_a_wrong_course_would_be_caught(name: str, wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Course, name, wrong)
    with pytest.raises((AssertionError, HarnessError)):
        test_each_step_once_after_what_it_reads_and_losses_by_reading_alone()


def test_a_plan_that_makes_what_nobody_needs_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def everything(goals: Iterable[Step], store: Store, steps: Sequence[Step]) -> list[Step]:
        return [one for one in steps if not store.done(one.stage)]

    monkeypatch.setitem(globals(), "pending", everything)
    caught(test_pending_is_what_is_missing_on_the_way_to_the_goals)


@law(12)
@given(graphs(most=6), FATES, st.sampled_from(["local", "tests/outside/executor/in_order.py"]))
def test_an_executor_in_one_process_makes_the_texts_that_the_graph_says(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Step], fates: list[str], name: str
) -> None:
    """Real bodies in a real store: what is made holds digests of what it read."""
    steps = [replace(one, derived={}) for one in steps]  # of which a toy's text says nothing further down
    where = str(Path(__file__).parents[2] / name) if name.endswith(".py") else name
    executor: Executor = make(EXECUTORS, where, Executor, {})
    faults = {one.title: "error" for one, fate in zip(steps, fates, strict=False) if fate == "error"}
    ran = run(executor, Toy(tmp_path_factory.mktemp("toy"), faults), steps, workers=1)
    assert ran.raised is None
    assert len(ran.began) == len(set(ran.began))
    lost = set[str]()
    for one in steps:
        if one.title in faults or lost & {stage.key for stage in one.reads.values()}:
            lost.add(one.key)
        else:
            assert (ran.toy.store.path(one.stage) / "text").read_text() == text(one)
    assert ran.lost.keys() == lost


FULL = [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS]


@pytest.mark.parametrize("number", [*FULL, errno.EACCES, errno.EIO, errno.ENOENT])
def test_a_disk_that_takes_no_more_ends_the_run_and_another_fault_its_step(number: int) -> None:
    one, other = step("one"), step("other")
    for error in (OSError(number, "x"), HarnessError("no.")):
        failed = failure(one, error)
        course = Course([one, other], Silent(), Fake())
        course.start(one)
        if isinstance(error, OSError) and number in FULL:
            with pytest.raises(HarnessError):
                course.end(one, failed)
            assert failed.ends
        else:
            course.end(one, failed)
            assert [*course.lost] == [one.key] and course.next() is other


@law(60)
@given(graphs(), FATES, st.integers(0, 8), st.randoms(use_true_random=False))
def test_nothing_is_left_to_go_on_for_where_a_split_is_lost(
    steps: list[Step], fates: list[str], at: int, rng: Any
) -> None:
    """A failed split, or one that is taken along, raises the failure's own error."""
    at %= len(steps)
    steps = [replace(one, stage=replace(one.stage, kind="split")) if one is steps[at] else one for one in steps]
    reads = {one.key for one in steps}
    assume(all({stage.key for stage in one.reads.values()} <= reads for one in steps))  # nobody reads the old name
    assume(all(first in reads for one in steps for first in one.after))
    doomed = set[str]()
    for one, fate in zip(steps, fates, strict=False):
        if fate in ("error", "unmade") or doomed & {stage.key for stage in one.reads.values()}:
            doomed.add(one.key)
    assume("denied" not in fates)
    if steps[at].key in doomed:
        with pytest.raises(HarnessError, match=r"no\.|is not in"):
            play(steps, fates, {}, rng.randrange)
    else:
        assert play(steps, fates, {}, rng.randrange).lost.keys() == doomed


def test_without_shared_kinds_a_lost_split_would_be_one_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "SHARED", ())
    caught(test_nothing_is_left_to_go_on_for_where_a_split_is_lost)
