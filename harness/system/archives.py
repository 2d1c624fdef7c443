"""Zip archives from a stranger, bundles and workbooks: what they declare is checked before anything is unpacked.

`zipfile` reads no more of an entry than its size declares, and checks its sum; so the declared sizes are what counts.
"""

import errno
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any, BinaryIO

from harness.system.errors import UsageError
from harness.system.untrusted import FREE, MIB, RATIO, opened

RECORD, LOCATOR = b"PK\5\6", b"PK\6\7"  # the end of an archive; the sign of zip64, which nothing small needs
ENTRY = 400  # bytes of an archive's list for one entry, at most
CELLS, ROWS = 4_000_000, 400_000  # of a workbook
PART = 8 * MIB  # of a workbook: styles, relations and the like, which are read as a whole


@contextmanager
def archive(path: Path, most_files: int, most_bytes: int, what: str = "") -> Iterator[zipfile.ZipFile]:
    """A zip file that declares no more than this much; UsageError for any other, and where reading it fails."""
    name = f"{what} {path}".strip()
    with opened(path, what, most_bytes) as file:
        _check_list(file, name, most_files)
        try:
            with zipfile.ZipFile(file) as packed:
                declared, there = sum(entry.file_size for entry in packed.infolist()), file.seek(0, 2)
                if len(packed.infolist()) > most_files or declared > most_bytes:
                    raise UsageError(f"{name} holds more than {most_files:,} files or {most_bytes // MIB:,} MiB.")
                if declared > max(FREE, RATIO * there):
                    raise UsageError(f"{name} unpacks to {declared // MIB:,} MiB, more than {RATIO} times itself.")
                yield packed
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, struct.error) as error:
            raise UsageError(f"{name} is damaged: {error}; fetch it again.") from None
        except OSError as error:
            if error.errno != errno.EINVAL:  # a disk's, or of whoever writes what he reads here
                raise
            raise UsageError(f"{name} is damaged: an entry lies before its beginning; fetch it again.") from None


def is_archive(path: Path) -> bool:
    """Whether a plain file ends as a zip archive does."""
    if not path.is_file():
        return False
    with opened(path) as file:
        return zipfile.is_zipfile(file)


def _check_list(file: BinaryIO, name: str, most_files: int) -> None:
    """UsageError where the list of entries, which `zipfile` reads as a whole, is too long, or is hidden in a zip64."""
    size = file.seek(0, 2)
    file.seek(max(0, size - (1 << 16) - 42))
    tail = file.read()
    at = len(tail) - 22 if tail[-22:-18] == RECORD else tail.rfind(RECORD)
    if at < 0 or len(tail) < at + 22:
        raise UsageError(f"{name} is no zip archive, or a cut one; fetch it again.")
    entries, length = struct.unpack("<HL", tail[at + 10 : at + 16])
    if LOCATOR in tail[max(0, at - 20) : at] or entries > most_files or length > ENTRY * most_files:
        raise UsageError(f"{name} holds more than {most_files:,} files; nothing is unpacked.")
    file.seek(0)


def workbook(path: Path) -> list[list[object]]:
    """The cells of an .xlsx file's first sheet, row by row: str, int, float, bool, dates, or None where one is empty.

    Every row ends with its last cell that is not empty. UsageError for what is no workbook, and for one that
    is an attack on its reader: a bomb, a sheet that claims a million empty rows, entities in its XML.
    """
    import openpyxl  # slow to import

    with archive(path, 10_000, 512 * MIB) as packed:
        for entry in packed.infolist():
            streamed = entry.filename.startswith("xl/worksheets/") or entry.filename == "xl/sharedStrings.xml"
            if entry.file_size > PART and not streamed and not entry.filename.startswith("xl/media/"):
                raise UsageError(f"{path} has a part {entry.filename[:60]!r} of {entry.file_size // MIB:,} MiB.")
    with opened(path) as file:
        try:
            values, written = (
                openpyxl.load_workbook(file, read_only=True, data_only=only, keep_links=False) for only in (True, False)
            )
            if not values.worksheets:
                raise UsageError(f"{path} has no sheet with cells.")
            if others := [sheet.title for sheet in values.worksheets[1:] if _rows(sheet, path)]:
                raise UsageError(f"{path} has several sheets with cells, {others[0][:60]!r} too; keep the one to read.")
            sheets = (_rows(book.worksheets[0], path) for book in (values, written))
            return [_with_formulas(*pair) for pair in zip_longest(*sheets, fillvalue=[])]
        except UsageError:
            raise
        except Exception as error:  # openpyxl raises what it likes (KeyError, ParseError, TypeError)
            raise UsageError(f"{path} cannot be read as a workbook: {type(error).__name__}: {error}.") from None


def _with_formulas(values: list[object], written: list[object]) -> list[object]:
    """A row's values; a text like "=B", which writers take for a formula and nobody computes, as it was written."""
    pairs = zip_longest(values, written)
    return [text if value is None and isinstance(text, str) else value for value, text in pairs]


def _rows(sheet: Any, path: Path) -> list[list[object]]:
    found: list[list[object]] = []
    sheet.reset_dimensions()  # what it claims to be: up to 17 billion cells
    cells = 0
    for number, row in enumerate(sheet.iter_rows(values_only=True), 1):
        cells += len(row)
        if cells > CELLS or number > ROWS:
            raise UsageError(f"{path} has more than {ROWS:,} rows or {CELLS:,} cells.")
        filled = [at for at, cell in enumerate(row, 1) if cell is not None]
        found.append(list(row[: filled[-1] if filled else 0]))
    while found and not found[-1]:
        found.pop()
    return found
