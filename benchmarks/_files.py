"""Reading the official files: a missing or broken one is an error that names it and says what belongs there."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import archives, untrusted
from harness.types import Response, UsageError

MOST_LINES, MOST_CELLS = 2_000_000, 20_000_000  # of a table
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
    return untrusted.text(path).replace("\r\n", "\n").replace("\r", "\n")


def parsed(path: Path, hint: str = "") -> Any:
    """The JSON value in a file, or the list of them where it has one per line."""
    return untrusted.json_or_lines(path, hint=hint)


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
    try:
        return list(csv.DictReader(_lines(path), delimiter=delimiter))
    except csv.Error as error:
        raise UsageError(f"{path} cannot be read as a table: {error}.") from None


def spreadsheet(path: Path) -> list[dict[str, str]]:
    """The rows of a .xlsx, .tsv or .csv file as text, exactly as it stands there; an empty cell is empty text."""
    if path.suffix == ".xlsx":
        heads, *rows = archives.workbook(path) or [[]]
        return [dict(zip(map(_cell, heads), [*map(_cell, row), *[""] * len(heads)], strict=False)) for row in rows]
    if not {".csv", ".tsv"} & set(path.suffixes):
        raise UsageError(f"{path} is no .xlsx, .tsv or .csv file.")
    import pandas as pd  # slow to import, and listing benchmarks needs none of it

    separator = "\t" if ".tsv" in path.suffixes else ","
    try:
        frame = pd.read_csv(_lines(path), sep=separator, dtype=str, na_filter=False)
    except ValueError as error:
        raise UsageError(f"{path} cannot be read as a table: {error}.") from None
    return [{str(name): str(cell) for name, cell in row.items()} for row in frame.fillna("").to_dict("records")]


def _lines(path: Path) -> io.StringIO:
    """The text of a table, which as cells takes many times its size."""
    text = text_of(path)
    if text.count("\n") > MOST_LINES or text.count(",") + text.count("\t") > MOST_CELLS:
        raise UsageError(
            f"{path} has more than {MOST_LINES:,} lines or {MOST_CELLS:,} cells; no such file is so large."
        )
    return io.StringIO(text, newline="")


def _cell(value: object) -> str:
    """The text of a workbook's cell; 3.0 is 3, as it is shown."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


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
