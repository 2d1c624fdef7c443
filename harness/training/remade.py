"""What elementwise operations make is made again in the backward pass instead of kept; no product of matrices is.

Of a norm its input is kept, in the dtype of the weights and not in float32; of an MLP what its first two products give,
and neither the activation nor what becomes of it. They are the same operations on the same values: no bit differs.
"""

from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from harness.models.roles import Roles


def spared(roles: Roles, whole: list[nn.Module]) -> None:
    """Let the decoder's norms and MLPs keep less, but for those inside of `whole` layers: these keep all that they did.

    Layers that are computed again as a whole keep nothing of them anyway.
    """
    family, plain = roles.policy.family, roles.policy.plain
    again = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
    inside = {part for layer in whole for part in layer.modules()}
    gated = set(family.gated(plain))
    for part in family.decoder(plain).modules():
        norm = type(part).__name__.endswith("Norm")
        if norm or part in gated:
            vars(part).pop("forward", None)  # of an earlier call
            if part not in inside:
                part.forward = partial(again, part.forward) if norm else partial(_gated, part)


def _gated(mlp: Any, states: Tensor) -> Tensor:
    """An MLP's forward pass; memory of what is made again is given back when it has been read."""
    if not torch.is_grad_enabled():
        return cast(Tensor, type(mlp).forward(mlp, states))
    gate, up = mlp.gate_proj(states), mlp.up_proj(states)
    active = mlp.act_fn(gate)
    product = active * up
    made: Tensor = mlp.down_proj(product)
    if gate.requires_grad and up.requires_grad:  # else not both are kept in any case
        held = [gate.data, up.data, active.data, product.data]  # data: to fill them again is no change to autograd
        size = active.untyped_storage().nbytes()
        refill = partial(_refilled, mlp.act_fn, held, size)
        made.register_hook(refill)  # type: ignore[no-untyped-call]  # it runs before a backward pass reads them
        for emptied in (active, product):
            emptied.untyped_storage().resize_(0)
    return made


@torch.no_grad()
def _refilled(act_fn: Any, held: list[Tensor], size: int, slope: Tensor) -> None:
    if not held:
        return
    gate, up, active, product = held
    held.clear()  # from here on autograd alone holds them, each as long as it has to
    active.untyped_storage().resize_(size)
    active.copy_(act_fn(gate))
    product.untyped_storage().resize_(size)
    torch.mul(active, up, out=product)
