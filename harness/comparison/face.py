"""The public face: comparisons from Python. The command line goes through it too.

import harness

done = harness.compare("nsft,dpo", limit=50)
done.table()                    # rows by metrics, a pandas DataFrame; .results(), .items("pope") likewise
done.checkpoint("nsft")         # a folder that transformers reads
harness.load("runs/nsft-dpo-llava150k-mini-limit=50")
"""

import multiprocessing
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.contracts.executor import Watcher
from harness.contracts.judge_kind import called
from harness.contracts.plugins import adopt_files, unknown
from harness.contracts.settings import Runtime, Testbed
from harness.contracts.steps import Request
from harness.store.store import MANIFEST, Store
from harness.system.errors import UsageError
from harness.system.jsonl import dumps

if TYPE_CHECKING:
    from pandas import DataFrame

    from harness.comparison.compare import Finished
    from harness.contracts.steps import Plan
    from reports.runs import Run, StoredCell

STORE = Path("runs/store")
FIGURES = ("value", "delta", "ci_lo", "ci_hi", "p_holm", "n", "unscored", "verdict", "withheld")  # of table.csv


@dataclass(frozen=True)
class Wanted:
    """A comparison that was asked for: what, on which testbed, how it is run, and the folder of its files."""

    request: Request
    testbed: Testbed
    runtime: Runtime
    store: Store
    folder: Path

    @classmethod
    def of(
        cls,
        methods: str | Sequence[str],
        data: str = "llava150k",
        testbed: str | Path = "mini",
        *,
        images: str | Path = "",
        seeds: int = 1,
        benchmarks: str | Sequence[str] = "",
        examples: int | None = None,
        limit: int | None = None,
        model: str | Path = "",
        rows: str | Sequence[str] = "",
        judge: str = "",
        writer: str = "",
        set: Mapping[str, object] | Sequence[str] = (),
        out: str | Path | None = None,
        store: str | Path = STORE,
        workers: int | None = None,
        budget: float | None = None,
        noise_floor: bool = False,
        executor: str | Path = "local",
        sizes: Sequence[int] = (),
    ) -> "Wanted":
        """From the words of `harness compare`; UsageError for what cannot be meant."""
        from harness.comparison.request import request, validated
        from harness.comparison.run_folder import chosen

        if type(noise_floor) is not bool:
            raise UsageError(f"noise_floor is {noise_floor!r}; give True or False.")
        for what, file in (("store", store), ("out", out)):
            if file is not None and Path(file).exists() and not Path(file).is_dir():
                raise UsageError(f"{what}: {file} is a file; give a folder.")
        sets, lines, columns = _settings(set), _words("methods", methods), _words("benchmarks", benchmarks)
        words = (lines, str(data), str(images), str(testbed), seeds, columns, examples, limit, sets, workers)
        who = {role: given for role, given in (("judge", judge), ("writer", writer)) if given}
        bed, asked, runtime = request(
            *words, who=who, executor=str(executor), model=str(model), published=_words("rows", rows)
        )
        runtime = runtime if budget is None else validated(runtime, {"budget": budget})
        if noise_floor:
            asked = replace(asked, noise_batch=_half(runtime.generate_batch_size))
        other = [*sets, *(f"{role}={called(given)}" for role, given in who.items())]
        other += [f"model={model}"] if model else []
        named = [name for name, _ in (*asked.published, *asked.answered)]
        other += [f"rows={'+'.join(named)}"] if named else []
        folder = chosen(Path(out) if out is not None else None, asked, bed, other, ",".join(map(str, sizes)))
        return cls(asked, bed, runtime, Store(Path(store)), folder)

    def plan(self) -> "Plan":
        """What would run (`harness.comparison.compare.prepare`)."""
        from harness.comparison.compare import prepare

        return prepare(self.request, self.testbed, self.runtime, self.store)

    def run(self, watcher: Watcher, page: bool = True) -> "Finished":
        """Run what is not in the store yet and write the folder (`harness.comparison.compare.compare`)."""
        from harness.comparison.compare import compare as run

        return run(self.request, self.testbed, self.runtime, self.store, self.folder, watcher, page)


def compare(
    methods: str | Sequence[str] = "nsft,dpo",
    data: str = "llava150k",
    testbed: str | Path = "mini",
    *,
    quiet: bool = False,
    page: bool = True,
    **options: Any,
) -> "Comparison":
    """Build every method's data from one split, train, score on the benchmarks.

    `options` are those of `harness compare`: `images`, `seeds`, `benchmarks`, `examples`, `limit`, `model`, `rows`,
    `judge`, `writer`, `out`, `store`, `workers`, `executor`, `budget` (USD), `noise_floor`, and `set`, {"dpo.beta":
    0.5}. What is in the store is not made again. A row that fails does not end the others (`Comparison.failed`).
    Raises UsageError for a request that is wrong and HarnessError where nothing could be scored.
    """
    from harness.comparison.progress import watching

    if "sizes" in options:
        raise UsageError("a comparison at several sizes is several: call compare for each number of `examples`.")
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as multiprocessing itself asks
        raise UsageError(
            "harness.compare starts processes that import your script again; put the call under "
            '`if __name__ == "__main__":`.'
        )
    wanted = Wanted.of(methods, data, testbed, **options)
    with watching(wanted.store, wanted.runtime.workers, quiet) as watcher:
        done = wanted.run(watcher, page)
    return Comparison(wanted.folder, wanted.store.root, done.told)


def load(run: str | Path, store: str | Path | None = None, benchmarks: Sequence[str] = ()) -> "Comparison":
    """A finished comparison by its folder, or by its name under runs/; UsageError where there is none.

    `store` is where its stages lie, by default where its manifest says; `benchmarks` are files of yours that it had,
    whose code runs.
    """
    adopt_files("benchmarks", benchmarks)
    if Path(run).is_file():
        raise UsageError(f"{run} is a file; give the folder of a comparison (`harness report` reads bundles).")
    folder = next((path for path in (Path(run), Path("runs") / run) if (path / MANIFEST).is_file()), Path(run))
    found = Comparison(folder, Path(store) if store else None)
    with found.opened():
        return found


@dataclass(frozen=True)
class Comparison:
    """A comparison on disk. `told` is what was said of it beside its table: what was left out of the data, and why."""

    folder: Path
    store: Path | None = None
    told: tuple[str, ...] = ()

    @contextmanager
    def opened(self) -> "Iterator[Run]":
        """The run as reports read it."""
        from reports.runs import opened

        with opened([self.folder], self.store) as (run,):
            yield run

    def table(self, figure: str = "value") -> "DataFrame":
        """Rows by metrics: each row's `figure`, NaN where there is none.

        "value", "delta" (to the baseline, on the same items), "ci_lo", "ci_hi" (95 %), "p_holm", "n", "unscored",
        "verdict" or "withheld" (why there is no value).
        """
        if figure not in FIGURES:
            raise unknown("figure", figure, list(FIGURES))
        cells = self._csv()
        shown = cells.pivot(index="method", columns="metric", values=figure)
        shown = shown.loc[list(dict.fromkeys(cells["method"])), list(dict.fromkeys(cells["metric"]))]
        labels = dict(zip(cells["method"], cells["label"], strict=True))
        twice = {label for label, count in Counter(labels.values()).items() if count > 1}
        return shown.rename(
            index={row: f"{label} ({row})" if label in twice else label for row, label in labels.items()}
        ).rename_axis("label")

    def results(self) -> "DataFrame":
        """A line per row, seed, benchmark and metric, sub-scores too, with its own interval: `results.jsonl`."""
        import pandas

        return pandas.read_json(self.folder / "results.jsonl", lines=True, dtype=False, convert_dates=False)

    def items(self, benchmark: str, seed: int | None = None) -> "DataFrame":
        """A line per item and row: what was asked, which picture, what the row said, and the parts of its score.

        Parts are columns "score/NAME"; "unscored" says why there are none. Where a judge was asked, "judge" lists per
        reply that was kept the question, the reply as it came, what was made of it, the model, its server, the USD and
        the run. Without `seed`, all seeds.
        """
        import pandas

        from reports.report import without

        with self.opened() as run:
            if benchmark not in run.manifest.benchmarks:
                raise unknown("benchmark of this run", benchmark, sorted(run.manifest.benchmarks))
            cells = [c for c in run.cells if c.benchmark == benchmark and c.done and seed in (None, c.seed)]
            if not cells:
                raise UsageError(f"{run.name} has no scores of {benchmark} with seed {seed}.")
            others = run.manifest.benchmarks.keys() - {benchmark}
            return pandas.DataFrame([line for cell in cells for line in _lines(cell, without(run, others))])

    def checkpoint(self, row: str, seed: int | None = None, base: str | Path | None = None) -> Path:
        """A folder with a row's trained model, in Hugging Face's layout; HarnessError if it is damaged.

        Adapters are merged into their base, in the store; `base` is where this lies, if it was moved since.
        """
        from harness.comparison.exporting import Made
        from harness.models.load import whole
        from harness.store.store import Store

        with self.opened() as run:
            return whole(Made.of(run, row, seed, Path(base) if base else None).model(), Store(run.store))

    @property
    def failed(self) -> list[str]:
        """What is not there, and why; empty where the comparison is complete."""
        with self.opened() as run:
            told = {
                (one.row, one.seed, one.benchmark): f"{one.label}, {one.benchmark}: {one.why}" for one in run.failed
            }
            cells = [(c.row, c.seed, c.benchmark, c.label) for c in run.missing]
            absent = [f"{label}, {name}, seed {seed}: not made yet" for row, seed, name, label in cells
                      if (row, seed, name) not in told]  # fmt: skip
            return [*told.values(), *absent]

    def _csv(self) -> "DataFrame":
        import pandas

        from reports.spreadsheet import unguarded

        if not (self.folder / "table.csv").is_file():
            raise UsageError(f"{self.folder} has no tables yet; its comparison goes on from where it was.")
        texts = dict.fromkeys(("method", "label", "benchmark", "metric", "verdict", "withheld", "testbed"), str)
        cells = pandas.read_csv(self.folder / "table.csv", dtype=texts, keep_default_na=False, na_values=[""])
        return cells.assign(**{name: cells[name].map(unguarded, na_action="ignore") for name in texts})

    def __str__(self) -> str:
        return (self.folder / "table.txt").read_text(encoding="utf-8")

    def _repr_html_(self) -> str:
        """For notebooks: where it lies, what testbed it is of, and the table."""
        beds = ", ".join(dict.fromkeys(self._csv()["testbed"]))
        table = self.table().to_html(float_format="{:.1f}".format, na_rep="–")
        return f"<p>{escape(str(self.folder))}, testbed {escape(beds)}</p>{table}"


def _lines(cell: "StoredCell", run: "Run") -> Iterator[dict[str, Any]]:
    """A cell's items with what was said to them and how that was scored, and what a judge said to it."""
    from harness.contracts.images import Places, resolve
    from harness.contracts.records import Item, Response, Score, Unscored
    from harness.scoring.heard import REPLIES, heard, kept
    from harness.system.jsonl import read_jsonl

    places = Places(cell.store, cell.data)
    said = {one.id: one for one in read_jsonl(Response, cell.file(cell.responses, "responses.jsonl"))}
    scores = {one.id: one for one in read_jsonl(Score | Unscored, cell.file(cell.score, "scores.jsonl"))}
    file = cell.file(cell.score, REPLIES)
    replies = kept(file) if file.is_file() else {}
    benchmark = run.benchmarks()[cell.benchmark] if replies else None
    for item in read_jsonl(Item, cell.file(cell.items, "items.jsonl")):
        score = scores[item.id]
        about = {"id": item.id, "unit": item.unit, "row": cell.row, "label": cell.label, "seed": cell.seed}
        asked = {"prompt": item.prompt, "image": resolve(item.image, places).path if item.image else ""}
        parts = {f"score/{name}": value for name, value in score.parts.items()} if isinstance(score, Score) else {}
        why = score.reason if isinstance(score, Unscored) else ""
        told = {"judge": [asdict(one) for one in heard(benchmark, item, said[item.id], replies)]} if benchmark else {}
        yield {**about, **asked, "response": said[item.id].text, **parts, "unscored": why, **told}


def _words(what: str, given: str | Sequence[str]) -> str:
    """Names, as the command line has them; UsageError for anything else."""
    texts = [given] if isinstance(given, str) else list(given) if isinstance(given, list | tuple) else [None]
    if not all(isinstance(text, str | Path) for text in texts):
        raise UsageError(f"{what} is {given!r}; give names, as a list or with commas between.")
    return ",".join(map(str, texts))


def _settings(given: Mapping[str, object] | Sequence[str]) -> list[str]:
    """The words of --set; UsageError for values that YAML does not have."""
    if not isinstance(given, Mapping):
        return [given] if isinstance(given, str) else list(given)
    try:
        return [f"{name}={dumps(value)}" for name, value in given.items()]
    except (TypeError, ValueError) as error:
        raise UsageError(f"set holds a value that is no plain one ({error}); give numbers, texts, lists.") from None


def _half(size: int | Literal["auto"]) -> int:
    """Of the prompts that are answered at once."""
    return 64 if size == "auto" else size // 2 or 2
