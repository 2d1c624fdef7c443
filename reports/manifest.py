"""What a run's files must be before anything is computed from them: their shape, field by field."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from harness.manifest import STAGE
from harness.types import UsageError


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

    model_config = ConfigDict(strict=True, extra="allow")


class _Cell(_Known):
    row: str
    label: str
    seed: int
    benchmark: str
    score: StageName
    responses: StageName
    items: StageName
    crosscheck: StageName | Literal[""] = ""

    model_config = ConfigDict(strict=True, extra="forbid")


class _Trained(_Known):
    row: str
    seed: int
    stages: list[StageName] = Field(min_length=1)


class Failed(_Known):
    """A cell that has no scores, or a stage beside the table ("lens", "crosscheck") that was not made, and why."""

    row: str
    label: str
    seed: int
    benchmark: str
    stage: str
    why: str

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class _Row(_Known):
    name: str
    options: Options = {}


class _Manifest(_Known):
    testbed: str
    synthetic: bool
    protocol: str
    data: str
    store: str
    split_lock: dict[str, Any]
    models: dict[str, Any]
    setting: Options = {}
    architectures: dict[str, dict[str, int]] = {}
    judges: dict[str, Any]
    benchmarks: dict[str, Options]
    own: dict[str, str] = {}
    rows: dict[str, _Row]
    trained: list[_Trained]
    cells: list[_Cell]
    stages: list[StageName]
    source: Options = {}
    packages: dict[str, Any] = {}
    failed: list[Failed] = []
    finished: bool = True


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


MANIFEST, PROFILE, UNITS, JUDGED = (TypeAdapter(kind) for kind in (_Manifest, _Profile, _Units, _Judged))


def checked(shape: "TypeAdapter[Any]", value: Any, file: Path) -> Any:
    """The value, if it has the shape; UsageError that names the file and the field otherwise."""
    try:
        shape.validate_python(value)
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
    return value
