"""What is read or computed once, by whoever needs it: models, pictures, files. Each count is seen to be exceeded."""

import builtins
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.backends import _prompts
from harness.backends.transformers import Transformers
from harness.comparison.face import Wanted
from harness.contracts.backend import Running, Sampling
from harness.contracts.method import Lesson, Role
from harness.contracts.records import Image, Pair, Prompt, Rollout
from harness.contracts.settings import Runtime
from harness.contracts.testbed_file import read_testbed
from harness.families.llava import Llava
from harness.models import shelf as shelves
from harness.models.load import let_go, load
from harness.models.shelf import Shelf
from harness.store import contents
from harness.store.contents import CONTENTS, Contents
from harness.store.digest import file_digest
from harness.store.manifest import damage_in
from harness.store.store import Stage, Store, _sound
from harness.system.profile import quiet
from harness.training import lens
from harness.training.engine import train
from harness.training.job import Job
from harness.training.rounds import NoWriter, OwnRound
from tests.perf import work
from tests.tiny import compared, folder, job, local_rank, pictures

__all__ = ["compared", "folder", "job", "local_rank", "pictures"]


@contextmanager
def towers() -> Iterator[list[int]]:
    """How many pictures each pass of the vision tower has, while inside."""
    passes, squares = list[int](), Llava.squares

    def watched(self: Llava, model: Any, pixels: Tensor) -> Tensor:
        passes.append(len(pixels))
        return squares(self, model, pixels)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Llava, "squares", watched)
        yield passes


def in_a_training(made: Job) -> int:
    """Pictures that the tower sees in a reference pass and a training of two epochs."""
    with towers() as passes:
        work.referred(made)
        train(made)
    return sum(passes)


def test_the_tower_sees_a_picture_once(compared: Job, pictures: list[Image]) -> None:
    assert in_a_training(compared) == len(pictures)


def test_the_tower_sees_it_again_where_nothing_is_kept(
    compared: Job, pictures: list[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant."""
    monkeypatch.setattr(Shelf, "_read", lambda self, name: None)
    assert in_a_training(compared) > len(pictures)


def opened(folder: str, run: Callable[[], object]) -> list[str]:
    """Files somewhere in `folder` that `run` reads as bytes, whoever hashes them, as often as it does."""
    read, plain = list[str](), builtins.open

    def watched(file: Any, mode: str = "r", *told: Any, **named: Any) -> Any:
        read.extend([str(file)] if mode == "rb" and folder in str(file) else [])
        return plain(file, mode, *told, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CONTENTS, "_known", {})  # as a process that knows nothing yet
        patch.setattr(builtins, "open", watched)
        run()
    return read


@pytest.mark.parametrize("mutant", [False, True])
def test_what_a_store_has_seen_is_hashed_by_no_later_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutant: bool
) -> None:
    """The bases' files, each once, by the first that plans; the mutant keeps no digests in the store."""
    if mutant:
        monkeypatch.setattr(Contents, "_append", lambda self, lines: None)
    tmp_path.joinpath("store").mkdir()
    plans = [opened("/bases/", Wanted.of("dpo", benchmarks="mmvet", store=tmp_path / "store").plan) for _ in range(2)]
    assert plans[0] and len({*plans[0]}) == len(plans[0])
    assert plans[1] == (plans[0] if mutant else [])


@pytest.mark.parametrize("mutant", [False, True])
def test_what_a_stage_has_made_is_hashed_by_no_later_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutant: bool
) -> None:
    """But for the first that relies on it; in the mutant each process reads whole models again."""
    if mutant:
        monkeypatch.setattr("harness.store.store.damage_in", lambda folder, digest: damage_in(folder, file_digest))
    monkeypatch.setattr(contents, "RACY_NS", -(10**18))  # as if it had been made long ago
    store, stage = Store(tmp_path), Stage("train", {})
    store.run(stage, lambda out: out.joinpath("model.safetensors").touch())

    def relies() -> None:
        CONTENTS.keep(tmp_path)
        _sound.clear()
        store.sound(stage.name)

    reads = [[name for name in opened(str(tmp_path), relies) if name.endswith("safetensors")] for _ in range(2)]
    assert [len(names) for names in reads] == [1, int(mutant)]


def another(folder: Path, home: Path) -> Path:
    """The same model, but that one weight of its tower is another."""
    copied = shutil.copytree(folder, home)
    weights = load_file(copied / "model.safetensors")
    name = next(name for name in weights if "vision_tower" in name)
    save_file({**weights, name: weights[name] + 1}, copied / "model.safetensors", {"format": "pt"})
    return copied


def seen(models: list[Path], shelf: Path, pictures: list[Image]) -> int:
    """Pictures that towers see where each model's features of all of them are asked for."""
    with towers() as passes:
        for model in models:
            loaded = load(model, shelf=shelf)
            for picture in pictures:
                loaded.features(picture)
    return sum(passes)


@pytest.mark.parametrize("mutant", [False, True])
def test_features_are_those_of_the_tower_that_is_asked(
    folder: Path, pictures: list[Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutant: bool
) -> None:
    """A key without weights, the mutant, hands a model what another has seen."""
    if mutant:
        monkeypatch.setattr("harness.models.shelf.tower_kind", lambda model, settings: "float32")
    models = [folder, another(folder, tmp_path / "another"), folder]
    assert seen(models, tmp_path / "features", pictures) == (1 if mutant else 2) * len(pictures)


def responded(model: Path, shown: list[Image], running: Running) -> None:
    prompts = [Prompt(image.key, image, "what is there") for image in shown]
    Transformers().respond(model, prompts, Sampling(max_new_tokens=1), running)


def looked_through(model: Path, shown: list[Image], running: Running) -> None:
    pairs = [Pair(image.key, image, "what is there", "a cat", "a dog") for image in shown]
    assert running.shelf
    lens.sequences(model, pairs, "float32", 4, quiet, running.shelf)


def measured(model: Path, shown: list[Image], running: Running) -> None:
    told, bed = [Rollout(image.key, image, "what", (5, 6), {}) for image in shown], read_testbed("mini")
    runtime, lesson = Runtime(), Lesson()
    assert running.shelf
    OwnRound(0, 0, NoWriter(), Store(model), bed, runtime, lesson, 8, "float32", model, "", model, running.shelf, quiet
             ).measure(told, Role.POLICY)  # fmt: skip


@pytest.mark.parametrize("reads", [responded, looked_through, measured])
def test_whoever_looks_at_pictures_finds_what_a_tower_has_seen(  # type: ignore[no-untyped-def]
    reads, folder: Path, pictures: list[Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another process, which has seen nothing yet; the mutant finds nothing."""
    running = Running(0, quiet, tmp_path / "features")
    assert running.shelf and seen([folder], running.shelf, pictures) == len(pictures)

    def again() -> int:
        let_go()
        with towers() as passes:
            reads(folder, pictures, running)
        return sum(passes)

    assert again() == 0
    monkeypatch.setattr(Shelf, "_read", lambda self, name: None)
    assert again() == len(pictures)


@pytest.mark.parametrize("mutant", [False, True])
def test_a_blank_picture_is_seen_once(
    folder: Path, pictures: list[Image], monkeypatch: pytest.MonkeyPatch, mutant: bool
) -> None:
    """Whichever picture it stands for."""
    if mutant:
        monkeypatch.setattr(_prompts, "lru_cache", lambda maxsize: lambda make: make)
    prompts = [Prompt(image.key, image, "what is there") for image in pictures]
    with towers() as passes:
        Transformers().respond(folder, prompts, Sampling(max_new_tokens=1), Running(0, quiet), blank=True)
    assert sum(passes) == (len(pictures) if mutant else 1)


def loads(run: Callable[[], object]) -> int:
    """How many models are loaded: of each the weights of the tower are hashed."""
    towers, kind = list[Any](), shelves.tower_kind
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shelves, "tower_kind", lambda *told: towers.append(told) or kind(*told))
        run()
    return len(towers)


def test_a_training_and_a_reference_pass_load_a_model_once(compared: Job) -> None:
    """A training with a copy for its reference, the mutant, loads it a second time."""
    assert loads(lambda: work.referred(compared)) == 1
    assert loads(lambda: train(compared)) == 1
    runtime = compared.runtime.model_copy(update={"reference": "copy"})
    again = compared.model_copy(update={"runtime": runtime, "work": f"{compared.work}-again"})
    assert loads(lambda: train(again)) == 2
