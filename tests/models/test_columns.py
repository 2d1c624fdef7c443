"""Figures of the next-token distribution against their definition on full logits, in float64."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import harness.models.logps
from harness.contracts.records import Conversation, Image, Pair, Turn
from harness.models.load import Loaded, load
from harness.models.logps import OF_LOGITS, Policy
from harness.models.tree import Batch, Tree, pack, tree

KL = ("kl_forward", "kl_reverse")


@pytest.fixture
def policy(folder: object, double: None) -> Loaded:
    return load(str(folder), "float64")


@pytest.fixture
def reference(folder: object, double: None) -> Loaded:
    """The same model with other weights, its head's among them; not the tower's, which never learns."""
    made = load(str(folder), "float64")
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in made.model.named_parameters():
            weight += 0.05 * torch.randn_like(weight) * ("vision_tower" not in name)
    return made


@pytest.fixture
def trees(policy: Loaded, pictures: list[Image]) -> list[Tree]:
    """Pairs and a conversation without an image."""
    records = [Pair(f"p{n}", pictures[n], "what is there", "a dog" + " red" * n, "no cat") for n in range(3)]
    talk = Conversation("c", None, ((Turn("is there a ball", "yes"), Turn("what", "a red ball")),))
    return [tree(record, policy) for record in [*records, talk]]


def measured(policy: Loaded, reference: Loaded, trees: Sequence[Tree]) -> dict[str, Tensor]:
    """All columns, by the code under test."""
    batch = pack(trees, policy)
    return Policy(policy.model).measure(Policy(policy.model).hidden(batch), batch, OF_LOGITS, seen(reference, batch))


def seen(reference: Loaded, batch: Batch) -> tuple[nn.Module, Tensor]:
    """The reference's head and hidden states."""
    with torch.no_grad():
        return reference.model.lm_head, Policy(reference.model).hidden(batch)


def full(made: Loaded, trees: Sequence[Tree]) -> Tensor:
    """(N, words) probabilities at the supervised tokens: every branch its own sequence, by the stock model."""
    found = []
    for one in trees:
        pixels = None if one.image is None else made.eyes.pixels(one.image)[None].double()
        for branch in one.branches:
            logits = made.model(input_ids=torch.tensor([one.prefix + branch.ids]), pixel_values=pixels).logits[0]
            places = [len(one.prefix) + at - 1 for at, wanted in enumerate(branch.supervised) if wanted]
            found.append(logits[places].softmax(-1))
    return torch.cat(found)


@torch.no_grad()
def test_columns_are_what_they_say(policy: Loaded, reference: Loaded, trees: list[Tree]) -> None:
    """The competitor is the first of the ranking, or the second where the first is the label."""
    found = measured(policy, reference, trees)
    p, q, labels = full(policy, trees), full(reference, trees), pack(trees, policy).labels
    first, second = p.topk(2).indices.unbind(-1)
    rival = torch.where(first == labels, second, first)
    expected = {
        "policy": p.gather(1, labels[:, None])[:, 0].log(),
        "competitor": p.gather(1, rival[:, None])[:, 0].log(),
        "kl_forward": (q * (q / p).log()).sum(-1),
        "kl_reverse": (p * (p / q).log()).sum(-1),
    }
    for name, values in expected.items():
        assert (found[name] - values).abs().max() < 1e-12, name
    assert (expected["kl_forward"] - expected["kl_reverse"]).abs().min() > 1e-6  # a swap would be noticed
    assert all(float(found[name].min()) > 0 for name in KL)


@torch.no_grad()
def test_the_competitor_of_a_likeliest_label_is_the_second(policy: Loaded, trees: list[Tree]) -> None:
    """A label that is the likeliest token must not be its own competitor."""
    p, batch = full(policy, trees), pack(trees, policy)
    top = replace(batch, labels=p.argmax(-1))
    hidden = Policy(policy.model).hidden(batch)
    found = Policy(policy.model).measure(hidden, top, ("policy", "competitor"))
    assert (found["competitor"] - p.topk(2).values[:, 1].log()).abs().max() < 1e-12
    assert (found["competitor"] < found["policy"]).all()


def test_no_divergence_from_itself(policy: Loaded, trees: list[Tree]) -> None:
    """Neither a value nor a gradient."""
    found = measured(policy, policy, trees)
    total = found["kl_forward"].sum() + found["kl_reverse"].sum()
    total.backward()
    assert all(float(found[name].abs().max()) < 1e-14 for name in KL)
    assert max(float(p.grad.abs().max()) for p in policy.model.parameters() if p.grad is not None) < 1e-12


@pytest.mark.parametrize("name", OF_LOGITS)
def test_chunks_change_no_column_and_no_gradient(
    policy: Loaded, reference: Loaded, trees: list[Tree], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def run() -> tuple[Tensor, list[Tensor]]:
        values = measured(policy, reference, trees)[name]
        weights = [weight for weight in policy.model.parameters() if weight.requires_grad]
        return values, list(torch.autograd.grad((values * torch.linspace(0.3, 1.7, len(values))).sum(), weights))

    values, grown = run()
    monkeypatch.setattr(harness.models.logps, "CHUNK", 5)
    pieces, again = run()
    assert len(values) % 5
    assert (values - pieces).abs().max() < 1e-13
    assert all((a - b).norm() <= 1e-12 * max(1.0, float(a.norm())) for a, b in zip(grown, again, strict=True))
