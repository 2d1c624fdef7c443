"""Gradient checkpointing: decoder layers that keep their input alone and are computed again in the backward pass.

They compute what they computed: under the adapter that was active then (a backward pass comes after the forward passes
of all roles), with dropout drawn by record and place (`harness.training.dropout`), so no number depends on it.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from harness.models.narrow import Narrow
from harness.models.roles import Roles
from harness.training import remade


def layers_of(roles: Roles) -> list[nn.Module]:
    """The decoder's layers that can be computed again; transformers marks its layers so."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    decoder: Any = roles.policy.family.decoder(roles.policy.plain)
    return [part for part in decoder.modules() if isinstance(part, GradientCheckpointingLayer)]


def again(roles: Roles, count: int) -> int:
    """Let the decoder's first `count` layers be computed again, of its others elementwise operations alone; returns how
    many are.
    """
    found = layers_of(roles)
    remade.spared(roles, whole=found[:count])
    how = partial(checkpoint, use_reentrant=False, preserve_rng_state=False, context_fn=partial(_contexts, roles))
    for number, layer in enumerate(found):  # set here, since what transformers calls this changes with its versions
        layer.gradient_checkpointing = number < count  # type: ignore[assignment]
        layer._gradient_checkpointing_func = how  # type: ignore[assignment]
    return min(count, len(found))


def _contexts(roles: Roles) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What a layer's forward pass runs in now, and again later."""
    return nullcontext(), _as_then(roles, roles.active, roles.policy.narrow)


@contextmanager
def _as_then(roles: Roles, active: str, narrow: Narrow) -> Iterator[None]:
    roles.activate(active)  # and stays: the next layer of the backward pass wants it too, a forward pass says its own
    with narrow.at_work():
        yield
