"""What is made again in the backward pass is what was there: the same bits of every family, and less is kept."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.training import remade
from harness.training.dropout import Before, Dropout, placed
from tests.true_shapes import Peak

KINDS = {"in full": True, "frozen": False}


class Gated(nn.Module):
    """As Llama has it."""

    def __init__(self, learns: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gate_proj, self.up_proj, self.down_proj = nn.Linear(8, 64), nn.Linear(8, 64), nn.Linear(64, 8)
        self.act_fn = nn.SiLU()
        self.requires_grad_(learns)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))
        return made


def slopes(run: Callable[[Tensor], Tensor], *weights: Tensor) -> list[Tensor]:
    """What `run` makes of 3 x 5 states, and the gradients of its square."""
    states = torch.linspace(-2, 2, 3 * 5 * 8).view(3, 5, 8).requires_grad_()
    made = run(states)
    learning = [states, *(weight for weight in weights if weight.requires_grad)]
    return [made, *torch.autograd.grad((made**2).sum(), learning)]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


@pytest.mark.parametrize("kind", KINDS)
def test_an_mlp_is_the_same_to_the_bit(kind: str) -> None:
    mlp = Gated(KINDS[kind])
    assert same(slopes(mlp, *mlp.parameters()), slopes(partial(remade._gated, mlp), *mlp.parameters()))


def test_a_product_that_is_made_again_as_another_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: the activation is taken for the product."""
    mlp = Gated(learns=True)
    monkeypatch.setattr(torch, "mul", lambda active, up, out: out.copy_(active))
    assert not same(slopes(mlp, *mlp.parameters()), slopes(partial(remade._gated, mlp), *mlp.parameters()))


def test_of_an_mlp_gate_and_up_are_kept_and_no_more() -> None:
    mlp, states, peak = Gated(learns=True), torch.ones(3, 5, 8, requires_grad=True), Peak()
    for there in (states, *mlp.parameters()):
        peak.add(there)
    before = peak.now
    with peak:
        made = remade._gated(mlp, states)
    assert peak.now - before == (64 + 64 + 8) * 15 * made.element_size()


def test_a_second_backward_pass_finds_what_the_first_one_did() -> None:
    mlp, states = Gated(learns=True), torch.ones(1, 5, 8, requires_grad=True)
    made = remade._gated(mlp, states).sum()
    (once,) = torch.autograd.grad(made, states, retain_graph=True)
    assert torch.equal(once, torch.autograd.grad(made, states)[0])


def test_without_a_gradient_nothing_is_emptied() -> None:
    mlp, seen = Gated(learns=False), list[Any]()
    mlp.down_proj.register_forward_pre_hook(lambda part, given: seen.append(given[0]))
    with torch.no_grad():
        remade._gated(mlp, torch.ones(1, 5, 8))
    assert seen[0].untyped_storage().nbytes() == 5 * 64 * 4


class Adapter(nn.Module):
    """As peft has one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lora_dropout, self.lora_A = nn.ModuleDict({"policy": nn.Dropout(0.5)}), nn.ModuleDict()
        self.lora_A["policy"] = nn.Linear(8, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.lora_A["policy"](self.lora_dropout["policy"](x))
        return made


def test_dropout_before_an_adapter_is_the_same_and_keeps_nothing() -> None:
    model = nn.ModuleDict({"q_proj": Adapter()})
    adapter, draws = model["q_proj"], placed(model)
    weight, dropout = adapter.lora_A["policy"].weight, adapter.lora_dropout["policy"]
    assert isinstance(dropout, Before)
    draws.at(0, ids=["a", "b", "c"], length=5, device="cpu")
    apart = Dropout(0.5, dropout.name, draws)
    found, wanted = slopes(adapter, weight), slopes(lambda x: nn.functional.linear(apart(x), weight), weight)
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(found, wanted, strict=True))
    assert float((found[0] - nn.functional.linear(torch.linspace(-2, 2, 120).view(3, 5, 8), weight)).abs().max()) > 0.1
    states, peak = torch.ones(3, 5, 8, requires_grad=True), Peak()
    for there in (states, weight, draws.places, dropout._columns):
        peak.add(there)
    before = peak.now
    with peak:
        made = adapter(states)
    assert peak.now - before == made.untyped_storage().nbytes()
    adapter.eval()
    assert torch.equal(adapter(torch.ones(3, 5, 8)), nn.functional.linear(torch.ones(3, 5, 8), weight))
