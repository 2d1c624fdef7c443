"""`make scaling`: how what the product does beside models grows with its input, and with which exponent.

CPU seconds of one process at several sizes: records of one's own that are read, a plan by rows and by seeds, a report
by items, a store that is read by stages; and counts: stages of a plan by methods, places that a model computes to read
questions by how many are on a picture, FLOPs by formula of a training step at LLaVA-1.5-7B's shapes by the length of
answers. An exponent is the slope of a line through logarithms: 1 is linear, less has a part that does not grow.
Table and curves go into docs/performance.md.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from time import process_time
from typing import NamedTuple
from unittest import mock

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from harness.backends import _decoding as decoding
from harness.backends._prompts import row_of
from harness.checking.drawn import files_of
from harness.checking.inspecting import contents
from harness.comparison.face import Wanted
from harness.contracts import plugins
from harness.contracts.benchmark import Benchmark, Unit
from harness.contracts.records import Prompt
from harness.contracts.steps import Plan
from harness.contracts.testbed_file import read_testbed
from harness.families.llava import Llava
from harness.models.load import load
from harness.sources._chosen import source
from harness.store import store as stores
from harness.store.store import Stage, Store
from reports.files import write_report
from reports.findings import Setting
from reports.outcomes import Outcome
from tests import true_shapes
from tests.made_page import filled
from tests.passes import passes
from tests.perf import shapes, work
from tests.scored import parts
from tests.small_models import noise

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
DRAWING = PAGE.with_name("scaling.svg")
BEGIN, END = "<!-- measured by make scaling -->", "<!-- end of make scaling -->"
HEAD = "| what | by | at | CPU seconds, or what is counted | exponent |\n|-|-|-|-|-|"
ROWS = 20  # of a report
PAPERS = ("sft", "nsft", "dpo", "seva", "sima", "csr", "ppo")


class Curve(NamedTuple):
    """What something took at several sizes."""

    what: str
    by: str
    sizes: Sequence[int]
    took: Sequence[float]

    @property
    def exponent(self) -> float:
        """The slope through logarithms."""
        return float(np.polyfit(np.log(self.sizes), np.log(self.took), 1)[0])

    def line(self) -> str:
        """As the table has it."""
        at, took = (" · ".join(texts) for texts in ((f"{n:,}" for n in self.sizes), (f"{t:.3g}" for t in self.took)))
        return f"| {self.what} | {self.by} | {at} | {took} | {self.exponent:.2f} |"


def spent(run: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    begun = process_time()
    run()
    return process_time() - begun


def records(home: Path, sizes: Sequence[int]) -> Curve:
    """Of 900 bytes each, without pictures, read and checked as `harness data` does."""

    def read(count: int) -> float:
        file = home / f"{count}.jsonl"
        with file.open("w") as out:
            for number in range(count):
                said = [{"from": "human", "value": f"what is {number}"}, {"from": "gpt", "value": "word " * 150}]
                out.write(json.dumps({"id": str(number), "conversations": said}) + "\n")
        with files_of(source(str(file)), read_testbed("mini"), None, 0) as files:
            return spent(lambda: contents(files, 0))

    return Curve("records of one's own, read and checked", "records", sizes, [read(count) for count in sizes])


def plans(home: Path, counts: Sequence[int]) -> Iterator[Curve]:
    """Of rows of one method with other settings, and of seeds; what is imported first is paid for before."""

    def planned(rows: int, seeds: int) -> float:
        wanted = Wanted.of([f"dpo:beta={1 + n}" for n in range(rows)], seeds=seeds, store=home / "store")
        return spent(wanted.plan)

    planned(1, 1)
    yield Curve("a plan over all benchmarks", "rows", counts, [planned(count, 1) for count in counts])
    seeds = [count for count in counts if count <= 3]  # as many as `mini` has bases
    yield Curve("a plan of four rows", "seeds", seeds, [planned(4, count) for count in seeds])


def methods(home: Path, counts: Sequence[int]) -> Iterator[Curve]:
    """A row each, the paper's first, over all benchmarks: what planning takes, and how many stages there are."""
    names = [*PAPERS, *(name for name in plugins.names("methods") if name not in PAPERS)]

    def planned(count: int) -> Plan:
        return Wanted.of(names[:count], store=home / "store").plan()

    planned(1)
    yield Curve("a plan over all benchmarks", "methods", counts, [spent(partial(planned, count)) for count in counts])
    yield Curve("its stages, counted", "methods", counts, [len(planned(count).steps) for count in counts])


def questions(home: Path, counts: Sequence[int]) -> Curve:
    """On one picture of 576 places, each of two words that are its own: the places of their prompts' forward passes."""
    loaded, [picture] = load(work.folder(home / "model", 16)), noise(home, ((336, 336),))

    def read(count: int) -> int:
        rows = [row_of(Prompt(str(n), picture, f"is there a {n // 10} {n % 10}"), loaded) for n in range(count)]
        with passes() as seen:
            decoding.decoded(loaded, rows, loaded.features, 1, (), None)
        return seen.places

    return Curve("places computed to read prompts, counted", "questions on a picture", counts, list(map(read, counts)))


def reports(home: Path, sizes: Sequence[int]) -> Curve:
    """Of `ROWS` rows on one benchmark, four questions to a picture."""
    gqa: Benchmark = plugins.make("benchmarks", "gqa", Benchmark, {})
    names = ["baseline", *(f"row{n}" for n in range(1, ROWS))]

    def report(items: int) -> float:
        rng, outcomes = np.random.default_rng(0), list[Outcome]()
        for at, name in enumerate(names):
            right = rng.random(items) < 0.5 + at / 100
            units = [Unit(str(n), str(n // 4), parts("gqa", bool(one))) for n, one in enumerate(right)]
            outcomes.append(Outcome(name, name, 0, "gqa", units, 0, name))
        setting = Setting("made up", "llava", synthetic=True, models={"0": "m"})
        (home / str(items)).mkdir()
        return spent(lambda: write_report(home / str(items), outcomes, {"gqa": gqa}, names, setting))

    return Curve(f"a report of {ROWS} rows", "items", sizes, [report(items) for items in sizes])


def stages(home: Path, sizes: Sequence[int]) -> Curve:
    """Of two files each, every byte read, as `harness doctor` does."""

    def body(out: Path) -> None:
        (out / "units.json").write_text("x" * 2000)
        (out / "profile.json").write_text("{}")

    def read(count: int) -> float:
        store = Store(home / str(count))
        with mock.patch.object(stores, "sync", lambda path: None):
            for number in range(count):
                store.run(Stage("score", {"number": number, "code": {f"m{n}.py": "0" * 64 for n in range(8)}}), body)
        return spent(store.verify)

    return Curve("a store, every byte read", "stages", sizes, [read(count) for count in sizes])


def counted() -> Curve:
    """A pair's step by formula at 7B shapes, with adapters of rank 128."""
    config = true_shapes.llava_7b()
    flops = Llava().flops(config)
    lengths, adapters = (10, 50, 100, 300, 1000), 319_815_680
    pairs = [shapes.forest(config, "dpo", (True,) * length)[0] for length in lengths]
    steps = [flops.train(tree, adapters) / 1e12 for tree in pairs]
    return Curve("a pair's training step, TFLOP by formula", "tokens of an answer", lengths, steps)


def curves(home: Path, scale: float = 1.0) -> Iterator[Curve]:
    """All of them, at `scale` times their sizes."""

    def sized(*sizes: int) -> list[int]:
        return [max(1, round(size * scale)) for size in sizes]

    for name, made, sizes in (
        ("records", records, sized(10_000, 30_000, 75_000, 150_000)),
        ("reports", reports, sized(2_000, 5_000, 10_000, 20_000)),
        ("stages", stages, sized(250, 500, 1_000, 2_500)),
    ):
        (home / name).mkdir()
        yield made(home / name, sizes)
    yield from plans(home, (1, 2, 3, 7, 15))
    yield from methods(home, (1, 2, 3, 7, 15))
    yield questions(home, (1, 2, 6, 12, 30))
    yield counted()


def drawn(found: Sequence[Curve]) -> Figure:
    """Every curve over its largest size, against its largest figure: on the diagonal what is linear."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    for one in found:
        name = f"{one.what}, by {one.by}: {one.exponent:.2f}"
        axes.loglog(np.array(one.sizes) / one.sizes[-1], np.array(one.took) / one.took[-1], marker="o", label=name)
    axes.plot([0.01, 1], [0.01, 1], color="grey", linestyle=":", label="linear")
    axes.set_xlabel("size, of the largest")
    axes.set_ylabel("taken, of the largest")
    axes.legend(frameon=False, fontsize=7)
    return figure


def written(found: Sequence[Curve], page: Path = PAGE) -> None:
    """The table into the page, in place of the one before, and the curves beside it."""
    table = "\n".join([HEAD, *(one.line() for one in found)])
    page.write_text(filled(page, BEGIN, END, table), encoding="utf-8")
    with rc_context({"svg.hashsalt": "scaling"}):
        drawn(found).savefig(page.with_name(DRAWING.name), metadata={"Date": None})


def main() -> None:
    """Measure everything and write it."""
    with tempfile.TemporaryDirectory() as home:
        found = list(curves(Path(home)))
    for one in found:
        print(one.line())
    written(found)


if __name__ == "__main__":
    main()
