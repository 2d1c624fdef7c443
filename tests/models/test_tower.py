"""Of a vision tower only the layers are run behind which something is read, and what is read are the same bits."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPVisionConfig, CLIPVisionModel, LlavaConfig, SiglipVisionConfig, SiglipVisionModel

from harness.families._shared import behind, depths

LAYERS = 5
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}
CLIP = CLIPVisionConfig(num_hidden_layers=LAYERS, **SIZES)
READ = [[4], [3], [0], [1, 3], [3, 1], [5], [2, 5]]


@pytest.fixture(params=[(CLIPVisionModel, CLIP), (SiglipVisionModel, SiglipVisionConfig(num_hidden_layers=5, **SIZES))],
                ids=["clip", "siglip"])  # fmt: skip
def tower(request: pytest.FixtureRequest) -> Iterator[Any]:
    """In evaluation; no gradient."""
    kind, config = request.param
    torch.manual_seed(0)
    with torch.no_grad():
        yield kind(config).eval()


PIXELS = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def whole(tower: Any) -> tuple[Tensor, ...]:
    """Of a tower that is run to its end."""
    states: tuple[Tensor, ...] = tower(PIXELS, output_hidden_states=True).hidden_states
    return states


def same(tower: Any, read: Sequence[int]) -> bool:
    """Whether what is read are the bits of a whole pass."""
    return all(map(torch.equal, behind(tower, PIXELS, read), [whole(tower)[at] for at in read]))


@pytest.mark.parametrize("read", READ, ids=str)
def test_what_is_read_is_what_a_whole_pass_gives(tower: Any, read: list[int]) -> None:
    before = whole(tower)
    assert same(tower, read)
    assert all(map(torch.equal, before, whole(tower)))  # the tower is as it was


def test_a_layer_too_few_is_seen(tower: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: the deepest layer that is read is passed by as well."""
    real = behind
    monkeypatch.setattr(f"{__name__}.behind", lambda tower, pixels, read: real(tower, pixels, [at - 1 for at in read]))
    assert not same(tower, [3])


def test_layers_behind_the_deepest_cost_nothing(tower: Any) -> None:
    def flops(read: list[int]) -> int:
        with FlopCounterMode(display=False) as counter:
            behind(tower, PIXELS, read)
        return counter.get_total_flops()

    spent = [flops([at]) for at in range(LAYERS + 1)]
    each = {after - before for before, after in pairwise(spent)}
    assert len(each) == 1 and each.pop() > 0


def test_a_pass_that_fails_leaves_the_tower_as_it_was(tower: Any) -> None:
    """Also where a layer had a `forward` of its own."""
    last = next(part for part in tower.modules() if isinstance(part, torch.nn.ModuleList))[LAYERS - 1]
    own = last.forward = lambda *given, **named: type(last).forward(last, *given, **named)
    with pytest.raises(RuntimeError):
        behind(tower, torch.zeros(2, 1, 32, 32), [3])
    assert last.forward is own and same(tower, [3])


@pytest.mark.parametrize(("named", "found"), [(-1, [5]), (-2, [4]), (2, [2]), ([-2, 1, -5], [4, 1, 1])])
def test_layers_are_counted_as_transformers_does(named: int | list[int], found: list[int]) -> None:
    assert depths(LlavaConfig(vision_config=CLIP, vision_feature_layer=named)) == found


def test_a_layer_that_is_not_there_is_an_error() -> None:
    with pytest.raises(IndexError):
        depths(LlavaConfig(vision_config=CLIP, vision_feature_layer=-7))
