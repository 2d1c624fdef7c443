"""What a run's files must be before anything is computed from them: their shape, field by field."""

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from harness.store.manifest import STAGE
from harness.system.errors import UsageError
from harness.system.files import put
from harness.system.untrusted import json_object


def _stage(name: str) -> str:
    if not STAGE.fullmatch(name):
        raise ValueError("a stage's name is KIND/KEY")
    return name


def _finite(value: Any) -> Any:
    if type(value) is float and not math.isfinite(value):
        raise ValueError("a figure must be finite")
    return value


StageName = Annotated[str, AfterValidator(_stage)]
Options = dict[str, Any]


class _Known(BaseModel):
    """Checks the fields that are read, and lets others be."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)


class ScoredCell(_Known):
    """One cell of the table and the stages behind it, there or not."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    row: str
    """The row's name."""
    label: str
    """What the row is called in tables."""
    seed: int
    """Which base model, split and order of the data."""
    benchmark: str
    """The benchmark's name."""
    score: StageName
    """The stage with its scores."""
    responses: StageName
    """The stage with what the model said."""
    items: StageName
    """The stage with what it was asked."""
    crosscheck: StageName | Literal[""] = ""
    """The stage with lmms-eval's scores of the same responses; "" where nobody asked for them."""


class Trained(_Known):
    """What made the policy of a row and seed."""

    row: str
    """The row's name."""
    seed: int
    """The seed."""
    stages: list[StageName] = Field(min_length=1)
    """Its stages in the order they were made, its probe and its lens the last."""


class Shared(_Known):
    """How many of a benchmark's pictures are among the training pictures."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    pictures: int
    """Its different pictures."""
    files: int
    """Of these, the same file."""
    coco: int
    """Another file of the same COCO id."""

    @property
    def found(self) -> int:
        """Both together."""
        return self.files + self.coco


class Failed(_Known):
    """A cell that has no scores, or a stage beside the table ("lens", "crosscheck") that was not made, and why."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    row: str
    """The row's name."""
    label: str
    """What the row is called in tables."""
    seed: int
    """The seed."""
    benchmark: str
    """The benchmark's name, or what the stage beside the table is called."""
    stage: str
    """The title of the step that failed."""
    why: str
    """The reason, a sentence."""


class Asked(_Known):
    """A row as it was asked for."""

    name: str
    """The method's name, or its file."""
    options: Options = {}
    """The options that were given."""
    row: str = ""
    """The row's name where it is not the method's."""
    training: Options = {}
    """The training arguments that were given for this row alone."""


class Agreed(_Known):
    """The same prompts through another backend and through transformers, before any row."""

    backend: str
    """The other backend's name."""
    prompts: int
    """How many were asked."""
    same: int
    """How many responses are the same, token by token."""
    first: str = ""
    """The first difference."""
    tokens: int
    """How many tokens of transformers' responses both gave log-probs to."""
    largest: Annotated[float, AfterValidator(_finite)]
    """The largest difference between these, in nats."""
    bound: Annotated[float, AfterValidator(_finite)]
    """The most that it may be."""
    flips: dict[str, Annotated[list[int], Field(min_length=2, max_length=2)]] = {}
    """By benchmark, how many responses have other words, of how many."""
    adapted: Annotated[float, AfterValidator(_finite)] | None = None
    """By how many nats at most a random adapter moves a log-prob; None where adapters are merged for the backend."""


class Manifest(_Known):
    """`manifest.json` of a run: what must be known to repeat it, and the stages that its tables are made of.

    Fields stand here in the order of the file. Those with a default may be missing from a file of an older version;
    fields of a later one are kept.
    """

    harness: str = "not known"
    """The version of this package."""
    source: dict[str, Any] = {}
    """`commit` of the checkout and whether files `changed` since; empty where it was none."""
    python: str = ""
    """Python's version."""
    platform: str = ""
    """The machine's operating system."""
    packages: dict[str, Any] = {}
    """Package -> the version that was installed."""
    command: list[str] = []
    """The words of the command, without keys."""
    store: str
    """Where the stages lie, from the run's folder."""
    request: str = ""
    """20 hex digits that stand for everything that was asked (`harness.comparison.run_folder.identity`)."""
    finished: bool = True
    """Whether all that was asked is there."""
    failed: list[Failed] = []
    """What could not be made."""
    testbed: str
    """The testbed's name."""
    synthetic: bool
    """Whether its data are made up."""
    protocol: str
    """How benchmarks are asked: "llava" or "lmms"."""
    judge: str = ""
    """Who judges responses."""
    writer: str = ""
    """Who writes training text."""
    judging: Options = {}
    """How the judge is asked."""
    writing: Options = {}
    """How the writer is asked."""
    data: str
    """The source of the training examples, or the user's file."""
    folder: str = ""
    """The folder of official files; "" where the testbed makes its own."""
    seeds: list[int] = []
    """The seeds."""
    rows: dict[str, Asked]
    """Row -> what was asked for, without the baseline and the controls."""
    benchmarks: dict[str, Options]
    """Benchmark -> its options on this testbed."""
    own: dict[str, str] = {}
    """Benchmark in a file of the user's -> the sha256 of that file."""
    judges: dict[str, Any]
    """Judged benchmark -> the judge's identity."""
    setting: Options = {}
    """Everything of the testbed that can change a result."""
    architectures: dict[str, dict[str, int]] = {}
    """Seed -> the sizes of its base model."""
    models: dict[str, Any]
    """Seed -> the identity of its base model."""
    bases: dict[str, str] = {}
    """Seed -> the folder that its base model lay in."""
    published: dict[str, str] = {}
    """Row that nobody trained here -> the identity of its model."""
    split_lock: dict[str, Any]
    """Title of a split -> the digest of its examples, as far as it is made."""
    fetched: dict[str, str] = {}
    """Source or benchmark -> owner/name@commit of what `harness data where --download` fetched of it."""
    shared: dict[str, Shared] = {}
    """Benchmark -> how many of its pictures were trained on; empty where nothing was."""
    parity: Agreed | None = None
    """How far another backend agrees with transformers; None where that responds, or nobody has looked yet."""
    report: str = ""
    """The key of the stage with the tables."""
    cells: list[ScoredCell]
    """The table's cells."""
    trained: list[Trained]
    """The policies that were trained."""
    stages: list[StageName]
    """Every stage of the plan."""

    @classmethod
    def read(cls, file: Path) -> "Manifest":
        """UsageError that names the file, and the field where it is not what this version writes."""
        return validated(MANIFEST, json_object(file), file)

    def unfinished(self) -> "Manifest":
        """The same while its comparison is under way."""
        return self.model_copy(update={"finished": False})

    def plain(self) -> dict[str, Any]:
        """The fields as JSON has them; those that were missing in the file are missing here too."""
        return self.model_dump(exclude_unset=True)

    def write(self, file: Path) -> None:
        """Whole or not at all; equal manifests give equal bytes."""
        put(file, json.dumps(self.plain(), indent=1) + "\n")


class _Took(_Known):
    stage: str
    title: str
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None

    __pydantic_extra__: dict[str, Annotated[Any, AfterValidator(_finite)]]


class _Profile(_Known):
    stages: list[_Took] = []


class _Unit(_Known):
    id: str
    cluster: str
    parts: dict[str, Annotated[float, Field(allow_inf_nan=False)]]


class _Units(_Known):
    units: list[_Unit]
    unscored: dict[str, str]


class _Judged(_Known):
    values: dict[str, list[Annotated[float, Field(allow_inf_nan=False)]]]
    name: str = ""
    servers: list[str] = []


MANIFEST = TypeAdapter(Manifest)
PROFILE, UNITS, JUDGED = (TypeAdapter[Any](kind) for kind in (_Profile, _Units, _Judged))
Shape = TypeVar("Shape")


def checked(shape: "TypeAdapter[Any]", value: Any, file: Path) -> Any:
    """The value, if it has the shape; UsageError that names the file and the field otherwise."""
    validated(shape, value, file)
    return value


def validated(shape: "TypeAdapter[Shape]", value: Any, file: Path) -> Shape:
    """What the shape makes of the value; UsageError as in `checked`."""
    try:
        return shape.validate_python(value)
    except ValidationError as error:
        lacking = [
            str(wrong["loc"][0]) for wrong in error.errors() if wrong["type"] == "missing" and len(wrong["loc"]) == 1
        ]
        if lacking:
            raise UsageError(
                f"{file} has no {', '.join(lacking)}: an older version wrote it; run the comparison again."
            ) from None
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        what = f"{first['msg']} (given: {str(first['input'])[:60]!r})"
        raise UsageError(
            f"{file} is not what this version writes: {where}: {what}; run the comparison again."
        ) from None
