"""Layers that are computed again give the bits that they gave, whatever is trained, and keep less meanwhile."""

from pathlib import Path

import pytest
import torch

from harness.contracts.method import Lesson, Role
from harness.contracts.records import Image
from harness.contracts.settings import Lora, Runtime
from harness.models.load import load
from harness.models.reference import trees
from harness.models.roles import Roles, assemble
from harness.models.tree import Batch, pack
from harness.training import dropout, recompute
from harness.training.engine import train
from tests.trainings import conversations, lines, pairs, same

LORA = Lora(r=4, lora_alpha=8, lora_dropout=0.2)
LESSONS = {
    "everything": (None, Lesson()),
    "adapters": (LORA, Lesson()),
    "policy and critic": (LORA, Lesson((Role.POLICY, Role.CRITIC), ("policy", "value"), continues=True)),
    "a head on the policy": (
        LORA,
        Lesson((Role.POLICY, Role.CRITIC), ("policy", "value"), continues=True, shared_trunk=True),
    ),
    "reward": (LORA, Lesson((Role.REWARD,), ("reward",), unit="record")),
}


@pytest.fixture(params=LESSONS)
def taught(request: pytest.FixtureRequest, folder: Path, pictures: list[Image]) -> tuple[Roles, Batch, Lesson]:
    """Roles that have left the start, a batch with dropout drawn for it, and the lesson."""
    lora, lesson = LESSONS[request.param]
    loaded = load(folder)
    roles = assemble(loaded.model, lora, 0, lesson, {})
    draws = dropout.placed(roles.train())
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in roles.parameters():
            weight += 0.1 * torch.randn_like(weight) * weight.requires_grad
    records = pairs(pictures)[:3] if lesson.unit == "record" else conversations(pictures)[:3]
    batch = pack(trees(records, loaded), loaded)
    draws.at(3, 0, 1, ids=batch.ids, length=batch.input_ids.shape[1], device="cpu", read=batch.read)
    return roles, batch, lesson


def learnt(roles: Roles, batch: Batch, lesson: Lesson) -> tuple[dict[str, torch.Tensor], int]:
    """Gradients of a loss of all columns, and the bytes kept for them."""
    own = {weight.untyped_storage()._cdata for weight in roles.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def pack(value: torch.Tensor) -> torch.Tensor:
        if (where := value.untyped_storage()._cdata) not in own:
            kept.setdefault(where, value)
        return value

    roles.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        loss = sum((column**2).sum() for column in roles(batch, lesson.columns).values())
    assert isinstance(loss, torch.Tensor)
    bytes_kept = sum(value.untyped_storage().nbytes() for value in kept.values())  # some were emptied meanwhile
    kept.clear()
    loss.backward()
    grads = {name: weight.grad.clone() for name, weight in roles.named_parameters() if weight.grad is not None}
    return grads, bytes_kept


def alike(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


MUTANTS = {
    "the adapter that is active now": (recompute, "_as_then", lambda roles, active, narrow: narrow.at_work()),
    "dropout of a stream": (dropout, "keep", lambda words, p: torch.rand(words.shape) >= p),
}


@pytest.mark.parametrize("taught", ["policy and critic"], indirect=True)
@pytest.mark.parametrize("mutant", MUTANTS)
def test_what_was_then_is_put_back(
    taught: tuple[Roles, Batch, Lesson], monkeypatch: pytest.MonkeyPatch, mutant: str
) -> None:
    roles, batch, lesson = taught
    monkeypatch.setattr(*MUTANTS[mutant])
    torch.manual_seed(1)
    plain, _ = learnt(roles, batch, lesson)
    recompute.again(roles, 2)
    torch.manual_seed(1)
    assert not alike(plain, learnt(roles, batch, lesson)[0])


def test_gradients_are_the_same_bits(taught: tuple[Roles, Batch, Lesson]) -> None:
    roles, batch, lesson = taught
    plain, whole = learnt(roles, batch, lesson)
    assert recompute.again(roles, 1) == 1
    some, fewer = learnt(roles, batch, lesson)
    assert recompute.again(roles, 99) == 2
    none, fewest = learnt(roles, batch, lesson)
    assert recompute.again(roles, 0) == 0
    elementwise, most = learnt(roles, batch, lesson)
    assert alike(plain, some) and alike(plain, none) and alike(plain, elementwise)
    assert fewest < fewer < most < whole


@pytest.mark.parametrize("stage", [0, 2, pytest.param(3, marks=pytest.mark.heavy)])
@pytest.mark.parametrize("lora", [None, LORA])
def test_a_training_is_the_same_bits(job, stage: int, lora: Lora | None) -> None:  # type: ignore[no-untyped-def]
    """At every ZeRO stage, accumulated over micro-batches, in full and with adapters that drop out."""
    fields = {"zero_stage": stage, "lora": lora, "per_device_train_batch_size": 3, "num_train_epochs": 1}
    plain, again = (
        job("plain", gradient_checkpointing="off", **fields),
        job("again", gradient_checkpointing="on", **fields),
    )
    train(plain)
    train(again)
    assert lines(plain) == lines(again)
    assert same(plain, again)


def test_a_switch_is_a_word_or_a_number() -> None:
    """YAML reads on and off as true and false."""
    for given, meant in (("on", "on"), (True, "on"), (False, "off"), (0, 0), (7, 7), ("auto", "auto")):
        told = Runtime.model_validate({"gradient_checkpointing": given}).gradient_checkpointing
        assert told == meant and type(told) is type(meant)
    for wrong in (-1, "some", 1.5):
        with pytest.raises(ValueError, match="gradient_checkpointing"):
            Runtime.model_validate({"gradient_checkpointing": wrong})
