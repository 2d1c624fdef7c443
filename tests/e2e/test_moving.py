"""A store, a data folder and an image folder may be moved between two commands: what is done stays done."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import harness.stages.build as building
from harness.comparison.compare import compare, prepare
from harness.comparison.progress import Silent
from harness.comparison.worker import Worker
from harness.contracts import images
from harness.contracts.behind import behind
from harness.contracts.settings import MethodSpec, Runtime, Testbed
from harness.contracts.steps import Request
from harness.contracts.testbed_file import read_testbed
from harness.mini.benchsets import write_benchmark
from harness.mini.sources import write_source
from harness.sources._chosen import source
from harness.store.shelves import SHELVES
from harness.store.store import Store
from harness.system.errors import HarnessError
from harness.system.profile import quiet
from harness.training import split

SMALL = read_testbed(str(Path(__file__).with_name("small.yaml")))
RUNTIME = Runtime(workers=1)
EARLY = ("split", "items", "build")


@dataclass(frozen=True)
class Places:
    """Where a comparison's things lie under one folder."""

    home: Path

    @property
    def bed(self) -> Testbed:
        """A testbed of official files."""
        update = {"data": str(self.home / "data"), "writer": "", "judge": "", "lens": 0, "crosscheck": False}
        return SMALL.model_copy(update=update)

    def request(self, local: bool) -> Request:
        """GT-DPO on six examples of a named source, or of a user's file."""
        mine = source(str(self.home / "my.json"), str(self.home / "photos"))
        asked = mine if local else source("llava150k", home=behind(self.bed.data).home)
        return Request((MethodSpec(name="dpo"),), asked, benchmarks=("pope",), examples=6, limit=6)

    def filled(self) -> "Places":
        """The same, with data there."""
        source = self.home / "data" / "sources" / "llava150k"
        write_source("llava150k", "alignment", 0, 8, source)
        write_benchmark("pope", 0, 4, self.home / "data" / "benchmarks" / "pope", split="benchmark")
        write_source("llava150k", "alignment", 1, 8, self.home / "photos")
        (self.home / "photos" / "llava150k.json").rename(self.home / "my.json")
        records = json.loads((self.home / "my.json").read_text())
        named = [{**record, "image": f"images/{record['image']}"} for record in records]
        (self.home / "my.json").write_text(json.dumps(named))
        return self

    def begin(self, local: bool) -> int:
        """Run the comparison as far as `EARLY`; how many stages that were."""
        store, asked = Store(self.home / "store"), self.request(local)
        planned = prepare(asked, self.bed, RUNTIME, store)
        worker = Worker(store, self.bed, asked, RUNTIME)
        early = [step for step in planned.steps if step.stage.kind in EARLY]
        for step in early:
            worker.run(step, quiet)
        return len(early)

    def finish(self, local: bool) -> tuple[int, bytes]:
        """How many stages had to run, and the table."""
        store, out = Store(self.home / "store"), self.home / "out"
        done = compare(self.request(local), self.bed, RUNTIME, store, out, Silent(), page=False)
        assert not done.failed and not done.mended
        return done.ran, (out / "table.csv").read_bytes()


def moved(tmp_path: Path, local: bool) -> None:
    """All is moved after the build; the comparison goes on, and its table is that of one that stayed."""
    stays, goes = Places(tmp_path / "stays").filled(), Places(tmp_path / "goes").filled()
    every, right = stays.finish(local)
    early = goes.begin(local)
    shutil.rmtree(goes.home / "store" / SHELVES)  # what is there needs no picture
    goes.home.rename(tmp_path / "elsewhere")
    ran, table = Places(tmp_path / "elsewhere").finish(local)
    assert (ran, table) == (every - early, right)


@pytest.mark.parametrize(
    "local", [pytest.param(False, id="testbed"), pytest.param(True, id="my.json", marks=pytest.mark.heavy)]
)
def test_a_comparison_goes_on_where_everything_has_moved(tmp_path: Path, local: bool) -> None:
    moved(tmp_path, local)


@pytest.mark.heavy
@pytest.mark.parametrize("local", [False, True], ids=["testbed", "my.json"])
def test_the_mutant_that_stores_where_pictures_were_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local: bool
) -> None:
    stay: Callable[..., object] = lambda thing, places: thing  # noqa: E731
    for module in (images, split, building):
        monkeypatch.setattr(module, "movable", stay)
    with pytest.raises((AssertionError, HarnessError)):
        moved(tmp_path, local)


def test_a_store_alone_a_data_folder_alone(tmp_path: Path) -> None:
    home = Places(tmp_path / "home").filled()
    early = home.begin(False)
    (home.home / "store").rename(tmp_path / "store")
    (home.home / "data").rename(tmp_path / "data")
    bed, store = home.bed.model_copy(update={"data": str(tmp_path / "data")}), Store(tmp_path / "store")
    asked = replace(home.request(False), data=source("llava150k", home=behind(bed.data).home))
    done = compare(asked, bed, RUNTIME, store, tmp_path / "out", Silent(), page=False)
    assert done.ran == len(done.plan.steps) - early


def test_no_stored_path_is_absolute(tmp_path: Path) -> None:
    """In what later stages read; a trained checkpoint's folder is its own."""
    for local in (False, True):
        home = Places(tmp_path / str(local)).filled()
        home.begin(local)
        files = [file for kind in EARLY for file in (home.home / "store" / kind).glob("*/*.jsonl")]
        assert files and not any(str(tmp_path) in file.read_text() for file in files)


@pytest.mark.parametrize("name", ["a b.jpg", "ä/ü.png", "@data/x.png", "x@images"])
def test_a_path_comes_back_from_each_place(tmp_path: Path, name: str) -> None:
    places = images.Places(tmp_path / "store", tmp_path / "data", tmp_path / "photos")
    for folder in (*places, tmp_path / "elsewhere"):
        image = images.Image(str(folder / name), "0" * 64)
        if folder == places.store and name.startswith("@"):
            continue  # stages' folders are named by kinds
        stored = images.relative(image, places)
        assert images.resolve(stored, places) == image
        assert Path(stored.path).is_absolute() == (folder == tmp_path / "elsewhere")
