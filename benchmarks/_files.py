"""Reading the official files: a missing or broken one is an error that names it and says what belongs there."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, time, timedelta
from pathlib import Path
from typing import Any

from harness.contracts.records import Response
from harness.system import archives, untrusted
from harness.system.errors import UsageError

MOST_LINES, MOST_CELLS = 2_000_000, 20_000_000  # of a table
WHOLE = 1e15  # from here on floats are not exact to the unit
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
    """The rows of a .csv or .tsv file as text, exactly as it stands there: "None", "NA" and "007" are themselves.

    UsageError for a row that is cut or too long, and for a quotation mark that is never closed.
    """
    csv.field_size_limit(1 << 30)  # images are cells
    reader = csv.reader(_lines(path), delimiter="\t" if ".tsv" in path.suffixes else ",", strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise UsageError(f"line {reader.line_num} of {path} cannot be read as a table: {error}.") from None
    heads = _heads(path, rows[0][1] if rows else [])
    for line, row in rows:
        if len(row) != len(heads):
            raise UsageError(f"the row that ends in line {line} of {path} has {len(row)} cells, not {len(heads)}.")
    return [dict(zip(heads, row, strict=True)) for _, row in rows[1:]]


def spreadsheet(path: Path) -> list[dict[str, str]]:
    """The rows of a .xlsx, .tsv or .csv file as text, exactly as it stands there; an empty cell is empty text."""
    if path.suffix != ".xlsx":
        if not {".csv", ".tsv"} & set(path.suffixes):
            raise UsageError(f"{path} is no .xlsx, .tsv or .csv file.")
        return table(path)
    first, *rows = archives.workbook(path) or [[]]
    heads = _heads(path, [_cell(path, 1, cell) for cell in first])
    found = []
    for number, row in enumerate(rows, 2):
        if len(row) > len(heads):
            raise UsageError(f"row {number} of {path} has {len(row)} cells under {len(heads)} headings.")
        cells = [_cell(path, number, cell) for cell in row]
        if any(cells):
            found.append(dict(zip(heads, [*cells, *[""] * (len(heads) - len(cells))], strict=True)))
    return found


def _heads(path: Path, names: list[str]) -> list[str]:
    """The names of the columns; UsageError where one stands there twice, for then one column would hide the other."""
    twice = [name for name in dict.fromkeys(names) if name and names.count(name) > 1]
    if twice:
        raise UsageError(f"{path} has two columns {twice[0]!r}; take one of them out.")
    return names


def _lines(path: Path) -> io.StringIO:
    """The text of a table, which as cells takes many times its size."""
    text = text_of(path)
    if text.count("\n") > MOST_LINES or text.count(",") + text.count("\t") > MOST_CELLS:
        raise UsageError(
            f"{path} has more than {MOST_LINES:,} lines or {MOST_CELLS:,} cells; no such file is so large."
        )
    return io.StringIO(text, newline="")


def _cell(path: Path, row: int, value: object) -> str:
    """The text of a workbook's cell. The number 3.0 is 3, as it is shown; the text "3.0" stays."""
    if value is None:
        return ""
    if isinstance(value, date | time | timedelta):
        raise UsageError(
            f"row {row} of {path} holds the date {value}, so what was written there is lost; format the column as text."
        )
    whole = isinstance(value, float) and value.is_integer() and abs(value) < WHOLE
    return str(int(value)) if isinstance(value, float) and whole else str(value)


def name_of(path: Path, number: int, value: object) -> str:
    """The id in a record; 3.0 is 3, as a JSON writer may have it. UsageError where there is none."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if value is None or value == "" or isinstance(value, bool | dict | list):
        raise UsageError(f"record {number} of {path} has no id: {value!r}.")
    return str(value)


def text_in(where: str, value: object) -> str:
    """A text that must be there: a right answer, a label. A number is its digits; null or a list is an UsageError."""
    if value is None or isinstance(value, dict | list) or value != value:
        raise UsageError(f"{where} should be a text and is {value!r}.")
    return str(value)


def responses(path: Path, fields: Sequence[str] = ("text",), prefix: str = "") -> Iterator[Response]:
    """The responses in an answer file by "<prefix><question_id>"; the text is in the first of `fields` there is."""
    for number, row in enumerate(records(path, ["question_id"]), 1):
        yield Response(f"{prefix}{name_of(path, number, row['question_id'])}", said(path, number, row, fields), 0)


def said(path: Path, number: int, row: Mapping[str, Any], fields: Sequence[str]) -> str:
    """The text in the first of `fields` that record `number` has; a null is an empty response."""
    field = next((name for name in fields if name in row), None)
    if field is None:
        raise UsageError(f"record {number} of {path} has no {' and no '.join(fields)}.")
    return "" if row[field] is None else text_in(f'"{field}" of record {number} of {path}', row[field])


def picture(folder: Path, stem: str) -> Path:
    """The image of that name, whatever its ending; the `.jpg` where there is none, for the error to name."""
    paths = [folder / f"{stem}{ending}" for ending in ENDINGS]
    return next((path for path in paths if path.exists()), paths[0])
