"""Reading the official files: a missing or broken one is an error that names it and says what belongs there."""

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.types import Response, UsageError

ENDINGS = (".jpg", ".png", ".jpeg")


def required(folder: Path, name: str, layout: str) -> Path:
    """The file or folder of that name; `layout` is the benchmark's description of its files."""
    path = folder / name
    if not path.exists():
        raise UsageError(f"there is no {path}. The folder should hold: {layout}")
    return path


def read_json(folder: Path, name: str, layout: str) -> Any:
    """The content of a JSON file, or a list where it has one JSON value per line."""
    return parsed(required(folder, name, layout), f"The folder should hold: {layout}")


def text_of(path: Path) -> str:
    """The text of a file, unpacked where it ends in .gz, without a byte order mark; every line ends in \\n."""
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except (gzip.BadGzipFile, EOFError, UnicodeDecodeError, IsADirectoryError) as error:
        raise UsageError(f"{path} cannot be read: {error}.") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parsed(path: Path, hint: str = "") -> Any:
    """The JSON value in a file, or the list of them where it has one per line."""
    text = text_of(path)
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return [json.loads(line) for line in text.split("\n") if line.strip()]  # not splitlines: U+2028 ends no line
    except ValueError as error:
        raise UsageError(f"{path} is not JSON ({error}). {hint}".rstrip()) from None


def records(path: Path, needed: Sequence[str]) -> list[dict[str, Any]]:
    """The records of a JSON list, of a file with one JSON object per line, or of a .csv or .tsv with a header.

    Every one has the `needed` fields; in tables all values are text.
    """
    if {".csv", ".tsv"} & set(path.suffixes):
        rows: Any = table(path)
    else:
        rows = parsed(path)
        rows = [rows] if isinstance(rows, dict) and set(needed) <= rows.keys() else rows
    if not isinstance(rows, list):
        raise UsageError(f"{path} should hold a list of records, one a line; it holds one {type(rows).__name__}.")
    for number, row in enumerate(rows, 1):
        lacking = [field for field in needed if not isinstance(row, dict) or field not in row]
        if lacking:
            raise UsageError(f"record {number} of {path} has no {lacking[0]}.")
    return rows


def table(path: Path) -> list[dict[str, str]]:
    """The rows of a .csv or .tsv file as text."""
    import csv
    import io

    csv.field_size_limit(1 << 30)  # images are cells
    delimiter = "\t" if ".tsv" in path.suffixes else ","
    return list(csv.DictReader(io.StringIO(text_of(path), newline=""), delimiter=delimiter))


def responses(path: Path, fields: Sequence[str] = ("text",), prefix: str = "") -> Iterator[Response]:
    """The responses in an answer file by "<prefix><question_id>"; the text is in the first of `fields` there is."""
    for number, row in enumerate(records(path, ["question_id"]), 1):
        field = next((name for name in fields if name in row), None)
        if field is None:
            raise UsageError(f"record {number} of {path} has no {' and no '.join(fields)}.")
        text = row[field]
        yield Response(f"{prefix}{row['question_id']}", "" if text is None else str(text), 0)


def picture(folder: Path, stem: str) -> Path:
    """The image of that name, whatever its ending; the `.jpg` where there is none, for the error to name."""
    paths = [folder / f"{stem}{ending}" for ending in ENDINGS]
    return next((path for path in paths if path.exists()), paths[0])
