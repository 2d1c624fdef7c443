"""A source whose makers publish a data file and folders of pictures: it says their names and inherits the rest."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from harness.contracts.pictures import Keep, Pictures
from harness.contracts.records import Example
from harness.contracts.settings import Reading
from harness.contracts.source import Source
from harness.sources import _records


class Published(Source):
    """Its files by their official names.

    `files` are the names its data may have, each with the prefix that the `image` of its records has there (a mix of
    several sources tells them apart by it); `folders` are where its pictures may be, the first that is there counts.
    """

    files: ClassVar[tuple[tuple[str, str], ...]]
    folders: ClassVar[tuple[str, ...]]

    def check(self) -> None:
        """UsageError where no file of these names is there."""
        self._file()

    def _file(self) -> tuple[Path, str]:
        """The data file that is there, and its prefix."""
        for name, prefix in self.files:
            if self.home and (self.home / name).is_file():
                return self.home / name, prefix
        raise self.missing(" or ".join(name for name, _ in self.files))

    def records(self, reading: Reading) -> Iterator[tuple[str, Any]]:
        """The file's records, of a mix those of this source."""
        file, prefix = self._file()
        return _records.records(file, reading, prefix)

    def pictures(self, reading: Reading, keep: Keep | None = None) -> Pictures:
        """Paths start from the first of `folders`, or from `home` where there is none."""
        file, prefix = self._file()
        start = next((file.parent / name for name in self.folders if (file.parent / name).is_dir()), file.parent)
        return replace(super().pictures(reading, keep), folder=start, others=(start / prefix,) if prefix else ())

    def example(self, id: str, record: Any, pictures: Pictures, reading: Reading) -> Example:
        """The record's conversation about its picture."""
        return _records.example(self.name, id, record, pictures, reading)
