"""Who makes models respond: a file per engine (`harness.contracts.backend`)."""

from pathlib import Path
from typing import Any

from harness.contracts import plugins
from harness.contracts.backend import Backend
from harness.contracts.settings import Generation

PACKAGE = "harness.backends"


def chosen(generation: Generation) -> Backend:
    """The backend of a testbed; UsageError where there is none of that name, or it takes no such option."""
    made: Backend = plugins.make(PACKAGE, generation.backend, Backend, generation.options)  # type: ignore[type-abstract]
    return made


def file_of(generation: Generation) -> Path:
    """The file that it is written in, whose code decides what it generates."""
    return plugins.source(PACKAGE, generation.backend)


def identity(generation: Generation) -> dict[str, Any]:
    """What of it may change a token, for keys: its name, its options, and what it says of itself."""
    return {"name": plugins.called(generation.backend), **generation.options, **chosen(generation).identity()}
