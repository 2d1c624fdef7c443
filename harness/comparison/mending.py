"""Stages whose files are not what was stored, or whose adapters belong to a model that is gone: taken out of the store
before they are used, and made again.

What was made from a damaged stage stays, if the stage comes out as it was; else it is made again as well.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.contracts.steps import Plan, Step
from harness.stages._model import OWN
from harness.stages.train import Train
from harness.store.store import Store
from harness.system.errors import HarnessError

MEASURED = {"profile.json", "summary.json", "log.jsonl"}  # times and memory: never twice the same


@dataclass(frozen=True)
class Damaged:
    """A stage that was taken out: what was wrong, and the digests its files had when they were stored."""

    step: Step
    damage: tuple[str, ...]
    stored: dict[str, str]

    def __str__(self) -> str:
        """One sentence for the terminal."""
        more = f" and {len(self.damage) - 3} more" if self.damage[3:] else ""
        return f"{self.step.title}: {'; '.join(self.damage[:3])}{more}; the stage was made again"


def take_out(planned: Plan, store: Store) -> list[Damaged]:
    """The finished stages of a plan that are damaged or add to one that is gone, taken out of the store."""
    taken = []
    for step in planned.steps:
        if store.done(step.stage) and (damage := store.damage(step.stage.name) or _adrift(step, store)):
            taken.append(Damaged(step, tuple(damage), _digests(store, step)))
            store.discard(step.stage.name)
    return taken


def _adrift(step: Step, store: Store) -> list[str]:
    """What a training's adapter belongs to, if that is gone: alone it is no model."""
    if step.stage.kind != Train.kind() or not (store.path(step.stage) / OWN).is_dir():
        return []
    before = Train.Reads.of(step).policy
    return [f"{before.name} is gone, to whose model it adds"] if before and not store.done(before) else []


def outdated(planned: Plan, store: Store, mended: Sequence[Damaged]) -> list[Step]:
    """The steps made from stages that came out otherwise than they had been; taken out of the store."""
    there = [damaged for damaged in mended if store.done(damaged.step.stage)]  # one that could not be made: as it was
    changed = {damaged.step.key for damaged in there if _digests(store, damaged.step) != damaged.stored}
    steps = []
    for step in planned.steps:
        if step.key not in changed and any(stage.key in changed for stage in step.reads.values()):
            changed.add(step.key)
            steps.append(step)
            if store.done(step.stage):
                store.discard(step.stage.name)
    return steps


def _digests(store: Store, step: Step) -> dict[str, str]:
    """Name -> digest of a stage's files as stored, without what is measured; empty where nobody knows."""
    try:
        return dict(_known(store, step))
    except HarnessError:
        return {}


def _known(store: Store, step: Step) -> Iterator[tuple[str, str]]:
    for name, known in store.manifest(step.stage)["files"].items():
        if name not in MEASURED:
            yield name, known["sha256"]
