"""`harness doctor --testbed FILE` where it has no bars of its own: what a comparison would need, looked at before it.

A line per part, with the cure where one is wrong. No model responds, nobody who costs money is asked.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.comparison.preflight import check_models, taken, undrawn
from harness.contracts import plugins
from harness.contracts.behind import behind
from harness.contracts.benchmark import Benchmark, folder_of
from harness.contracts.family import Layout
from harness.contracts.images import Places, StoreImages, read_image
from harness.contracts.images import resolve as located
from harness.contracts.records import Dropped, Turn
from harness.contracts.row import Row
from harness.contracts.settings import MethodSpec, Testbed
from harness.contracts.steps import Request
from harness.contracts.testbed_kind import TestbedKind
from harness.judging.hire import OFFICES, Office, kind_for
from harness.models.clip import CLIP
from harness.models.folder import fetch, inspect, looked_through
from harness.sources._chosen import named, source
from harness.system.blame import explained
from harness.system.errors import UsageError
from harness.system.secret import redact

FEW = 5  # records and items that are looked at
SCENES = 10  # that a testbed draws for them


@dataclass(frozen=True)
class Finding:
    """What was looked at, whether it is as it should be, and in a sentence what it is or how to cure it."""

    what: str
    good: bool
    said: str

    def __str__(self) -> str:
        """One line."""
        return f"{'ok   ' if self.good else 'wrong'}  {self.what}: {' '.join(self.said.split())}"


def examine(testbed: Testbed, request: Request) -> Iterator[Finding]:
    """Every part of the testbed, and every method and benchmark of the request."""
    bed = behind(testbed.data)
    if unset := bed.unset():
        yield Finding("data", False, unset)
        return
    for folder in testbed.models:
        yield _tried(f"model {folder}", lambda folder=folder: _model(Path(folder)))  # type: ignore[misc]
    if testbed.clip:
        yield _tried(f"clip {testbed.clip}", lambda: _clip(Path(testbed.clip)))
    for spec in request.methods:
        yield _tried(f"method {spec.id}", lambda spec=spec: _method(spec, testbed))  # type: ignore[misc]
    for name in named() if bed.home else bed.sources:
        yield _tried(f"data {name}", lambda name=name: _source(name, bed))  # type: ignore[misc]
    for name in request.benchmarks:
        yield _tried(f"benchmark {name}", lambda name=name: _benchmark(name, testbed, bed))  # type: ignore[misc]
    for role in OFFICES:
        yield _tried(role, lambda role=role: _asked(role, testbed))  # type: ignore[misc]


def _tried(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, look())
    except Exception as error:
        return Finding(what, False, redact(str(explained(error))))


def _model(folder: Path) -> str:
    """The files of a model: every tensor there and of the right shape by its header, tokenizer, prompt."""
    from harness.models.load import words

    if not (folder / "config.json").is_file():
        raise UsageError(f"no Hugging Face model; fetch one: {fetch(folder)}")
    model, tokenizer = inspect(folder), words(folder).tokenizer
    pieces = model.family.segments([Turn("What is there?", "A cup.")], True, tokenizer.eos_token)
    asked = model.family.encode(tokenizer, pieces, Layout(model.places[1]))
    return (
        f"{model.family.title}, whole by its headers; an image takes {taken(model)} places, a short prompt with it "
        f"{'' if model.places[0] == model.places[1] else 'at most '}{len(asked.ids):,}"
    )


def _clip(folder: Path) -> str:
    if not (folder / "config.json").is_file():
        raise UsageError(
            f"no CLIP model; fetch one: hf download openai/clip-vit-large-patch14-336 --local-dir {folder}"
        )
    looked_through(folder, CLIP)
    return "whole by its headers"


def _method(spec: MethodSpec, testbed: Testbed) -> str:
    """A method's options, training arguments and adapters on this testbed's models."""
    row = Row.of(spec, testbed)
    there = tuple(folder for folder in testbed.models if (Path(folder) / "config.json").is_file())
    check_models([row], testbed.model_copy(update={"models": there}))
    return f"{row.method.rounds} rounds, its training fits the models"


def _source(name: str, bed: TestbedKind) -> str:
    """A training source's first records, with their pictures."""
    with TemporaryDirectory(prefix="harness-doctor-") as scratch:
        training = source(name, home=bed.home)
        if bed.home is None:
            bed.draw_source(name, "alignment", 0, FEW, Path(scratch))
            training = replace(training, home=Path(scratch))
        few = list(islice(training.load(), FEW))
        usable = [record for record in few if not isinstance(record, Dropped)]
        if not usable:
            why = next((record.reason for record in few if isinstance(record, Dropped)), "there are no records")
            raise UsageError(
                f"none of the first {FEW} records is usable ({why}); {training.told(training.home or Path())}"
            )
        for example in usable:
            if example.image:
                read_image(Path(example.image.path))
    return f"{len(usable)} of the first {len(few)} records usable, their pictures readable"


def _benchmark(name: str, testbed: Testbed, bed: TestbedKind) -> str:
    """A benchmark's first items, with their pictures."""
    benchmark: Benchmark = plugins.make("benchmarks", name, Benchmark, testbed.benchmarks.get(name, {}))
    home = folder_of(name, bed.home)
    with TemporaryDirectory(prefix="harness-doctor-") as scratch:
        if bed.home is None and not plugins.own_folder("benchmarks", name):
            if why := undrawn(name, testbed):
                raise UsageError(why)
            home = Path(scratch) / "drawn"
            home.mkdir()
            bed.draw_benchmark(name, "benchmark", 0, SCENES, home)
        if not home.is_dir():
            raise UsageError(f"{home} is not there; {benchmark.told(home)}")
        places = Places(Path(scratch))
        images = StoreImages(places, places.store, places.store, testbed.reading.images == "upright")
        few = list(islice(benchmark.items(home, images), FEW))
        for item in few:
            if item.image:
                read_image(Path(located(item.image, places).path))
    if not few:
        raise UsageError(f"{home} holds no items; {benchmark.told(home)}")
    return f"the first {len(few)} items have prompts and readable pictures"


def _asked(role: Office, testbed: Testbed) -> str:
    """Whether a judge or writer could be asked, and at what price; nobody is."""
    kind = kind_for(role, testbed)
    if why := kind.unusable():
        raise UsageError(why)
    remark = kind.remark()
    return f"{kind.name}: {remark}" if remark else f"{kind.name} is configured; it was not asked"
