"""How a plan would run with so much room: a simulation of `schedule.Course`, by seconds that are known or estimated."""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from harness.contracts.steps import Step

Took = Callable[[Step], float]
Takes = tuple[float, ...]  # of each field of `Resources` that the room bounds
NEARLY = 0.9  # of the whole time: what takes so much of it is what it waits for


class Span(NamedTuple):
    """When a step runs, in seconds after the first began."""

    step: Step
    begins: float
    ends: float


@dataclass(frozen=True)
class Simulated:
    """How steps ran. `spans` by key, in the order in which they began."""

    spans: Mapping[str, Span]

    @property
    def seconds(self) -> float:
        """Until all are done."""
        return max((span.ends for span in self.spans.values()), default=0.0)

    def used(self, name: str) -> float:
        """What all took together of a field of `Resources`, times the seconds that they took it."""
        spans = self.spans.values()
        return float(sum(getattr(one.step.resources, name) * (one.ends - one.begins) for one in spans))

    @property
    def chain(self) -> list[Step]:
        """The steps that ended the last one's waiting, the last one's own last: one behind the other, without a gap."""
        found, at = list[Span](), max(self.spans.values(), key=lambda one: one.ends, default=None)
        while at is not None:
            found.append(at)
            before = [self.spans[key] for key in before_of(at.step) if key in self.spans]
            at = max(before, key=lambda one: one.ends, default=None)
        return [one.step for one in reversed(found)]


def before_of(step: Step) -> Iterator[str]:
    """The keys of what a step reads and of what it lets go first."""
    yield from (stage.key for stage in step.reads.values())
    yield from step.after


def simulated(
    steps: Sequence[Step], took: Took, room: Mapping[str, float], running: Sequence[tuple[Step, float]] = ()
) -> Simulated:
    """The steps, handed out as `schedule.Course.next` does with this room.

    `running`: those under way, with the seconds that they still take.
    """
    going = Going(steps, room, running)
    busy, spans, now = list[tuple[float, int, int, Step]](), dict[str, Span](), 0.0

    def start(step: Step, seconds: float) -> None:
        """Begin a step, which ends in so many seconds."""
        spans[step.key] = Span(step, now, now + seconds)
        heapq.heappush(busy, (now + seconds, going.order.get(step.key, -1), len(spans), step))

    for step, seconds in running:
        start(step, seconds)
    while True:
        while begun := going.next():
            start(begun, took(begun))
        if not busy:
            return Simulated(spans)
        now, *_, ended = heapq.heappop(busy)
        going.end(ended)


class Going:
    """What a course knows of steps, quick to ask: those that wait for no other are kept by what they take."""

    def __init__(self, steps: Sequence[Step], room: Mapping[str, float], running: Sequence[tuple[Step, float]]) -> None:
        self.names, self.most = tuple(room), tuple(room.values())
        self.steps, self.order = {step.key: step for step in steps}, {step.key: at for at, step in enumerate(steps)}
        self.ready: dict[Takes, list[tuple[int, str]]] = {}
        there = self.steps.keys() | {step.key for step, _ in running}
        self.waits = {step.key: {key for key in before_of(step) if key in there} for step in steps}
        self.readers: dict[str, list[str]] = {}
        for key, before in self.waits.items():
            for one in before:
                self.readers.setdefault(one, []).append(key)
        self.free, self.under = list(self.most), 0
        for step, _ in running:
            self._take(self._takes(step), 1)
        for key, before in self.waits.items():
            if not before:
                self._wake(key)

    def next(self) -> Step | None:
        """`Course.next`, begun."""
        heads = sorted((heap[0], takes) for takes, heap in self.ready.items() if heap)
        if not heads:
            return None
        first = heads[0][1]
        if not self.under or self._fit(first):
            return self._begin(first)
        if min(self.free) < 0 or any(one > most for one, most in zip(first, self.most, strict=True)):
            return None
        for _, takes in heads[1:]:
            if self._beside(first, takes):
                return self._begin(takes)
        return None

    def end(self, step: Step) -> None:
        """The step is done."""
        self._take(self._takes(step), -1)
        for key in self.readers.get(step.key, ()):
            self.waits[key].discard(step.key)
            if not self.waits[key]:
                self._wake(key)

    def _wake(self, key: str) -> None:
        heapq.heappush(self.ready.setdefault(self._takes(self.steps[key]), []), (self.order[key], key))

    def _begin(self, takes: Takes) -> Step:
        _, key = heapq.heappop(self.ready[takes])
        self._take(takes, 1)
        return self.steps[key]

    def _takes(self, step: Step) -> Takes:
        return tuple(getattr(step.resources, name) for name in self.names)

    def _take(self, takes: Takes, times: int) -> None:
        self.free = [left - times * one for left, one in zip(self.free, takes, strict=True)]
        self.under += times

    def _fit(self, takes: Takes) -> bool:
        return all(one <= left for one, left in zip(takes, self.free, strict=True))

    def _beside(self, first: Takes, takes: Takes) -> bool:
        """Whether it takes none of what the first lacks, and leaves it all else (`Course._beside`)."""
        each = zip(first, takes, self.free, strict=True)
        return all(not one if most > left else most + one <= left for most, one, left in each)


def bound(run: Simulated, chain: float, name: str, most: float) -> str:
    """What a run waited for nearly all of its time, whose room is `most` GPUs or processes."""
    if chain >= NEARLY * run.seconds:
        return "its longest chain"
    whole, word = run.used(name) >= NEARLY * most * run.seconds, {"gpus": "GPUs", "processes": "workers"}[name]
    return word if whole else f"{word}, and its chains"
