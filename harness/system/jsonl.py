"""Plain data as JSON, one line each: how records are written, and how they come back as they were."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any


def _fields(thing: Any) -> dict[str, Any]:
    """What is in a dataclass, by name; `asdict` copies it, which takes three times as long as all else."""
    if not is_dataclass(thing):
        raise TypeError(f"Object of type {type(thing).__name__} is not JSON serializable")
    return {field.name: getattr(thing, field.name) for field in fields(thing)}


_form: dict[str, Any] = {"sort_keys": True, "ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
_line = json.JSONEncoder(**_form).encode
_line_of_record = json.JSONEncoder(default=_fields, **_form).encode


def dumps(thing: object) -> str:
    """One line of JSON; keys sorted, floats exact, NaN refused."""
    record = is_dataclass(thing) and not isinstance(thing, type)
    return _line_of_record(thing) if record else _line(thing)


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter  # slow to import, and `harness --help` needs none of it

    return TypeAdapter(kind)


def loads(kind: Any, line: str) -> Any:
    """The `kind` (a dataclass or a union of them) written by `dumps`; raises ValueError where it is not one."""
    return _adapter(kind).validate_json(line)


def write_jsonl(path: Path, things: Iterable[object]) -> int:
    """Write one line per thing; returns how many."""
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for thing in things:
            file.write(dumps(thing) + "\n")
            count += 1
    return count


def read_jsonl(kind: Any, path: Path) -> Iterator[Any]:
    """The things written by `write_jsonl`, in order."""
    return (loads(kind, text) for _, text in lines_of(path))


def lines_of(path: Path, start: int = 0) -> Iterator[tuple[int, str]]:
    """The lines of a file from the one that begins at byte `start` on, each with where it begins."""
    from harness.system.untrusted import DATA, fits, opened  # it stands on this module

    with opened(path, limit=DATA) as file:
        file.seek(start)
        for line in file:
            text = line.decode("utf-8")
            fits(text, str(path))
            yield start, text
            start += len(line)
