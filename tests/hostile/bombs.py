"""Files that nobody should have to open, each made on disk under a name of one's choice."""

import gzip
import io
import os
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

MIB = 1 << 20


def _text(content: str | bytes | Callable[[], bytes]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        data = content() if callable(content) else content
        path.write_bytes(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data)

    return make


def _gzipped(piece: bytes, times: int) -> bytes:
    """As gzip packs `times` pieces one after another, each packed alone, which takes it once instead of `times`."""
    packer, checked = zlib.compressobj(9, wbits=-15), 0
    packed = packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)
    for _ in range(times):
        checked = zlib.crc32(piece, checked)
    end = struct.pack("<II", checked, len(piece) * times & 0xFFFFFFFF)
    return b"\x1f\x8b\x08" + b"\0" * 7 + packed * times + packer.flush() + end


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(path.parent)  # the name of a socket has at most 107 bytes
        listening.bind(path.name)
        os.chdir(here)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(100 << 30)


def _laughs() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    return "\n".join(lines)


def _merges() -> str:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}], y{n}: 1}}" for n in range(1, 30)]
    return "\n".join(lines)


def zipped(parts: dict[str, bytes]) -> bytes:
    """A zip archive of these parts."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return file.getvalue()


def many_entries() -> bytes:
    """A zip whose list claims 2 million entries in zip64 fields."""
    listed = (b"PK\1\2" + b"\0" * 42) * 2_000_000
    end64 = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 2_000_000, 2_000_000, len(listed), 0)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, len(listed), 1)
    return listed + end64 + locator + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)


PLACES: dict[str, Callable[[Path], None]] = {  # what stands there instead of a file
    "fifo": os.mkfifo,
    "folder": Path.mkdir,
    "socket": _socket,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "terminal": lambda path: path.symlink_to("/dev/tty"),
    "loop": lambda path: path.symlink_to(path.name),
    "nowhere": lambda path: path.symlink_to("/nowhere/at/all"),
    "sparse": _sparse,
}
TEXTS: dict[str, Callable[[Path], None]] = {
    "deep lists": _text("[" * 500_000),
    "deep lists, closed": _text("[" * 900 + "]" * 900),
    "deep objects": _text('{"a":' * 500_000),
    "deep YAML": _text("- " * 300_000 + "x"),
    "deep mappings": _text("? " * 300_000 + "x"),
    "laughs": _text(_laughs()),
    "merges": _text(_merges()),
    "an anchor in itself": _text("a: &a [*a]"),
    "digits": _text('{"methods": ' + "9" * 500_000 + "}"),
    "base 60": _text("name: 1" + ":59" * 200_000),
    "huge float": _text('{"name": 1e999999}'),
    "NaN": _text('{"name": NaN, "models": Infinity}'),
    "twice": _text('{"name": "a", "name": "b"}'),
    "latin": _text(b'{"name": "caf\xe9"}'),
    "utf-16": _text('{"name": "a"}'.encode("utf-16")),
    "zeros": _text(b"\0" * MIB),
    "brackets": _text("[" + "[]," * (16 * MIB // 3) + "[]]"),
    "empty": _text(""),
    "mark": _text("\ufeff"),
    "half a character": _text('{"name": "\\ud800"}'),
    "escapes": _text('{"\\u001b]0;owned\\u0007": "\\u001b[2J"}'),
    "python": _text("!!python/object/apply:os.system ['touch owned']"),
    "one long line": _text("x" * 8 * MIB),
    "commas": _text("," * 8 * MIB),
    "quote": _text('a,b\n"' + "x" * MIB),
}
PACKED: dict[str, Callable[[Path], None]] = {
    "bomb": _text(lambda: _gzipped(b"[" * MIB, 600)),
    "bomb of spaces": _text(lambda: _gzipped(b" " * MIB, 600)),
    "bomb of bombs": _text(lambda: _gzipped(_gzipped(b"0" * MIB, 100), 400)),
    "empty members": _text(lambda: gzip.compress(b"") * 400_000),
    "cut": _text(gzip.compress(os.urandom(10_000))[:5_000]),
    "no gzip": _text("plain"),
}
SHEET = '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">%s</worksheet>'


def _book(sheet: Callable[[], bytes], **others: bytes) -> Callable[[Path], None]:
    def made() -> bytes:
        import openpyxl

        file = io.BytesIO()
        openpyxl.Workbook().save(file)
        parts = {name: data for name, data in _read(file.getvalue()).items() if name not in others}
        return zipped({**parts, "xl/worksheets/sheet1.xml": sheet(), **others})

    return _text(made)


def _read(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _rows(text: str) -> bytes:
    return (SHEET % f"<sheetData>{text}</sheetData>").encode()


FAR = '<row r="{}"><c r="XFD{}"><v>1</v></c></row>'
ENTITIES = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
LAUGHING = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a0 "ha">{ENTITIES}]>' + SHEET % (
    '<sheetData><row r="1"><c r="A1" t="inlineStr"><is><t>&a11;</t></is></c></row></sheetData>'
)
BOOKS: dict[str, Callable[[Path], None]] = {
    "bomb": _book(lambda: _rows("<!--" + " " * (200 * MIB) + "-->")),
    "entities": _book(lambda: LAUGHING.encode()),
    "far cells": _book(
        lambda: _rows("".join(f'<row r="{n}"><c r="XFD{n}"><v>1</v></c></row>' for n in range(1, 20_000)))
    ),
    "far rows": _book(lambda: _rows('<row r="1048576"><c r="A1048576"><v>1</v></c></row>')),
    "styles": _book(lambda: _rows(""), **{"xl/styles.xml": b"<styleSheet>" + b"<a/>" * (4 * MIB) + b"</styleSheet>"}),
    "no book": _text(lambda: zipped({"a": b"b"})),
    "no zip": _text("PK\3\4 plain"),
}
ARCHIVES: dict[str, Callable[[Path], None]] = {
    "bomb": _text(lambda: zipped({"runs/000/manifest.json": b"0" * (200 * MIB)})),
    "entries": _text(many_entries),
    "no zip": _text(b"PK\5\6" + b"\0" * 18),
}
