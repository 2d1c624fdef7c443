"""Images' features: the same from memory and from file, by themselves, and made once in a whole comparison."""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.comparison.plan import plan
from harness.comparison.worker import Worker
from harness.contracts.family import Layout
from harness.contracts.records import Image, Item
from harness.contracts.settings import MethodSpec, Runtime
from harness.contracts.steps import Request
from harness.contracts.testbed_file import read_testbed
from harness.families.llava import Llava
from harness.models.load import Loaded, load
from harness.models.shelf import Shelf, tower_kind
from harness.sources._chosen import source
from harness.stages._examples import locked_examples
from harness.store.store import Store
from harness.system.errors import HarnessError
from harness.system.jsonl import read_jsonl
from harness.system.profile import quiet

SMALL = Path(__file__).parents[1] / "e2e" / "small.yaml"


def named(image: Image) -> Tensor:
    """A tensor that tells its image."""
    return torch.full((2, 3), float(int(image.sha256[:6], 16)))


def test_a_file_gives_back_the_bits_that_were_made(
    loaded: Loaded, folder: Path, pictures: list[Image], tmp_path: Path
) -> None:
    made = [loaded.features(picture) for picture in pictures]
    loaded.features.folder = tmp_path
    other = load(folder)
    other.features.folder = tmp_path
    for picture in pictures:
        other.features(picture)
    third = load(folder)
    third.features.folder = tmp_path
    assert all(torch.equal(third.features(picture), one) for picture, one in zip(pictures, made, strict=True))
    assert (other.features.made, third.features.made) == (len(pictures), 0)


@pytest.mark.parametrize("spoil", [lambda data: data[:-1], lambda data: data[:40] + b"x" + data[41:], lambda data: b""])
def test_a_damaged_file_is_made_anew(pictures: list[Image], tmp_path: Path, spoil: Any) -> None:
    first, second = Shelf(named, "k"), Shelf(named, "k")
    first.folder = second.folder = tmp_path
    right = first(pictures[0])
    [file] = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(spoil(whole))
    assert torch.equal(second(pictures[0]), right) and second.made == 1
    assert file.read_bytes() == whole


def test_writers_with_one_process_id_do_not_meet(
    pictures: list[Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two containers have a process 1 each: the second writes a picture while the first is about to name its file."""
    first, second = Shelf(named, "k"), Shelf(named, "k")
    first.folder = second.folder = tmp_path
    others = iter([lambda: second(pictures[0])])
    monkeypatch.setattr("harness.models.shelf.failpoint", lambda name: next(others, lambda: None)())
    monkeypatch.setattr("os.getpid", lambda: 1)
    assert torch.equal(first(pictures[0]), named(pictures[0])) and (first.made, second.made) == (1, 1)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_tower_drops_nothing_while_the_rest_trains(loaded: Loaded, pictures: list[Image]) -> None:
    before = loaded.features.make(pictures[0])
    loaded.model.train()
    for layer in loaded.model.model.vision_tower.encoder.layers:
        layer.self_attn.dropout = 0.5
    assert torch.equal(loaded.features.make(pictures[0]), before)


def test_bfloat16_comes_back_as_it_went(pictures: list[Image], tmp_path: Path) -> None:
    for made in (1, 0):
        shelf = Shelf(lambda image: named(image).bfloat16() / 3, "bfloat16")
        shelf.folder = tmp_path
        assert torch.equal(shelf(pictures[0]), named(pictures[0]).bfloat16() / 3) and shelf.made == made


def test_two_kinds_of_one_image_do_not_meet(pictures: list[Image], tmp_path: Path) -> None:
    one, two = Shelf(named, "float32"), Shelf(lambda image: named(image).double(), "float64")
    one.folder = two.folder = tmp_path
    assert (one(pictures[0]).dtype, two(pictures[0]).dtype) == (torch.float32, torch.float64)


def test_a_rounded_tower_has_a_shelf_place_of_its_own(folder: Path, pictures: list[Image], tmp_path: Path) -> None:
    """A policy trained in bfloat16 has its base's tower rounded: whoever came first, each sees by its own."""
    base, rounded = load(folder), load(folder)
    rounded.model.model.vision_tower.bfloat16().float()
    for tower in (base, rounded):
        tower.features.kind = tower_kind(tower.model.model.vision_tower)
        tower.features.folder = tmp_path
        tower.features(pictures[0])
    alone = rounded.family.features(rounded.model, rounded.eyes.pixels(pictures[0]), Layout(4))
    assert rounded.features.made == 1 and torch.equal(rounded.features(pictures[0]), alone)
    assert not torch.equal(alone, base.features(pictures[0]))


@pytest.mark.parametrize("images", [1, 3])
def test_as_many_features_as_places_or_a_sentence(loaded: Loaded, images: int) -> None:
    ids = torch.tensor([[7, 4, 4, 4, 4, 8], [7, 4, 4, 4, 4, 8]])
    inputs = partial(loaded.family.inputs, loaded.model, ids)
    with pytest.raises(HarnessError, match=f"8 places for images and {4 * images} features"):
        inputs(torch.zeros(4 * images, 32), [Layout(4)] * images)
    assert inputs(torch.zeros(8, 32), [Layout(4)] * 2)["inputs_embeds"].shape == (2, 6, 32)


def test_memory_is_bounded_and_the_last_used_stay(pictures: list[Image]) -> None:
    shelf = Shelf(named, "k", max_bytes=2 * named(pictures[0]).nbytes)
    for number in (0, 1, 0, 2, 0):
        shelf(pictures[number])
    assert shelf.made == 3
    shelf(pictures[1])
    assert shelf.made == 4


def hashed(shelf: Shelf, asked: Sequence[Image], monkeypatch: pytest.MonkeyPatch) -> int:
    """How many files of a shelf that keeps one picture in memory are hashed while it is asked."""
    calls, sha256 = [], hashlib.sha256
    with monkeypatch.context() as patch:
        patch.setattr("harness.models.shelf.hashlib.sha256", lambda data: calls.append(data) or sha256(data))
        for picture in asked:
            assert torch.equal(shelf(picture), named(picture))
    return len(calls)


def test_a_file_is_hashed_once_and_again_where_it_changed(
    pictures: list[Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, shelf = Shelf(named, "k"), Shelf(named, "k", max_bytes=1)
    made.folder = shelf.folder = tmp_path
    for picture in pictures[:2]:
        made(picture)
    assert hashed(shelf, pictures[:2] * 3, monkeypatch) == 2
    file = tmp_path / f"{pictures[0].key}.k"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert hashed(shelf, pictures[:2], monkeypatch) == 2 and shelf.made == 1  # read, found damaged; made and written


def test_what_is_only_to_be_there_is_not_read(pictures: list[Image], tmp_path: Path) -> None:
    first, second = Shelf(named, "k"), Shelf(named, "k")
    first.folder = second.folder = tmp_path
    first.put(pictures[0], whole=False)
    [file] = tmp_path.iterdir()
    file.write_bytes(b"damaged")
    second.put(pictures[0], whole=False)
    assert (first.made, second.made) == (1, 0)
    second.put(pictures[0], whole=True)
    assert second.made == 1


def seen_in_a_comparison(store: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """How often a tower ran in a small comparison of two methods, and on how many different images it was."""
    calls, tower = [], Llava.features
    monkeypatch.setattr(Llava, "features", lambda *given: calls.append(1) or tower(*given))
    bed = read_testbed(str(SMALL)).model_copy(update={"crosscheck": False, "lens": 3})
    request = Request(
        (MethodSpec(name="sft"), MethodSpec(name="dpo")),
        source("llava150k"),
        examples=6,
        limit=3,
        benchmarks=("pope", "gqa"),
    )
    planned = plan(request, bed)
    worker = Worker(Store(store), bed, request, Runtime())
    for step in planned.steps:
        worker.run(step, quiet)
    build = next(step for step in planned.steps if step.stage.kind == "build")
    examples = locked_examples(worker.work(build, store, quiet), build.reads["split"])
    items = [item for file in store.glob("items/*/items.jsonl") for item in read_jsonl(Item, file)]
    return len(calls), len({thing.image.sha256 for thing in (*examples, *items) if thing.image})


@pytest.mark.heavy
def test_a_comparison_sees_every_image_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Build, reference log-probs, two trainings, the lens, and three rows' responses to two benchmarks."""
    calls, images = seen_in_a_comparison(tmp_path, monkeypatch)
    assert calls == images > 6


@pytest.mark.heavy
def test_the_mutant_without_a_shelf_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shelf, "_read", lambda self, name: None)
    calls, images = seen_in_a_comparison(tmp_path, monkeypatch)
    assert calls > 2 * images
