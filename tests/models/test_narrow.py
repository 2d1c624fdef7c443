"""The last layer at the places that are read: the same log-probs and gradients as everywhere, dropout's too."""

from typing import Any

import pytest
import torch
from torch import Tensor

from harness.contracts.method import Lesson
from harness.contracts.records import Image, Pair
from harness.contracts.settings import Lora
from harness.families.llava import Llava
from harness.models.load import Loaded, load
from harness.models.logps import Policy
from harness.models.roles import Roles, assemble
from harness.models.tree import Batch, pack, tree
from harness.training import dropout


@pytest.fixture
def exact(folder: object, double: None) -> Loaded:
    return load(str(folder), "float64")


def batch_of(loaded: Loaded, pictures: list[Image]) -> Batch:
    pairs = [Pair(f"p{n}", picture, "what is there", "a dog" + " red" * n, "no") for n, picture in enumerate(pictures)]
    return pack([tree(pair, loaded) for pair in pairs], loaded)


def adapted(loaded: Loaded, batch: Batch) -> Roles:
    """Adapters that have left the start and drop a third of their inputs."""
    roles = assemble(loaded.model, Lora(r=4, lora_alpha=8, lora_dropout=1 / 3), 0, Lesson(), {}).to(torch.float64)
    draws = dropout.placed(roles.train())
    draws.at(3, 0, 1, ids=batch.ids, length=batch.input_ids.shape[1], device="cpu", read=batch.read)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in roles.parameters():
            weight += 0.1 * torch.randn_like(weight) * weight.requires_grad
    return roles


def learnt(roles: Roles, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Log-probs, and every gradient of a weighted sum of them."""
    roles.zero_grad()
    logps = roles(batch, ("policy",))["policy"]
    (logps * torch.linspace(0.3, 1.7, len(logps), dtype=logps.dtype)).sum().backward()
    return logps.detach(), {n: w.grad.clone() for n, w in roles.named_parameters() if w.grad is not None}


def test_log_probs_and_gradients_are_those_of_the_whole_layer(
    exact: Loaded, pictures: list[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = batch_of(exact, pictures)
    roles = adapted(exact, batch)
    few, slopes = learnt(roles, batch)
    monkeypatch.setattr(Llava, "placewise", lambda self, model: [])
    whole, others = learnt(roles, batch)
    assert 2 * len(batch.read) < batch.input_ids.numel() and slopes.keys() == others.keys()
    assert float((few - whole).abs().max()) < 1e-13
    assert all(float((slope - others[name]).abs().max()) < 1e-13 for name, slope in slopes.items())


def keys_too(self: Llava, model: Any, placewise: Any = Llava.placewise) -> Any:
    """A mutant: keys are seen from other places."""
    return [*placewise(self, model), self.decoder(model).layers[-1].self_attn.k_proj]


def a_layer_before(self: Llava, model: Any) -> Any:
    """A mutant: what a layer before the last makes of a place is seen from others."""
    return [self.decoder(model).layers[0].mlp]


@pytest.mark.parametrize("mutant", [keys_too, a_layer_before])
def test_parts_that_reach_other_places_are_noticed(
    loaded: Loaded, pictures: list[Image], monkeypatch: pytest.MonkeyPatch, mutant: Any
) -> None:
    batch, policy = batch_of(loaded, pictures), Policy(loaded.model)
    right = policy(batch)
    monkeypatch.setattr(Llava, "placewise", mutant)
    assert float((policy(batch) - right).abs().max()) > 1e-3


def test_read_is_each_place_whose_state_is_read_once(loaded: Loaded, pictures: list[Image]) -> None:
    batch = batch_of(loaded, pictures)
    assert batch.read.tolist() == sorted({*batch.source.tolist(), *batch.last.tolist()})
    answers = [("a dog", "no"), ("no", "a red dog")]
    pairs = [tree(Pair(f"p{n}", None, "what", *told), loaded) for n, told in enumerate(answers)]
    assert len(pack(pairs, loaded).read) == sum(one.read for one in pairs)


def test_nothing_is_left_on_the_model(loaded: Loaded, pictures: list[Image]) -> None:
    """It may be asked to respond next."""
    batch, policy = batch_of(loaded, pictures), Policy(loaded.model)
    policy(batch)  # transformers leaves hooks of its own, the first time

    def hooks() -> int:
        return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in loaded.model.modules())

    before = hooks()
    with pytest.raises(ZeroDivisionError), policy.narrow.at_work():
        assert hooks() == before + 2 * len(policy.narrow.parts) > before
        raise ZeroDivisionError
    policy(batch)
    assert hooks() == before
