"""Data of one's own: JSON, JSON lines, parquet or a folder of `datasets`, in the schemas of docs/records.md."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.contracts import prepared
from harness.contracts.pictures import Keep, Pictures
from harness.contracts.records import Example
from harness.contracts.settings import Reading
from harness.contracts.source import Source
from harness.sources import _records
from harness.sources._rows import is_data
from harness.store.contents import CONTENTS, listing
from harness.system.errors import UsageError

FORMATS = "JSON (.json), JSON lines (.jsonl), parquet (.parquet), or a folder of parquet files or of `save_to_disk`"


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
        """The content of the data."""
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
        home, found = Pictures(self.start), set[Path]()
        for one in _records.parsed(self.data, reading):
            try:
                path = None if isinstance(one.told, str) else home.named(one.told.picture)
            except ValueError:
                continue
            found |= {path} if path else set()
        return sorted(found)

    def records(self, reading: Reading) -> Iterator[tuple[str, Any]]:
        """The rows, in any of the formats and schemas."""
        return _records.records(self.data, reading)

    def example(self, id: str, record: Any, pictures: Pictures, reading: Reading) -> Example:
        """The row's conversation about its picture."""
        return _records.example(self.name, id, record, pictures, reading)
