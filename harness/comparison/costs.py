"""Seconds, replies and bytes of each step of a plan: measured in this store, or else by formula."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.comparison.bill import asked_by
from harness.comparison.devices import Device
from harness.comparison.forecast import Forecast
from harness.comparison.sizing import SIZED, needs, pictures_of
from harness.contracts.settings import Runtime
from harness.contracts.steps import Plan, Step
from harness.stages.build import Build
from harness.stages.respond import Respond
from harness.store.store import Store

RESPOND: Mapping[str, type[Build | Respond]] = {kind.kind(): kind for kind in (Build, Respond)}  # to a split
REPLY_S = 5.0  # of a judge or writer until it has replied, assumed


@dataclass(frozen=True)
class Cost:
    """What a step takes. `known`: whether its time is measured or estimated, "" for neither."""

    seconds: float
    known: str
    replies: int = 0
    written: int = 0


def costs_of(
    planned: Plan, steps: Sequence[Step], store: Store, runtime: Runtime, device: Device | None, measured: bool = True
) -> Mapping[str, Cost]:
    """Of each step, by its key: as such stages took in the store (`measured`), else by formula on a device.

    A stage without a model and without a judge is taken to need no time where nothing is measured.
    """
    forecast, kinds = Forecast(store, steps), {kind.kind() for kind in SIZED}
    sized = [step for step in steps if device and step.stage.kind in kinds and step.resources.gpus]
    needed = needs(planned, sized, runtime, device, pictures_of(planned)) if device else ()
    need = dict(zip((step.key for step in sized), needed, strict=True))
    replies, found, shelved = asked_by(planned, steps, store, runtime), dict[str, Cost](), set[str]()
    for step in steps:
        took, asks = forecast.of(step) if measured else None, replies.get(step.key, 0)
        waits = asks * REPLY_S / runtime.ask_concurrency
        if took is not None:
            found[step.key] = Cost(took, "measured", asks)
        elif step.key in need:
            written = need[step.key].disk
            if written and (kind := RESPOND.get(step.stage.kind)):  # features of pictures, which lie there once
                split = kind.Reads.of(step).split.key
                written *= split not in shelved
                shelved.add(split)
            found[step.key] = Cost(need[step.key].seconds + waits, "estimated", asks, written)
        else:
            found[step.key] = Cost(waits, "estimated" if asks else "", asks)
    return found
