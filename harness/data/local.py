"""Your own data: JSON, JSON lines, parquet or a folder of `datasets`, in the schemas of docs/records.md."""

from collections.abc import Iterator
from pathlib import Path

from harness import plugins
from harness.config import Reading
from harness.data._pictures import Keep, Pictures
from harness.data._records import AS_LLAVA, Order, parsed, read
from harness.data._rows import is_data
from harness.types import Dropped, Example, UsageError

FORMATS = "JSON (.json), JSON lines (.jsonl), parquet (.parquet), or a folder of parquet files or of `save_to_disk`"


def is_local(name: str) -> bool:
    """Whether a word of the command line means data of one's own; the name of a source never does."""
    path = Path(name).expanduser()
    return name not in plugins.names("harness.data") and ("/" in name or path.is_file() or is_data(path))


def places(data: str, images: str) -> tuple[Path, Path]:
    """The data, and the folder that their image paths start from: by default the one that the data are in."""
    file = Path(data).expanduser()
    return file, Path(images).expanduser() if images else file if file.is_dir() else file.parent


def check(file: Path, images: Path) -> None:
    """UsageError where there are no such data or no such image folder."""
    if not file.exists() or not is_data(file):
        raise UsageError(f"no data file {file}; give {FORMATS}, and with --images where its pictures' paths start.")
    if not images.is_dir():
        raise UsageError(f"no image folder {images}; give the folder that the records' image paths start from.")


def load(
    file: Path, images: Path, order: Order | None = None, reading: Reading = AS_LLAVA, keep: Keep | None = None
) -> Iterator[Example | Dropped]:
    """The examples of a file or folder, in its order or sorted by `order(id)`; image paths start from `images`.

    `keep` writes a picture that is inside a table to a file.
    """
    check(file, images)
    return read("local", file, images, order, reading, keep=keep)


def pictures(file: Path, images: Path, reading: Reading = AS_LLAVA) -> list[Path]:
    """The picture files that the records name, each once, whether or not they are there: part of the data's identity.

    Not the whole folder, which may be a home folder; pictures inside tables are part of the tables.
    """
    check(file, images)
    home, found = Pictures(images), set[Path]()
    for _, told in parsed(file, reading):
        try:
            path = None if isinstance(told, str) else home.named(told.picture)
        except ValueError:
            continue
        found |= {path} if path else set()
    return sorted(found)
