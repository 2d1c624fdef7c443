"""The vision error codebook (nSFT paper, Sec. 3.3): which errors a writer may name, by level. A user can replace it.

Whoever lists errors, for nSFT's corrections or for the lens, does it in one form: a JSON object with "errors", each
with a level, a type and its evidence.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.types import UsageError, VisionError
from harness.yamls import yaml_file

SHIPPED = Path(__file__).with_name("codebook.yaml")
NONE = "none"
Codebook = dict[str, dict[str, str]]  # level -> error type -> definition


def read_codebook(path: str | Path) -> Codebook:
    """The codebook in a YAML file; raises UsageError where it is none, or has one type twice."""
    book = yaml_file(Path(path).expanduser(), "codebook")
    if not isinstance(book, dict) or not all(isinstance(types, dict) and types for types in book.values()):
        raise UsageError(f"codebook: {path} must map a level to error types with definitions, as {SHIPPED} does.")
    found: Codebook = {str(level): {str(k): str(says) for k, says in types.items()} for level, types in book.items()}
    names = [name for types in found.values() for name in types]
    if len(names) != len(set(names)):
        raise UsageError(f"codebook: {path} has an error type under two levels; give each a name of its own.")
    return found


def common(paths: Iterable[str]) -> Codebook:
    """The codebook by which rows are compared: the first that one of them names, else ours."""
    return read_codebook(next((path for path in paths if path and path != NONE), SHIPPED))


def json_in(reply: str) -> dict[str, Any]:
    """The JSON object in a writer's reply, which may stand in prose; raises ValueError where there is none."""
    try:
        found = json.loads(reply[reply.find("{") : reply.rfind("}") + 1])
    except RecursionError:
        raise ValueError("brackets without end") from None
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def errors_in(told: dict[str, Any], book: Codebook) -> tuple[VisionError, ...]:
    """The errors a writer lists whose type is in the book, at the book's level; all of them where the book is empty.

    Raises KeyError or TypeError where the list is not in the form asked for.
    """
    levels = {name.casefold(): (level, name) for level, types in book.items() for name in types}
    found = []
    for error in told["errors"]:
        said = str(error["type"]).strip()
        if book and said.casefold() not in levels:
            continue
        level, name = levels.get(said.casefold(), (str(error.get("level", "")), said))
        found.append(VisionError(level, name, str(error.get("evidence", ""))))
    return tuple(found)
