"""Policy, reference, reward model and critic on one backbone: each its own, none in another's way."""

from pathlib import Path

import pytest
import torch

from harness.contracts.method import Lesson, Role
from harness.contracts.records import Image, Pair
from harness.contracts.settings import Lora
from harness.models.load import load
from harness.models.logps import Policy
from harness.models.roles import Roles, assemble
from harness.models.tree import Batch, pack, tree

LORA = Lora(r=4, lora_alpha=8)
PPO = Lesson((Role.POLICY, Role.CRITIC), ("policy", "value"), continues=True)
REWARD = Lesson((Role.REWARD,), ("reward",), unit="record", continues=True)
ALL = ("policy", "value", "reward")


@pytest.fixture
def batch(folder: Path, pictures: list[Image]) -> Batch:
    loaded = load(folder)
    pairs = [Pair(f"p{n}", pictures[n], "what is there", "a dog" + " red" * n, "no cat") for n in range(3)]
    return pack([tree(pair, loaded) for pair in pairs], loaded)


def moved(roles: Roles, *names: Role) -> Roles:
    """The roles with the adapters and heads of `names` somewhere else than where they started."""
    torch.manual_seed(7)
    for name, weight in roles.named_parameters():
        if any(f".{role}." in name for role in names) and "lora_A" not in name:
            weight.data += 0.3 * torch.randn_like(weight)
    return roles


def everyone(folder: Path, folders: dict[Role, Path] | None = None) -> Roles:
    return assemble(load(folder).model, LORA, 0, PPO, folders or {}, [Role.REWARD])


def test_a_reward_has_one_value_per_branch_and_the_others_one_per_token(folder: Path, batch: Batch) -> None:
    found = everyone(folder)(batch, ALL)
    assert {name: len(values) for name, values in found.items()} == {
        "policy": len(batch.labels),
        "value": len(batch.labels),
        "reward": len(batch.branch_tree),
    }


def test_a_new_policy_is_the_base_and_a_new_critic_says_zero(folder: Path, batch: Batch) -> None:
    found = everyone(folder)(batch, ALL)
    assert torch.equal(found["policy"], Policy(load(folder).model)(batch))
    assert found["value"].abs().max() == 0


@pytest.mark.parametrize("other", [Role.POLICY, Role.REWARD, Role.CRITIC])
def test_moving_one_role_moves_no_other(folder: Path, batch: Batch, other: Role) -> None:
    column = {Role.POLICY: "policy", Role.REWARD: "reward", Role.CRITIC: "value"}[other]
    before, after = everyone(folder)(batch, ALL), moved(everyone(folder), other)(batch, ALL)
    assert [name for name in ALL if not torch.equal(before[name], after[name])] == [column]


def test_without_adapters_there_is_the_reference_whatever_was_learnt(folder: Path, batch: Batch) -> None:
    roles = moved(everyone(folder), Role.POLICY, Role.CRITIC)
    _, hidden = roles.without_adapters(batch)
    known = roles.policy.measure(hidden, batch, ("policy",))["policy"]
    assert torch.equal(known, Policy(load(folder).model)(batch))
    assert not torch.equal(known, roles(batch, ("policy",))["policy"])


def test_only_what_the_lesson_trains_learns_however_often_roles_change(folder: Path, batch: Batch) -> None:
    roles = everyone(folder)
    roles.without_adapters(batch)
    sum(values.sum() for values in roles(batch, ALL).values()).backward()  # type: ignore[union-attr]
    learnt = {name for name, weight in roles.named_parameters() if weight.grad is not None}
    assert learnt
    assert all(".policy." in name or ".critic." in name for name in learnt)
    assert {name for name, weight in roles.named_parameters() if weight.requires_grad} == learnt


def test_the_value_head_of_a_shared_trunk_teaches_the_policy(folder: Path, batch: Batch) -> None:
    shared = Lesson(PPO.trains, PPO.columns, continues=True, shared_trunk=True)
    roles = moved(assemble(load(folder).model, LORA, 0, shared, {}), Role.CRITIC)
    roles(batch, ("policy", "value"))["value"].sum().backward()
    assert not [name for name, _ in roles.named_parameters() if ".lora_A.critic." in name]
    assert any(w.grad is not None and ".lora_B.policy." in name for name, w in roles.named_parameters())


def test_a_critic_starts_as_the_saved_reward_model_with_a_head_of_zeros(
    folder: Path, batch: Batch, tmp_path: Path
) -> None:
    trained = moved(assemble(load(folder).model, LORA, 0, REWARD, {}), Role.REWARD)
    trained.save(Role.REWARD, tmp_path / "reward")
    roles = everyone(folder, {Role.REWARD: tmp_path / "reward"})
    weights = dict(roles.named_parameters())
    adapters = [name for name in weights if ".lora_B.critic." in name]
    assert adapters
    assert all(torch.equal(weights[n], weights[n.replace(".critic.", ".reward.")]) for n in adapters)
    assert roles(batch, ("value",))["value"].abs().max() == 0
    assert torch.equal(roles(batch, ("reward",))["reward"], trained(batch, ("reward",))["reward"])


def test_a_saved_role_goes_on_where_it_was(folder: Path, batch: Batch, tmp_path: Path) -> None:
    roles = moved(everyone(folder), Role.POLICY, Role.CRITIC)
    for role in (Role.POLICY, Role.CRITIC):
        roles.save(role, tmp_path / role)
    again = assemble(load(folder).model, LORA, 5, PPO, {role: tmp_path / role for role in (Role.POLICY, Role.CRITIC)})
    before, after = roles(batch, ("policy", "value")), again(batch, ("policy", "value"))
    assert torch.equal(before["policy"], after["policy"])
    assert torch.equal(before["value"], after["value"])
