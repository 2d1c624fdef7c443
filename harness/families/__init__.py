"""The classes of models that are known, each a file of its `model_type`'s name (`harness.contracts.family`)."""

import inspect
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.contracts import plugins
from harness.contracts.family import Family
from harness.store.closure import SOURCES

PACKAGE = "harness.families"


def of(model: Any) -> Family:
    """The family of a transformers model or config, by its `model_type`."""
    return named(getattr(model, "config", model).model_type)


def named(model_type: str) -> Family:
    """The family of that `model_type`; UsageError, which lists those there are, where there is none."""
    file = plugins.source(PACKAGE, model_type)
    return _made(file, SOURCES.digest(file) if (PACKAGE, model_type) in plugins.adopted() else "")


def file_of(family: Family) -> Path:
    """The file that a family is written in: its code decides what every model of it makes."""
    return Path(inspect.getfile(type(family)))


@lru_cache
def _made(file: Path, edition: str) -> Family:
    kind: type[Family] = plugins.plugin(PACKAGE, file.stem, Family)  # type: ignore[type-abstract]
    return kind()
