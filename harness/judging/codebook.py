"""The vision error codebook (nSFT paper, Sec. 3.3): which errors a writer may name, by level. A user can replace it.

Whoever lists errors, for nSFT's corrections or for the lens, does it in one form: a JSON object with "errors", each
with a level, a type and its evidence.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.contracts.records import VisionError
from harness.system.errors import UsageError
from harness.system.untrusted import parse_json
from harness.system.yamls import yaml_file

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
    """The JSON object in a writer's reply, which may stand in prose; ValueError with the reason where there is none."""
    start, end = reply.find("{"), reply.rfind("}") + 1
    try:
        told = parse_json(reply[start:end] if 0 <= start < end else "null", "it")
    except UsageError as error:
        raise ValueError(str(error).rstrip(".")) from None
    if not isinstance(told, dict):
        raise ValueError("it holds no JSON object")
    return told


def objects_in(told: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The list of objects under a name of a writer's JSON; ValueError for anything else."""
    rows = told.get(name)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f'its "{name}" are no list of objects')
    return rows


def text_in(row: dict[str, Any], name: str) -> str:
    """The text under a name of a writer's JSON, without blanks around it; a number is its digits.

    ValueError for whatever is no text: null is never the word None.
    """
    value = row.get(name)
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool) or not isinstance(value, int | float):
        kind = {dict: "an object", list: "a list", bool: "true or false"}.get(type(value), "null")
        raise ValueError(f'a "{name}" is {kind if name in row else "missing"}, no text')
    return json.dumps(value)


def errors_in(told: dict[str, Any], book: Codebook) -> tuple[VisionError, ...]:
    """The errors a writer lists whose type is in the book, at the book's level; all of them where the book is empty.

    A level or evidence that is missing or null is empty. ValueError where the list is not in the form asked for.
    """
    levels = {name.casefold(): (level, name) for level, types in book.items() for name in types}
    found = []
    for error in objects_in(told, "errors"):
        kind = text_in(error, "type")
        if book and kind.casefold() not in levels:
            continue
        own, evidence = ("" if error.get(name) is None else text_in(error, name) for name in ("level", "evidence"))
        level, name = levels.get(kind.casefold(), (own, kind))
        found.append(VisionError(level, name, evidence))
    return tuple(found)
