"""What a benchmark is: items with prompts, a score for each response, metrics as functions of summed parts.

A metric is computed from *sums* of the scores' parts and from nothing else. So one function gives the point value,
every bootstrap replicate (whole arrays at once) and every subset, and a failed judgement cannot slip into a mean.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np

from harness.contracts import plugins
from harness.contracts.judge import Judge
from harness.contracts.offered import Offered
from harness.contracts.records import Image, Item, Response, Score, Unscored
from harness.system.errors import HarnessError, UsageError

if TYPE_CHECKING:
    from harness.contracts.source import Source

Group = Literal["vqa", "comprehension", "hallucination"]
Totals = Mapping[str, Any]  # part name -> float or array; a missing part is a KeyError
SLACK = 1e-9  # how far rounding may take a value off its scale, relatively


@dataclass(frozen=True, slots=True)
class Metric:
    """One number a benchmark reports. `id` is unambiguous ("pope/f1_macro3"), `scale` its (worst, best) ends.

    `chance` is the value of guessing, where that is defined; `digits` is what the papers print. `whole`: it is one
    figure of the whole set that no sum of parts gives; on arrays it is NaN, so it has no interval and is not tested.
    """

    id: str
    label: str
    scale: tuple[float, float]
    digits: int = 1
    chance: float | None = None
    whole: bool = False

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value is better: the best end of the scale is the larger one."""
        return self.scale[1] > self.scale[0]


@dataclass(frozen=True, slots=True)
class Unit:
    """What is resampled as one: items scored together. Units of one `cluster` (an image) are not independent."""

    id: str
    cluster: str
    parts: dict[str, float]


class Images(Protocol):
    """Where a benchmark takes its pictures from; gives them their identity."""

    def at(self, path: Path) -> Image:
        """The picture in a file; raises UsageError where there is none."""
        ...

    def of(self, data: bytes) -> Image:
        """A picture that came inside a record (base64, parquet)."""
        ...


@dataclass(frozen=True, slots=True)
class Files:
    """Published files by the name they were given ("" where it was a path alone); `extras` are named by --option."""

    questions: Mapping[str, Path]
    answers: Mapping[str, Path]
    extras: Mapping[str, Path]

    def one(self, kind: Literal["questions", "answers"]) -> Path:
        """The only file of a kind; a UsageError where there is none or several."""
        given: Mapping[str, Path] = getattr(self, kind)
        if len(given) != 1:
            raise UsageError(f"this benchmark reads one --{kind} PATH and {len(given) or 'none'} was given.")
        return next(iter(given.values()))


@dataclass(frozen=True, slots=True)
class Published:
    """What published files hold: items without pictures or prompts, and responses whose ids are those of items.

    Nothing is left out or joined here: missing, duplicate and extra ids are found by who scores. `judge` replies
    with the verdicts that were published too. `official` are figures that sums of scores do not give, because the
    official scorer puts a number where there is no verdict or rounds on the way.
    """

    items: Sequence[Item]
    responses: Sequence[Response]
    judge: Judge | None = None
    official: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Benchmark(Offered):
    """One scored evaluation set. A file in benchmarks/ defines one subclass; its fields are its options.

    `metrics[0]` is the column of the paper's table. `layout` says which files `items` reads, `offered` and `fetch`
    where they come from (`Offered`), for the error when they are missing. `official_n` counts the items of the official
    set (0: there is none), `protocol` says how the model is asked. `extras` are the files that
    `harness score --option NAME=PATH` may name.
    """

    label: ClassVar[str]
    group: ClassVar[Group]
    metrics: ClassVar[tuple[Metric, ...]]
    max_new_tokens: ClassVar[int]
    official_n: ClassVar[int]
    protocol: ClassVar[str]
    judged: ClassVar[bool] = False
    extras: ClassVar[Mapping[str, str]] = {}  # name -> what the file holds
    heldout: ClassVar[bool] = False  # items are held-out examples of the comparison's source, the option `source`
    missing_is_wrong: ClassVar[bool] = False  # whether the official scorer counts an item without a response

    @property
    def official_units(self) -> int:
        """How many units the official set has with these options (0: there is none); by default one for each item."""
        return self.official_n

    @property
    def ends(self) -> tuple[float, float]:
        """The worst and the best value that `metrics[0]` can have with these options; by default its scale."""
        return self.metrics[0].scale

    def items(self, folder: Path, images: Images) -> Iterator[Item]:
        """The items in `folder`, in the official order; raises UsageError that names a missing file."""
        raise NotImplementedError

    def stratum(self, item: Item) -> str:
        """The group of which a part of the items keeps its share (`--limit`); by default all are of one."""
        return ""

    def score(self, item: Item, response: Response, judge: Judge | None) -> Score | Unscored:
        """The official score of one response, as additive parts; no exception for any text."""
        raise NotImplementedError

    def units(self, scored: Sequence[tuple[Item, Score]]) -> list[Unit]:
        """Scores joined to what is resampled as one; by default every item is its own unit."""
        return [Unit(item.id, cluster(item), score.parts) for item, score in scored]

    def compute(self, totals: Totals) -> dict[str, Any]:
        """Metric id -> value from summed parts; works on floats and, elementwise, on arrays."""
        raise NotImplementedError

    def published(self, files: Files) -> Published:
        """Items and responses from answers in the official format, for `harness score`; raises UsageError."""
        raise UsageError(f"{self.label} cannot read published answers.")

    def answers(self, items: Sequence[Item], texts: Mapping[str, str]) -> dict[str, str]:
        """Responses, `texts` by the ids of their items, as files that the official scorer reads: name -> content.

        By default LLaVA's: a JSON object per line with question_id, prompt and text.
        """
        rows = ({"question_id": item.id, "prompt": item.prompt, "text": texts[item.id]} for item in items)
        return {"answers.jsonl": "".join(map(json_line, rows))}

    def official(self, totals: Mapping[str, float]) -> dict[str, float]:
        """The figures the official scorer prints, by its names, on its scale and to its last digit."""
        return {}


def json_line(row: Mapping[str, Any]) -> str:
    """A line of JSON, its fields in their order."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def cluster(item: Item) -> str:
    """What an item shares with others: its image, or itself where it has none."""
    return item.image.sha256 if item.image else item.id


def totals(units: Sequence[Unit]) -> dict[str, float]:
    """Exact sums of every part, independent of order (math.fsum)."""
    names = sorted({name for unit in units for name in unit.parts})
    return {name: math.fsum(unit.parts.get(name, 0.0) for unit in units) for name in names}


def computed(benchmark: Benchmark, sums: Mapping[str, float]) -> dict[str, float]:
    """Metric id -> value; HarnessError where one that the benchmark declares does not lie on its own scale."""
    values = {id: float(value) for id, value in benchmark.compute(sums).items()}
    for metric in benchmark.metrics:
        value, (low, high) = values.get(metric.id, math.nan), sorted(metric.scale)
        nearest = min(max(value, low), high)
        if abs(value - nearest) > SLACK * max(1, abs(nearest)):
            raise HarnessError(
                f"{metric.id} comes out as {value:.6g}, and its own scale goes from {low:g} to {high:g}; correct "
                f"{type(benchmark).__name__}.compute or the scale."
            )
    return values


def ratio(numerator: Any, denominator: Any, scale: float = 100.0) -> Any:
    """scale * numerator / denominator, elementwise; NaN where the denominator is 0."""
    over = np.asarray(denominator, dtype=float)
    value = scale * np.divide(numerator, over, out=np.full_like(over + numerator, np.nan), where=over != 0)
    return float(value) if np.ndim(value) == 0 else value


def folder_of(name: str, home: Path | None, source: "Source | None" = None) -> Path:
    """Where a benchmark's files are: beside an outside file of its name, else in a testbed's `home`.

    With a `source`, those of a benchmark on held-out examples are the source's own, where it has some.
    """
    if source and plugins.plugin("benchmarks", name, Benchmark).heldout and source.heldout:
        return source.heldout
    return plugins.own_folder("benchmarks", name) or (home or Path()).joinpath("benchmarks", *name.split(":"))


class Named(Protocol):
    """What names a benchmark with its options: what identifies a stage about one."""

    @property
    def benchmark(self) -> str:
        """Its name."""
        ...

    @property
    def options(self) -> dict[str, Any]:
        """Its options on the testbed."""
        ...


def benchmark_of(named: Named) -> Benchmark:
    """The benchmark with its options set."""
    made: Benchmark = plugins.make("benchmarks", named.benchmark, Benchmark, named.options)
    return made
