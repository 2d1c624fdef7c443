"""A tree gives exactly what separate sequences give: log-probs and every gradient, in float64."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import harness.models.logps
from harness.contracts.family import Layout
from harness.contracts.records import Image
from harness.models.load import Loaded, load
from harness.models.logps import LogProbs, Policy
from harness.models.tree import Batch, Branch, Tree, pack

IMAGE, PATCHES, WORDS = 4, 4, 250


@pytest.fixture
def exact(folder: object, double: None) -> Loaded:
    made = load(str(folder), "float64")
    made.model.train()
    return made


def shape(rng: random.Random, picture: Image | None, at: str, prefix: int, branches: Sequence[int]) -> Tree:
    """A tree of random words with the image at the start or middle of its prefix."""

    def words(count: int) -> tuple[int, ...]:
        return tuple(rng.randrange(5, WORDS) for _ in range(count))

    tokens = words(prefix)
    cut = 0 if at == "start" else prefix // 2
    if picture is not None:
        tokens = tokens[:cut] + (IMAGE,) * PATCHES + tokens[cut:]
    made = tuple(Branch(words(n), (*(rng.random() < 0.7 for _ in range(n - 1)), True)) for n in branches)
    return Tree(f"{rng.random()}", picture, tokens, made, layout=Layout(4) if picture else None)


def naive(made: Loaded, trees: Sequence[Tree]) -> Tensor:
    """Every branch as its own causal sequence through the stock model; log-probs of supervised tokens."""
    found = []
    for tree in trees:
        pixels = None if tree.image is None else made.eyes.pixels(tree.image)[None].double()
        for branch in tree.branches:
            ids = torch.tensor([tree.prefix + branch.ids])
            logps = made.model(input_ids=ids, pixel_values=pixels).logits[0].log_softmax(-1)
            start = len(tree.prefix)
            found += [logps[start + i - 1, t] for i, t in enumerate(branch.ids) if branch.supervised[i]]
    return torch.stack(found)


def gradients(model: torch.nn.Module, values: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    weights = torch.linspace(0.3, 1.7, len(values), dtype=values.dtype)
    (values * weights).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def farthest(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Largest relative distance between two sets of gradients, over tensors; a missing one counts as zero."""
    worst = 0.0
    for name in one.keys() | other.keys():
        a, b = (s.get(name, torch.zeros_like(one.get(name, other.get(name)))) for s in (one, other))
        worst = max(worst, float((a - b).norm()) / max(float(a.norm()), float(b.norm()), 1e-300))
    return worst


def forest(pictures: list[Image], seed: int = 0) -> list[Tree]:
    rng = random.Random(seed)
    return [
        shape(rng, pictures[0], "start", 5, [4, 7]),
        shape(rng, pictures[1], "middle", 9, [3]),
        shape(rng, None, "absent", 6, [2, 5, 3]),
        shape(rng, pictures[2], "middle", 2, [1, 1]),
    ]


def test_trees_equal_separate_sequences(exact: Loaded, pictures: list[Image]) -> None:
    trees = forest(pictures)
    together = Policy(exact.model)(pack(trees, exact))
    grown = gradients(exact.model, together)
    apart = naive(exact, trees)
    assert together.dtype == torch.float64
    assert (together - apart).abs().max() < 1e-12
    assert farthest(grown, gradients(exact.model, apart)) < 1e-12


def test_a_plain_causal_mask_would_be_noticed(exact: Loaded, pictures: list[Image]) -> None:
    trees = forest(pictures)
    batch = pack(trees, exact)
    mutant = Policy(exact.model)(replace(batch, causal=True))
    assert (mutant - naive(exact, trees)).abs().max() > 1e-3


def test_rows_of_one_branch_need_no_mask(loaded: Loaded, pictures: list[Image]) -> None:
    """Of several lengths, so that some are padded: the bits are those that the mask gives, the gradients' too."""
    rng = random.Random(1)
    trees = [shape(rng, pictures[0], "start", 5, [4]), shape(rng, pictures[1], "middle", 9, [7])]
    batch = pack([*trees, shape(rng, None, "absent", 6, [2])], loaded)
    masked, policy = replace(batch, causal=False), Policy(loaded.model)
    assert loaded.family.masks(batch) is None and loaded.family.masks(masked) is not None
    assert torch.equal(policy(batch), policy(masked))
    without, within = gradients(loaded.model, policy(batch)), gradients(loaded.model, policy(masked))
    assert all(torch.equal(grad, within[name]) for name, grad in without.items())


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["start", "middle", "absent"]),
            st.integers(1, 12),
            st.lists(st.integers(1, 9), min_size=1, max_size=4),
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 9999),
)
def test_any_shape(exact: Loaded, pictures: list[Image], shapes: list[tuple[str, int, list[int]]], seed: int) -> None:
    rng = random.Random(seed)
    trees = [
        shape(rng, None if at == "absent" else pictures[n], at, prefix, branches)
        for n, (at, prefix, branches) in enumerate(shapes)
    ]
    with torch.no_grad():
        together, apart = Policy(exact.model)(pack(trees, exact)), naive(exact, trees)
    assert (together - apart).abs().max() < 1e-12


def change(batch: Batch, at: int) -> Batch:
    ids = batch.input_ids.clone()
    ids[0, at] = (ids[0, at] + 1) % WORDS + 5
    return replace(batch, input_ids=ids)


def test_nothing_leaks_between_branches(loaded: Loaded, pictures: list[Image]) -> None:
    tree = replace(forest(pictures)[0], branches=(Branch((9, 8, 7), (True,) * 3), Branch((6, 5, 11), (True,) * 3)))
    batch = pack([tree], loaded)
    start = len(tree.prefix)
    with torch.no_grad():
        policy = Policy(loaded.model)
        first = policy(batch)
        other = policy(change(batch, start + 3))
        prefix = policy(change(batch, start - 1))
    assert torch.equal(first[:3], other[:3])
    assert not torch.equal(first[3:], other[3:])
    assert not torch.equal(first[:3], prefix[:3])
    assert not torch.equal(first[3:], prefix[3:])


def test_padding_and_order_do_not_matter(exact: Loaded, pictures: list[Image]) -> None:
    trees = forest(pictures)
    policy = Policy(exact.model)
    with torch.no_grad():
        alone = torch.cat([policy(pack([tree], exact)) for tree in trees])
        padded = policy(pack(trees, exact))
        turned = policy(
            pack([replace(tree, branches=tree.branches[::-1]) for tree in trees[::-1]], exact._replace(pad_id=3))
        )
    batch = pack(trees, exact)
    logps = LogProbs(padded, None, batch.branch, batch.branch_tree)
    back = pack([replace(tree, branches=tree.branches[::-1]) for tree in trees[::-1]], exact._replace(pad_id=3))
    reverse = LogProbs(turned, None, back.branch, back.branch_tree)
    assert (alone - padded).abs().max() < 1e-12
    assert (logps.sequence(padded) - reverse.sequence(turned).flip(0)).abs().max() < 1e-12


def test_chunks_change_nothing(exact: Loaded, pictures: list[Image], monkeypatch: pytest.MonkeyPatch) -> None:
    batch = pack(forest(pictures), exact)
    policy = Policy(exact.model)
    whole = policy(batch)
    grown = gradients(exact.model, whole)
    monkeypatch.setattr(harness.models.logps, "CHUNK", 5)
    pieces = policy(batch)
    assert (whole - pieces).abs().max() < 1e-13
    assert farthest(grown, gradients(exact.model, pieces)) < 1e-12


def test_float32_is_close_to_float64(folder: str, double: None, pictures: list[Image]) -> None:
    trees = forest(pictures)
    single, twice = load(folder, "float32"), load(folder, "float64")
    with torch.no_grad():
        one = Policy(single.model)(pack(trees, single))
        two = Policy(twice.model)(pack(trees, twice))
    assert one.dtype == torch.float32
    assert (one - two).abs().max() < 1e-5


def test_sequence_sums_by_branch() -> None:
    logps = LogProbs(torch.tensor([1.0, 2, 4]), None, torch.tensor([0, 1, 1]), torch.tensor([0, 0]))
    assert logps.sequence(logps.policy).tolist() == [1, 6]


def test_only_the_projector_and_language_model_learn(exact: Loaded, pictures: list[Image]) -> None:
    grown = gradients(exact.model, Policy(exact.model)(pack(forest(pictures), exact)))
    assert not [name for name in grown if "vision_tower" in name]
    assert [name for name in grown if "multi_modal_projector" in name]
