"""Where the picture of a record is: a path inside the image folder, a link into a hub's cache, or its bytes."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image as Pillow

from harness.contracts.images import decode, read_image
from harness.contracts.records import Image
from harness.store.digest import file_digest

Keep = Callable[[bytes], Image]
Seen = Callable[[Image, Pillow.Image], None]
OUT = "the path leads out of the image folder"
FOLLOW = "cure: copy the folder with its links resolved, cp -rL, or --set reading.links=any"


@dataclass(frozen=True, slots=True)
class Embedded:
    """A picture in a cell of a table: the sha256 of its bytes, and `read`, which gives them.

    So 150,000 pictures are never in memory at once.
    """

    sha256: str
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Pictures:
    """Finds and tries the pictures of records: `pictures("cats/1.png")`, `pictures(png_bytes)`.

    `folder` is where paths start from; `others` are folders that a source's layout names, which may be links. `links`:
    "inside" follows links to what is in these folders, or in the cache of the hub's repository that the folder is a
    snapshot of; "any" follows all. `keep` writes a picture that has no file of its own to one; `seen` is handed every
    picture as it is tried. `cure` is what to do where the folder is the wrong one.
    """

    folder: Path
    links: str = "inside"
    upright: bool = False
    others: tuple[Path, ...] = ()
    keep: Keep | None = None
    seen: Seen | None = None
    cure: str = ""

    def __call__(self, cell: Any) -> Image:
        """The picture at a path or in a record's cell; ValueError with the reason where none can be read."""
        try:
            cell = _inside(cell)
            image, picture = self._kept(cell) if isinstance(cell, Embedded | bytes) else self._at(cell)
        except UnicodeEncodeError:
            raise ValueError("image: no such file") from None
        except ValueError as error:
            raise ValueError(f"image: {error}") from None
        except (OSError, RuntimeError) as error:  # a name too long, a circle of links
            raise ValueError(f"image: cannot be read ({error})") from None
        if self.seen:
            self.seen(image, picture)
        return image

    def _kept(self, cell: Embedded | bytes) -> tuple[Image, Pillow.Image]:
        data = cell if isinstance(cell, bytes) else cell.read()
        picture = decode(data, self.upright)
        if self.keep is None:
            raise ValueError("in a table, where only paths are read")
        return self.keep(data), picture

    def _at(self, name: Any) -> tuple[Image, Pillow.Image]:
        path = self.path(name)
        self._check_links(path)
        picture = read_image(path, upright=self.upright)
        return Image(str(path), file_digest(path), self.upright), picture

    def named(self, cell: Any) -> Path | None:
        """The file that a cell names; None where it names none, or the picture is in the cell itself."""
        cell = _inside(cell)
        return None if cell is None or isinstance(cell, Embedded) else self.path(cell)

    def path(self, name: Any) -> Path:
        """Where the picture of this name is; ValueError where it is no name of one, or leads out of the folder."""
        if not isinstance(name, str) or not name:
            raise ValueError("not a path")
        root = self.folder.absolute()
        if "\0" in name or ".." in Path(name).parts:
            raise ValueError(OUT)
        path = Path(os.path.normpath(root / name))
        if not any(path.is_relative_to(os.path.normpath(home)) for home in (root, root.resolve())):
            raise ValueError(f"{OUT} (cure: {self.cure})" if self.cure else OUT)
        return path

    def _check_links(self, path: Path) -> None:
        homes = [self.folder, *self.others]
        homes += [part.parent / "blobs" for part in self.folder.absolute().parents if part.name == "snapshots"]
        if self.links == "inside" and not any(path.resolve().is_relative_to(home.resolve()) for home in homes):
            raise ValueError(f"a link that leads out of its folder ({FOLLOW})")


def _inside(cell: Any) -> Any:
    """The picture or path in a cell of `datasets`: {"bytes": ..., "path": ...}."""
    if not isinstance(cell, dict):
        return cell
    data = cell.get("bytes")
    return cell.get("path") if data is None else data if isinstance(data, Embedded) else cell
