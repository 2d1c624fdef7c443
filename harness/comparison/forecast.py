"""How long the steps of a plan will take, told by what finished stages of their kind took; what never ran is not known.

Two stages are of a kind where the same method made them or they are about the same benchmark, with a model of the same
plan: what a 1 M model takes says nothing of a 7 B one.
"""

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from harness.comparison.simulation import simulated
from harness.contracts.steps import Plan, Step
from harness.store.store import MANIFEST, Stage, Store
from harness.system.errors import HarnessError

SIZES = ("source", "n", "scenes", "limit")
TRAITS = ("method", "benchmark", "model", *SIZES)
Traits = Mapping[str, Any]


class Forecast:
    """Seconds that steps will take: the medians of what a store's stages took, and of what this run's do."""

    def __init__(self, store: Store, steps: Iterable[Step] = ()) -> None:
        self.store = store
        self.took: dict[tuple[Any, ...], list[float]] = {}
        self.known: dict[str, Traits] = {}
        self.learn(steps)

    def learn(self, steps: Iterable[Step]) -> None:
        """Read what the store has of these steps' kinds, with their models."""
        traits = [(step.stage.kind, self._of_stage(step.stage)) for step in steps]
        models = {of["model"] for _, of in traits if "model" in of} | {""}
        self.took.clear()
        for kind in dict.fromkeys(kind for kind, _ in traits):
            for name in self.store.finished(kind):
                with suppress(HarnessError):  # a damaged manifest tells nothing
                    of = self._of_name(name)
                    if of.get("model", "") in models:
                        self._add(kind, of, of["seconds"])

    def add(self, step: Step, seconds: float) -> None:
        """A step of this run is finished."""
        self._add(step.stage.kind, self._of_stage(step.stage), seconds)

    def of(self, step: Step) -> float | None:
        """What the step will take; None where nothing of its kind has run."""
        for like in _likes(step.stage.kind, self._of_stage(step.stage)):
            if like in self.took:
                return statistics.median(self.took[like])
        return None

    def _add(self, kind: str, traits: Traits, seconds: float) -> None:
        for like in _likes(kind, traits):
            self.took.setdefault(like, []).append(seconds)

    def _of_stage(self, stage: Stage) -> Traits:
        if stage.name not in self.known:
            self.known[stage.name] = _traits(stage.identity, map(self._of_stage, stage.inputs.values()))
        return self.known[stage.name]

    def _of_name(self, name: str) -> Traits:
        if "seconds" not in self.known.get(name, {}):
            fields = self.store.manifest_of(name)
            there = [read for read in fields["inputs"].values() if (self.store.root / read / MANIFEST).is_file()]
            traits = _traits(fields["identity"], map(self._of_name, there))
            self.known[name] = {**traits, "seconds": fields["seconds"]}
        return self.known[name]


def _traits(identity: Mapping[str, Any], inputs: Iterable[Traits]) -> dict[str, Any]:
    """What a stage says of itself, and of the rest what its inputs say."""
    found: dict[str, Any] = {}
    for told in (identity, *inputs):
        found = {name: told[name] for name in TRAITS if isinstance(told.get(name), str | int)} | found
    return found


def _likes(kind: str, traits: Traits) -> Iterator[tuple[Any, ...]]:
    """What a stage is like, the closest first: also in size; by its method and benchmark; by its benchmark alone."""
    if kind == "report":  # it reads stages of all methods and benchmarks
        yield (kind,)
        return
    method, benchmark = traits.get("method", ""), traits.get("benchmark", "")
    yield kind, method, benchmark, *(traits.get(name) for name in SIZES)
    yield kind, method, benchmark
    if benchmark:
        yield kind, benchmark


def together(
    steps: Sequence[Step], took: Callable[[Step], float], workers: int, running: Sequence[tuple[Step, float]] = ()
) -> float:
    """Seconds until all steps are done by so many workers, in the order in which `schedule.Course` hands them out.

    `running`: those under way, with the seconds that they still take.
    """
    return simulated(steps, took, {"processes": workers}, running).seconds


def parts(planned: Plan) -> dict[str, list[Step]]:
    """The steps of each row of the table, and under "" those that rows share."""
    owner: dict[str, str] = {}
    for (row, _), steps in planned.trained.items():
        owner |= dict.fromkeys((step.key for step in steps), row)
    owner |= {step.key: row for (row, _), steps in planned.lenses.items() for step in steps}
    for cell in planned.cells:
        own = [cell.score, *([cell.crosscheck] if cell.crosscheck else [])]
        owner |= dict.fromkeys((*(step.key for step in own), cell.responses.key), cell.row)
    found: dict[str, list[Step]] = {row: [] for row in ("", *(cell.row for cell in planned.cells))}
    for step in planned.steps:
        found[owner.get(step.key, "")].append(step)
    return found
