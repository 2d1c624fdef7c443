"""Data of one's own: JSON, JSON lines, parquet or a folder of `datasets`, in the schemas of docs/records.md."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.contracts import prepared
from harness.contracts.pictures import Keep, Pictures
from harness.contracts.records import Example
from harness.contracts.settings import Reading
from harness.contracts.source import Source
from harness.sources import _records
from harness.sources._rows import TEXTS, is_data
from harness.store.contents import CONTENTS, listing
from harness.system.errors import UsageError
from harness.system.untrusted import DATA, plain

FORMATS = "JSON (.json), JSON lines (.jsonl), parquet (.parquet), or a folder of parquet files or of `save_to_disk`"


NAMED: dict[tuple[str, str, str], list[Path]] = {}  # picture files, by the content of the data that name them


class Local(Source):
    """`home` is the data file or folder."""

    def __str__(self) -> str:
        """The file's or folder's name: not its place, which no table says and no key has."""
        return self.data.name

    @property
    def data(self) -> Path:
        """The data file or folder."""
        return self.home or Path()

    @property
    def heldout(self) -> None:
        """None: a file says nothing of others."""

    def check(self) -> None:
        """UsageError where there are no such data or no such image folder."""
        if not self.data.exists() or not is_data(self.data):
            raise UsageError(
                f"no data file {self.data}; give {FORMATS}, and with --images where its pictures' paths start."
            )
        if not self.start.is_dir():
            raise UsageError(f"no image folder {self.start}; give the folder that the records' image paths start from.")

    def identity(self, reading: Reading) -> dict[str, str]:
        """The content of the data, and that of the pictures that they name."""
        self.check()
        return {**self.records_identity(reading), "images": listing(self.start, self.picture_names(reading))}

    def records_identity(self, reading: Reading) -> dict[str, str]:
        """The content of the data; UsageError, before it is hashed, for a file that nobody would read."""
        if self.data.suffix in TEXTS and self.data.is_file():
            plain(self.data, limit=DATA)
        data = CONTENTS.digest(self.data) if self.data.is_file() else listing(self.data)
        return {"source": self.name, "file": data}

    def picture_names(self, reading: Reading) -> list[str]:
        """The picture files that the records name."""
        if made := prepared.candidate(self, reading):
            return [str(name) for name in made.about["named"]]
        return [os.path.relpath(path, self.start) for path in self.named(reading)]

    def pictures(self, reading: Reading, keep: Keep | None = None) -> Pictures:
        """Paths start where the user says."""
        return replace(super().pictures(reading, keep), cure="--images names the folder that paths start from")

    def named(self, reading: Reading) -> list[Path]:
        """The picture files that the records name, each once, whether or not they are there.

        Not the whole folder, which may be a home folder; pictures inside tables are part of the tables.
        """
        self.check()
        content = self._content(reading)
        return NAMED[content] if content in NAMED else self._parsed(reading)[1]

    def records(self, reading: Reading) -> Iterator[tuple[str, Any]]:
        """The rows, in any of the formats and schemas."""
        return _records.by_id(self._parsed(reading)[0])

    def _parsed(self, reading: Reading) -> tuple[list[_records.Parsed], list[Path]]:
        """All rows, and the picture files that they name, for which nobody parses the same data again."""
        content, home, named = self._content(reading), Pictures(self.start), set[Path]()
        found = _records.parsed(self.data, reading)
        for one in found:
            with suppress(ValueError):
                path = None if isinstance(one.told, str) else home.named(one.told.picture)
                named |= {path} if path else set()
        if self._content(reading) == content:  # else it changed meanwhile
            NAMED[content] = sorted(named)
        return found, sorted(named)

    def _content(self, reading: Reading) -> tuple[str, str, str]:
        """What decides which files are named."""
        return self.records_identity(reading)["file"], str(self.start.absolute()), reading.model_dump_json()

    def example(self, id: str, record: Any, pictures: Pictures, reading: Reading) -> Example:
        """The row's conversation about its picture."""
        return _records.example(self.name, id, record, pictures, reading)
