"""Refuses a comparison whose backend is not the model that was trained."""

import json
from collections.abc import Mapping

from harness.contracts import plugins
from harness.contracts.settings import Dtype, Testbed
from harness.contracts.steps import Plan, Step
from harness.store.store import Store
from harness.system.errors import HarnessError
from reports.manifest import Agreed

USUAL = "transformers"
PROMPTS, TOKENS = 16, 64  # items of each benchmark that are asked, tokens of a response
BOUNDS: Mapping[Dtype, float] = {"float64": 1e-6, "float32": 1e-2, "bfloat16": 0.5}
"""In nats, the most that log-probs of one token may differ: some hundred times what rounding does, and a fraction of
what a wrong weight, a missing adapter or another picture does."""


def other(testbed: Testbed) -> bool:
    """Whether another backend than transformers responds."""
    return plugins.called(testbed.generation.backend) != USUAL


def found(step: Step, store: Store) -> Agreed:
    """What a finished stage of it found."""
    told = json.loads((store.sound(step.stage.name) / "parity.json").read_text(encoding="utf-8"))
    identity = step.stage.identity
    return Agreed(**told, backend=identity["backend"]["name"], bound=BOUNDS[identity["dtype"]])


def insist(told: Agreed) -> None:
    """HarnessError where the difference is above the bound, or would not be for adapters that are left out."""
    if told.largest > told.bound:
        raise HarnessError(
            f"{told.backend} and transformers are not the same model here: the log-prob of one token differs by "
            f"{told.largest:.3g} nats (at most {told.bound:g} is rounding), and {told.same} of {told.prompts} "
            f"responses are the same (first difference: {told.first or 'none'}). Rows would be answered by a model "
            "that nobody trained: use --set generation.backend=transformers, or see docs/vllm.md."
        )
    if blind(told):
        raise HarnessError(
            f"a random adapter moves no log-prob by more than {told.adapted:.3g} nats here, so {told.backend} could "
            "leave adapters out unseen; have it merge them (docs/vllm.md)."
        )


def blind(told: Agreed) -> bool:
    """Whether a backend that leaves adapters out would be taken for one that does not."""
    return told.adapted is not None and told.adapted <= told.bound


def of(planned: Plan, store: Store) -> Agreed | None:
    """What the plan's stage found; None where there is none, or it is not made."""
    return found(planned.parity, store) if planned.parity and store.done(planned.parity.stage) else None
