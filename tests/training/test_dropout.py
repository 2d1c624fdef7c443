"""Dropout is drawn by seed, step, record, place and module, and by nothing else."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.system.errors import UsageError
from harness.training.dropout import FIRST, SECOND, Draws, Dropout, keep, placed

MOMENT = (3, 0, 1)  # seed, round, step
OTHERS = [{"moment": (4, 0, 1)}, {"moment": (3, 1, 1)}, {"moment": (3, 0, 2)}, {"name": "n"}]


def zeroed(
    ids: list[str], length: int = 40, moment: tuple[int, ...] = MOMENT, name: str = "m", p: float = 0.25
) -> Tensor:
    """(records, length, 64): where the dropout of module `name` zeroes."""
    draws = Draws()
    draws.at(*moment, ids=ids, length=length, device="cpu")
    return Dropout(p, name, draws)(torch.ones(len(ids), length, 64)) == 0


def test_a_record_s_mask_is_the_same_wherever_it_lies() -> None:
    alone = zeroed(["b"], length=20)
    together = zeroed(["a", "b", "c"])
    assert torch.equal(alone[0], together[1, :20])


@pytest.mark.parametrize(
    "changed", [{"moment": (4, 0, 1)}, {"moment": (3, 1, 1)}, {"moment": (3, 0, 2)}, {"name": "n"}]
)
def test_another_seed_round_step_or_module_draws_anew(changed: dict[str, object]) -> None:
    one, other = zeroed(["a"]), zeroed(["a"], **changed)  # type: ignore[arg-type]
    both = float((one & other).float().mean())
    assert abs(both - 0.25**2) < 4 * (0.0625 * 0.9375 / one.numel()) ** 0.5


@pytest.mark.parametrize("p", [0.05, 0.5, 0.9])
def test_the_share_is_right_everywhere(p: float) -> None:
    """Over all values, in each place, in each column, and in pairs of neighbours."""
    mask = zeroed([f"r{n}" for n in range(50)], p=p).float()
    for dims in ((0, 1, 2), (0, 2), (0, 1)):
        share, count = mask.mean(dims), mask.numel() / mask.mean(dims).numel()
        assert float((share - p).abs().max()) < 5 * (p * (1 - p) / count) ** 0.5
    for one, other in ((mask[:, 1:], mask[:, :-1]), (mask[1:], mask[:-1]), (mask[..., 1:], mask[..., :-1])):
        assert abs(float((one * other).mean()) - p * p) < 5 * (p * p * (1 - p * p) / one.numel()) ** 0.5


def test_the_hash_is_that_of_unsigned_arithmetic() -> None:
    words = np.random.default_rng(0).integers(0, 1 << 32, 10_000, dtype=np.uint32)
    mixed = words * np.uint32(FIRST)
    mixed = (mixed ^ (mixed >> np.uint32(15))) * np.uint32(SECOND % (1 << 32))
    expected = mixed.view(np.int32) >= -(1 << 30)
    assert np.array_equal(keep(torch.from_numpy(words.view(np.int32).copy()), 0.25).numpy(), expected)


def test_what_is_kept_is_scaled_and_so_is_its_gradient() -> None:
    draws = Draws()
    draws.at(*MOMENT, ids=["a"], length=5, device="cpu")
    values = torch.ones(1, 5, 64, requires_grad=True)
    dropped = Dropout(0.25, "m", draws)(values)
    dropped.sum().backward()
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert torch.equal(values.grad, dropped.detach())  # type: ignore[arg-type]


def test_nothing_is_dropped_when_it_is_off_or_does_not_train() -> None:
    draws, values = Draws(), torch.ones(1, 5, 8)
    module = Dropout(0.5, "m", draws)
    assert module(values) is values
    draws.at(*MOMENT, ids=["a"], length=5, device="cpu")
    assert module.eval()(values) is values
    assert module.train()(values) is not values
    draws.off()
    assert module(values) is values


def test_every_dropout_of_a_model_is_replaced() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1), nn.Sequential(nn.Dropout(0.2), nn.Dropout(0.0)))
    draws = placed(model)
    made = [module for module in model.modules() if isinstance(module, Dropout)]
    assert [(module.name, module.p) for module in made] == [("1", 0.1), ("2.0", 0.2)]
    assert all(module.draws is draws for module in made)


def test_what_has_no_record_or_place_is_refused_by_name() -> None:
    draws = Draws()
    draws.at(*MOMENT, ids=["a"], length=5, device="cpu")
    with pytest.raises(UsageError, match=r"layers\.0\.dropout drops out values of shape \(5, 8\)"):
        Dropout(0.5, "layers.0.dropout", draws)(torch.ones(5, 8))
