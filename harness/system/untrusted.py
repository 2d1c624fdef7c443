"""The one way in for a file that a stranger may have made: settings, manifests, data, questions, answers.

Whatever it holds, it is read in bounded time and memory, or refused in a sentence that names it and says what to do.
YAML has a module of its own (`harness.system.yamls`), archives and workbooks too (`harness.system.archives`), pictures
as well (`harness.contracts.images`).
"""

import json
import math
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from harness.system.errors import UsageError

MIB = 1 << 20
SETTINGS = 16 * MIB  # the most of a manifest, a profile, a model's config; YAML has less (`harness.system.yamls.MOST`)
DATA = 2048 * MIB  # the most of conversations, questions, answers
DEPTH = 60  # brackets within brackets
DIGITS = 40  # of a number; a longer one is an attack on who converts it
RATIO, FREE = 100, 16 * MIB  # what packed data may unpack to, as a multiple of itself and in any case
VALUE, LIST, OBJECT = 40, 64, 200  # bytes of memory of a JSON value, list and object, about
MEMORY, DENSITY = 6144 * MIB, 16  # the most of memory for one JSON file, and as a multiple of a large one
SNIFF, SLICE = 4096, 64 * 1024  # bytes looked at, and unpacked, at a time

_KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


@contextmanager
def opened(path: Path, what: str = "", limit: int | None = None) -> Iterator[BinaryIO]:
    """The plain file at `path`, open for reading; UsageError for anything else, at once, and for one beyond `limit`.

    `what` is what the file is to the user ("policy"), for the error. Nothing but a plain file is ever opened: a pipe
    would wait for a writer, a device may do anything.
    """
    with os.fdopen(_descriptor(path, f"{what} {path}".strip(), limit), "rb") as file:
        yield file


def _descriptor(path: Path | str, name: str, limit: int | None) -> int:
    try:
        _plain(name, os.stat(path), limit)  # noqa: PTH116 -- of 100,000 manifests a Path each would cost a second
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe may have come in between
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}.") from None
    except ValueError:  # a NUL, or half a character
        raise UsageError(f"{name} cannot be read: no file can have this name.") from None
    try:
        _plain(name, os.fstat(descriptor), limit)
    except UsageError:
        os.close(descriptor)
        raise
    return descriptor


def _plain(name: str, status: os.stat_result, limit: int | None) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((kind for test, kind in _KINDS.items() if test(status.st_mode)), "no plain file")
        raise UsageError(f"{name} is {kind}; give a plain file: save there what it should hold.")
    if limit is not None and status.st_size > limit:
        raise too_large(name, limit)


def too_large(name: str, limit: int) -> UsageError:
    """The error for a file that no honest one comes near."""
    return UsageError(f"{name} holds more than {limit // MIB:,} MiB; no such file is so large. Is it the right one?")


def plain(path: Path, what: str = "", limit: int | None = None) -> Path:
    """The path, if a plain file is there that may be opened; for libraries that open files themselves."""
    with opened(path, what, limit):
        return path


def content(path: Path | str, what: str = "", limit: int = DATA) -> bytes:
    """The bytes of a plain file of at most `limit`."""
    name = f"{what} {path}".strip()
    descriptor = _descriptor(path, name, limit)
    try:
        size = os.fstat(descriptor).st_size
        data = os.read(descriptor, size + 1)
        while len(data) != size and (more := os.read(descriptor, MIB)):  # it grows, or is one of /proc
            data += more
            if len(data) > limit:
                raise too_large(name, limit)
    finally:
        os.close(descriptor)
    return data


def text(path: Path, what: str = "", limit: int = DATA) -> str:
    """The text of a UTF-8 file, unpacked where it ends in .gz, without a byte order mark."""
    name = f"{what} {path}".strip()
    with opened(path, what, limit) as file:
        head = file.read(SNIFF)
    packed = path.suffix == ".gz"
    if not packed and b"\0" in head:  # before a gigabyte of it is read
        raise UsageError(f"{name} cannot be read: it is not UTF-8 text; save it as UTF-8.")
    data = content(path, what, limit)
    try:
        return (gunzipped(data, name, limit) if packed else data).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{name} cannot be read: it is not UTF-8 text (byte {error.start:,}: {error.reason}); save it as UTF-8."
        ) from None


def gunzipped(data: bytes, name: str, limit: int = DATA) -> bytes:
    """What gzip data hold: no more than `limit`, nor than `RATIO` times themselves beyond `FREE` bytes."""
    pieces, size = list[bytes](), 0
    try:
        for piece, consumed in _unpacked(data):
            pieces.append(piece)
            size += len(piece)
            if size > limit or size > max(FREE, RATIO * consumed) or len(pieces) > 1000 + consumed // 1024:
                raise UsageError(f"{name} unpacks to far more than it holds; unpack it by hand and look at it.")
    except EOFError:
        raise UsageError(f"{name} is cut off; fetch it again.") from None
    except zlib.error as error:
        raise UsageError(f"{name} is no gzip file, or a damaged one ({error}); fetch it again.") from None
    return b"".join(pieces)


def _unpacked(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Pieces of at most 1 MiB, one per member at least, each with how many bytes of `data` it took to get there."""
    at = 0
    while not at or data[at : at + 2].strip(b"\0"):  # zeros after the last member are padding
        member, fresh = zlib.decompressobj(wbits=31), b""
        while not member.eof:
            if not fresh:
                fresh = data[at : at + SLICE]
                at += len(fresh)
            piece = member.decompress(fresh, MIB)
            if not piece and not fresh:
                raise EOFError
            fresh = member.unconsumed_tail
            yield piece, at
        at -= len(member.unused_data)


def json_file(path: Path, what: str = "", limit: int = SETTINGS) -> Any:
    """The JSON value in a file (`parse_json`)."""
    return parse_json(text(path, what, limit), f"{what} {path}".strip())


def json_object(path: Path, what: str = "", limit: int = SETTINGS) -> dict[str, Any]:
    """The JSON object in a file."""
    value = json_file(path, what, limit)
    if not isinstance(value, dict):
        raise UsageError(f"{what} {path}".strip() + f" should hold one JSON object; it holds a {type(value).__name__}.")
    return value


def json_lines(path: Path, what: str = "", limit: int = DATA) -> list[Any]:
    """The JSON values in a file that has one per line."""
    return parse_json_lines(text(path, what, limit), f"{what} {path}".strip())


def json_or_lines(path: Path, what: str = "", limit: int = DATA, hint: str = "", finite: bool = True) -> Any:
    """The JSON value in a file, or the list of them where it has one per line; `hint` ends the error of another."""
    name, given = f"{what} {path}".strip(), text(path, what, limit)
    if not given.strip():
        raise UsageError(f"{name} is empty. {hint}".rstrip())
    try:
        return _parsed(given, name, finite)
    except json.JSONDecodeError as error:
        whole = error
    try:
        return parse_json_lines(given, name, finite)
    except _LineError as error:
        reason = str(whole) if error.number == 1 else f"line {error.number}: {error}"
        raise UsageError(f"{name} is not JSON ({reason}). {hint}".rstrip()) from None


def parse_json(given: str, name: str, finite: bool = True) -> Any:
    """The JSON value in a text; UsageError, which names it, for a text that is none, and for one that is an attack.

    Refused are a name twice in one object, numbers that no float can hold, and brackets nested deeper than `DEPTH`;
    with `finite`, NaN and infinities too.
    """
    try:
        return _parsed(given, name, finite)
    except json.JSONDecodeError as error:
        raise UsageError(f"{name} is not JSON ({error}).") from None


class _LineError(UsageError):
    """A line that is not JSON."""

    def __init__(self, number: int, reason: str, name: str) -> None:
        super().__init__(f"{name} is not JSON (line {number}: {reason}).")
        self.number, self.reason = number, reason


def parse_json_lines(given: str, name: str, finite: bool = True) -> list[Any]:
    """The values of a text with one JSON value per line; blank lines count for nothing."""
    fits(given, name)
    found = []
    for number, line in enumerate(given.split("\n"), 1):  # not splitlines: U+2028 ends no line
        if line.strip():
            try:
                found.append(_parsed(line, f"line {number} of {name}", finite))
            except json.JSONDecodeError as error:
                raise _LineError(number, str(error), name) from None
    return found


def _parsed(given: str, name: str, finite: bool) -> Any:
    """The value; json.JSONDecodeError where the text is no JSON, UsageError where it is more than JSON should be."""
    fits(given, name)
    finite_only: dict[str, Any] = {"parse_constant": _no_number, "parse_float": _finite} if finite else {}
    try:
        value = json.loads(given, object_pairs_hook=once, parse_int=whole_number, **finite_only)
        shallow(value)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise UsageError(f"{name} nests its brackets too deeply; no such file needs {DEPTH}.") from None
    except ValueError as error:
        raise UsageError(f"{name} cannot be used: {error}.") from None
    return value


def fits(given: str, name: str) -> None:
    """UsageError where a text would take far more memory as values than it takes as a text."""
    need = needed(given)
    if is_bomb(need, len(given)):
        raise UsageError(f"{name} would take more than {need // MIB:,} MiB of memory, nearly all of it brackets.")


def needed(given: str) -> int:
    """Bytes of memory that a text takes as values, about."""
    return VALUE * given.count(",") + LIST * given.count("[") + OBJECT * given.count("{")


def is_bomb(need: int, length: int) -> bool:
    """Whether so many bytes of values are far more than their text's."""
    return need > MEMORY or (need > 8 * DENSITY * MIB and need > DENSITY * length)


def _no_number(constant: str) -> float:
    raise ValueError(f"{constant} is no number; write null, or leave it out")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:DIGITS]} is too large for a number")
    return value


def whole_number(digits: str) -> int:
    """The number; ValueError where there are too many digits."""
    if len(digits) > DIGITS:
        raise ValueError(f"it holds a number of {len(digits):,} digits")
    return int(digits)


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object; ValueError where it has a name twice."""
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it says {twice[:60]!r} twice in one object; take one of them out")
    return made


def shallow(value: Any) -> None:
    """RecursionError where containers lie more than `DEPTH` deep."""
    level = [value]
    for _ in range(DEPTH + 1):
        inner = (part.values() if isinstance(part, dict) else part for part in level if isinstance(part, dict | list))
        level = [part for parts in inner for part in parts if isinstance(part, dict | list)]
        if not level:
            return
    raise RecursionError
