"""mDPO: each record has its own crop, by seed and name."""

import random
from dataclasses import replace

import pytest
from scripted import EXAMPLES, Scripted

from harness.contracts.records import Beside, Dropped, Pair
from harness.system.errors import UsageError
from methods.mdpo import Mdpo


def crops(seed: int = 0, **options: float) -> dict[str, Beside]:
    """The crop of each record."""
    built = [record for record in Mdpo(**options).build(EXAMPLES, Scripted(seed=seed)) if isinstance(record, Pair)]
    assert all([one.answer for one in record.beside] == [record.chosen] for record in built)
    return {record.id: record.beside[0] for record in built}


def test_a_crop_is_the_record_s_by_the_comparison_s_seed() -> None:
    assert crops() == crops() != crops(seed=1)
    assert len({one.crop for one in crops().values()}) == len(EXAMPLES)


@pytest.mark.parametrize(("least", "most"), [(0.01, 0.2), (0.5, 1.0), (1.0, 1.0)])
def test_crops_lie_in_the_picture_and_have_the_area_and_proportion_that_are_asked_for(
    least: float, most: float
) -> None:
    method, areas = Mdpo(crop_least=least, crop_most=most), list[float]()
    for number in range(300):
        left, top, right, bottom = method.crop(str(number))
        assert 0 <= left < right <= 1 + 1e-9 and 0 <= top < bottom <= 1 + 1e-9
        areas.append((right - left) * (bottom - top))
        if max(right - left, bottom - top) < 1:
            assert least - 1e-9 <= areas[-1] <= most + 1e-9
            assert 0.74 < (right - left) / (bottom - top) < 1.34
    if most < 0.5:
        assert min(areas) < 0.03 < 0.18 < max(areas)


def test_without_a_picture_there_is_nothing_to_crop() -> None:
    blind = replace(EXAMPLES[0], image=None)
    assert list(Mdpo().build([blind], Scripted())) == [Dropped("one", "no picture to crop")]


@pytest.mark.parametrize(("least", "most"), [(0.0, 0.2), (0.3, 0.2), (0.5, 1.2)])
def test_a_crop_that_no_picture_has_is_a_sentence(least: float, most: float) -> None:
    with pytest.raises(UsageError, match=r"wanted: 0 < crop_least <= crop_most <= 1"):
        Mdpo(crop_least=least, crop_most=most)


def test_a_crop_drawn_anew_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "Random", lambda name: random.SystemRandom())
    with pytest.raises(AssertionError):
        test_a_crop_is_the_record_s_by_the_comparison_s_seed()
