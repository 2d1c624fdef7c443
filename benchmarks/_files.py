"""Reading the official files: a missing or broken one is an error that names it and says what belongs there."""

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
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
    """The records of a JSON list (also as "data", "items" or "questions" of an object), of a file with one JSON
    object per line, or of a .csv or .tsv with a header, where all values are text. Each has the `needed` fields.
    """
    rows = table(path) if {".csv", ".tsv"} & set(path.suffixes) else parsed(path)
    if isinstance(rows, dict):
        lists = [rows[name] for name in ("data", "items", "questions") if isinstance(rows.get(name), list)]
        rows = lists[0] if lists else [rows]  # without a list: a file of one line
    if not isinstance(rows, list):
        raise UsageError(f"{path} should hold a list of records, one a line; it holds one {type(rows).__name__}.")
    return checked(path, rows, needed)


def checked(path: Path, rows: list[dict[str, Any]], needed: Sequence[str]) -> list[dict[str, Any]]:
    """The rows, each of which has the `needed` fields."""
    for number, row in enumerate(rows, 1):
        lacking = [field for field in needed if not isinstance(row, dict) or field not in row]
        if lacking or not isinstance(row, dict):
            raise UsageError(f"record {number} of {path} has no {' and no '.join(lacking) or 'fields'}.")
    return rows


def table(path: Path) -> list[dict[str, str]]:
    """The rows of a .csv or .tsv file as text, exactly as it stands there."""
    delimiter = "\t" if ".tsv" in path.suffixes else ","
    csv.field_size_limit(1 << 30)  # images are cells
    return list(csv.DictReader(io.StringIO(text_of(path), newline=""), delimiter=delimiter))


def spreadsheet(path: Path) -> list[dict[str, str]]:
    """The rows of a .xlsx, .tsv or .csv file as text; what pandas takes for a missing value is empty."""
    import pandas as pd  # slow to import, and listing benchmarks needs none of it

    try:
        if path.suffix == ".xlsx":
            frame = pd.read_excel(path, dtype=str)
        elif {".csv", ".tsv"} & set(path.suffixes):
            separator = "\t" if ".tsv" in path.suffixes else ","
            frame = pd.read_csv(path, sep=separator, dtype=str, encoding="utf-8-sig")
        else:
            raise UsageError(f"{path} is no .xlsx, .tsv or .csv file.")
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} cannot be read as a table: {error}.") from None
    return [{str(name): str(cell) for name, cell in row.items()} for row in frame.fillna("").to_dict("records")]


def responses(path: Path, fields: Sequence[str] = ("text",), prefix: str = "") -> Iterator[Response]:
    """The responses in an answer file by "<prefix><question_id>"; the text is in the first of `fields` there is."""
    for number, row in enumerate(records(path, ["question_id"]), 1):
        yield Response(f"{prefix}{row['question_id']}", said(path, number, row, fields), 0)


def said(path: Path, number: int, row: Mapping[str, Any], fields: Sequence[str]) -> str:
    """The text in the first of `fields` that record `number` has; a null is an empty response."""
    field = next((name for name in fields if name in row), None)
    if field is None:
        raise UsageError(f"record {number} of {path} has no {' and no '.join(fields)}.")
    return "" if row[field] is None else str(row[field])


def picture(folder: Path, stem: str) -> Path:
    """The image of that name, whatever its ending; the `.jpg` where there is none, for the error to name."""
    paths = [folder / f"{stem}{ending}" for ending in ENDINGS]
    return next((path for path in paths if path.exists()), paths[0])
