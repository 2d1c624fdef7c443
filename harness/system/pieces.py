"""A stranger's large file, value after value: what `untrusted.json_or_lines` gives, without all of it in memory."""

import json
import re
from codecs import getincrementaldecoder
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from harness.system.errors import UsageError
from harness.system.untrusted import DATA, MIB, is_bomb, needed, once, opened, parse_json, shallow, whole_number

PIECE = 4 * MIB  # bytes read at a time
NO_SPACE = re.compile(r"[^ \t\n\r]")


class Unclear(Exception):
    """A file that is not read piece by piece to its end. As a whole (`json_or_lines`) it may be right, or is told why
    it is not.
    """


def json_pieces(path: Path, limit: int = DATA) -> Iterator[Any]:
    """The values of a file that holds one JSON list, or in a .jsonl an object a line, one after another.

    They are what `json_or_lines(..., finite=False)` gives, and no more than a piece of the file is in memory. Unclear,
    which may come after any number of values, where it is anything else.
    """
    with opened(path, limit=limit) as file:
        rest = _Rest(_texts(file))
        if path.suffix == ".jsonl" and rest.next() != "[":
            yield from rest.objects()
        else:
            yield from rest.items()


def _texts(file: BinaryIO) -> Iterator[str]:
    """A UTF-8 file's text, `PIECE` bytes at a time."""
    decoder, need, size = getincrementaldecoder("utf-8-sig")(), 0, 0
    try:
        while data := file.read(PIECE):
            text = decoder.decode(data)
            need, size = need + needed(text), size + len(text)
            if is_bomb(need, size):
                raise Unclear
            yield text
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise Unclear from None


class _Rest:
    """What is left of a text that comes in pieces."""

    decode = json.JSONDecoder(object_pairs_hook=once, parse_int=whole_number).raw_decode

    def __init__(self, pieces: Iterator[str]) -> None:
        self.pieces, self.text, self.at = pieces, "", 0

    def more(self) -> bool:
        """Twice as much as is left, if there is any: a value that needs many pieces is not tried at each."""
        fresh, least = list[str](), len(self.text) - self.at
        for piece in self.pieces:
            fresh.append(piece)
            least -= len(piece)
            if least <= 0:
                break
        self.text, self.at = "".join([self.text[self.at :], *fresh]), 0
        return any(fresh)

    def next(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            found = NO_SPACE.search(self.text, self.at)
            self.at = found.start() if found else len(self.text)
            if found or not self.more():
                return found[0] if found else ""

    def value(self) -> Any:
        """The value that begins here."""
        ended = self.next() == ""
        while not ended:
            try:
                value, end = self.decode(self.text, self.at)
                if end < len(self.text):  # a number may go on
                    shallow(value)
                    self.at = end
                    return value
            except json.JSONDecodeError:
                pass
            except (ValueError, RecursionError):
                raise Unclear from None
            ended = not self.more()
        raise Unclear

    def items(self) -> Iterator[Any]:
        """Those of one list, with nothing behind it."""
        sign = self.next()
        if sign != "[":
            raise Unclear
        self.at += 1
        if self.next() == "]":
            sign = "]"
            self.at += 1
        while sign != "]":
            yield self.value()
            sign = self.next()
            self.at += 1
            if sign not in (",", "]"):
                raise Unclear
        if self.next():
            raise Unclear

    def objects(self) -> Iterator[Any]:
        """One a line, one at least."""
        if not self.next():
            raise Unclear
        while self.next():
            while (end := self.text.find("\n", self.at)) < 0 and self.more():
                pass
            line, self.at = self.text[self.at : end if end >= 0 else None], end if end >= 0 else len(self.text)
            try:
                value = parse_json(line, "", finite=False)
            except UsageError:
                raise Unclear from None
            if not isinstance(value, dict):
                raise Unclear
            yield value
