"""The rows of a data file or folder, whatever its format: JSON, JSON lines, parquet, a folder of `datasets`.

A table holds pictures in its cells; a row has `Embedded` in their place.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from harness.contracts.pictures import Embedded
from harness.system.errors import UsageError
from harness.system.pieces import Unclear, json_pieces
from harness.system.untrusted import json_or_lines, plain

TEXTS, TABLES = (".json", ".jsonl"), (".parquet",)
SAVED = ("dataset_info.json", "dataset_dict.json")  # what `datasets.save_to_disk` leaves in a folder
BATCH = 64  # rows in memory at once
EXTRA = "pip install 'vlm-alignment-harness[lmms]'"

Made = TypeVar("Made")
Take = Callable[[int, int], list[dict[str, Any]]]  # (from, to) of a table -> its rows, pictures as bytes


def is_data(path: Path) -> bool:
    """Whether `rows` can read what is there, by its name and, of a folder, by what is in it."""
    if path.is_dir():
        return any((path / name).is_file() for name in SAVED) or any(path.rglob("*.parquet"))
    return path.suffix in (*TEXTS, *TABLES)


def each(path: Path, make: Callable[[Any], Made]) -> list[Made]:
    """What `make` makes of every row, in order, no more than a piece of the file in memory beside it.

    UsageError, which names the file, where it is none of the formats or too much.
    """
    if path.is_file() and path.suffix in TEXTS:
        try:
            return [make(row) for row in json_pieces(path)]
        except Unclear:  # as a whole it may be right, or is told what is wrong
            pass
    return [make(row) for row in rows(path)]


def rows(path: Path) -> Iterable[Any]:
    """All rows, in order; UsageError as of `each`."""
    if path.is_dir():
        return _saved(path) if any((path / name).is_file() for name in SAVED) else _parquet(path)
    if path.suffix in TABLES:
        return _parquet(path)
    found = json_or_lines(path, hint="Download it again or mend it.", finite=False)  # NaN says "no image" for some
    if path.suffix == ".jsonl" and isinstance(found, dict):  # one line, which is JSON as well
        return [found]
    if not isinstance(found, list):
        raise UsageError(f"{path} is not a list of records; docs/records.md has the formats.")
    return found


def _parquet(path: Path) -> Iterator[Any]:
    try:
        from pyarrow import ArrowException
        from pyarrow import parquet as pq
    except ImportError:
        raise UsageError(f"{path} needs pyarrow; {EXTRA}, or save it as JSON lines.") from None
    files = [path] if path.is_file() else _training_files(path)
    for file in files:
        try:
            table = pq.ParquetFile(plain(file))
            for group in range(table.num_row_groups):
                take = partial(_of_group, table, group)
                yield from _without_pictures(take, table.metadata.row_group(group).num_rows)
        except (ArrowException, OSError) as error:
            raise UsageError(f"{file} cannot be read as parquet: {_line(error)}; fetch it again.") from None


def _training_files(folder: Path) -> list[Path]:
    """The parquet files of a folder; of a clone with splits those of the split "train"."""
    files = sorted(folder.rglob("*.parquet"))
    train = [file for file in files if file.stem.split("-")[0] == "train" or file.parent.name == "train"]
    return train or files


def _of_group(table: Any, group: int, start: int, stop: int) -> list[dict[str, Any]]:
    at, found = 0, list[dict[str, Any]]()
    for batch in table.iter_batches(BATCH, row_groups=[group]):
        if at < stop and at + len(batch) > start:
            found += batch.slice(max(0, start - at), min(stop, at + len(batch)) - max(start, at)).to_pylist()
        at += len(batch)
        if at >= stop:
            break
    return found


def _saved(folder: Path) -> list[Any]:
    try:
        import datasets
    except ImportError:
        raise UsageError(f"{folder} needs datasets; {EXTRA}, or save it as parquet or JSON lines.") from None
    try:
        table = datasets.load_from_disk(str(folder))
        if isinstance(table, dict):
            name = "train" if "train" in table else next(iter(table)) if len(table) == 1 else ""
            if not name:
                one = folder / next(iter(table), "train")
                raise UsageError(f"{folder} has the splits {', '.join(table)}; name one, e.g. --data {one}.")
            table = table[name]
        arrow = table.with_format("arrow")  # pictures as bytes, not decoded
        return list(_without_pictures(lambda start, stop: arrow[start:stop].to_pylist(), len(arrow)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder} cannot be read as a folder of datasets: {_line(error)}; save it again.") from None


def _line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200] or type(error).__name__


def _without_pictures(take: Take, count: int) -> Iterator[dict[str, Any]]:
    """The rows of a table with `Embedded` where a cell holds bytes."""
    for start in range(0, count, BATCH):
        for place, row in enumerate(take(start, min(start + BATCH, count)), start):
            yield {name: _light(cell, partial(_again, take, place), (name,)) for name, cell in row.items()}


def _light(cell: Any, row: Callable[[], Any], way: tuple[Any, ...]) -> Any:
    """A cell without bytes; `way` leads from the row to it."""
    if isinstance(cell, bytes):
        return Embedded(sha256(cell).hexdigest(), partial(_follow, row, way))
    if isinstance(cell, dict):
        return {name: _light(part, row, (*way, name)) for name, part in cell.items()}
    if isinstance(cell, list):
        return [_light(part, row, (*way, number)) for number, part in enumerate(cell)]
    return cell


def _again(take: Take, place: int) -> dict[str, Any]:
    return take(place, place + 1)[0]


def _follow(row: Callable[[], Any], way: tuple[Any, ...]) -> bytes:
    cell = row()
    for step in way:
        cell = cell[step]
    made: bytes = cell
    return made
