"""The only way a picture is read, and how it gets its identity.

Pictures come from strangers. One that is too large, broken or not a picture raises ValueError with a clause that says
so; it never takes more than some 400 MB, and never runs further than its decoder.
"""

import hashlib
import io
import warnings
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from PIL import Image as Pillow
from PIL import ImageFile, ImageOps, UnidentifiedImageError

from harness.contracts.records import Cropped, Image
from harness.store.digest import file_digest
from harness.store.store import failpoint
from harness.system.errors import HarnessError, UsageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
MAX_BYTES = 32 * 2**20
MAX_PIXELS = 40_000_000
ORIENTATION = 0x0112  # EXIF's tag; from 5 up, height and width are exchanged
MAX_SIDE = 12_000  # LLaVA pads a picture to a square of its longer side


def read_image(path: Path, sha256: str | None = None, upright: bool = False) -> Pillow.Image:
    """The picture in a file, as `decode` gives it. With `sha256`, the file must still be the one of this digest."""
    try:
        if not path.is_file():
            raise ValueError("no such file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from None
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError("has changed since its digest was taken")
    return decode(data, upright)


def opened(image: Image) -> Pillow.Image:
    """A picture; HarnessError, which names its file, where it cannot be read or is another by now."""
    try:
        picture = read_image(Path(image.path), image.sha256, image.upright)
    except ValueError as error:
        raise HarnessError(f"image {image.path}: {error}.") from None
    return picture.crop(_inside(image, picture.size)) if isinstance(image, Cropped) else picture


def _inside(image: Cropped, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A crop's left, top, right and bottom in pixels of a picture of (width, height): one pixel at least."""
    starts = [min(int(image.box[at] * side), side - 1) for at, side in enumerate(size)]
    ends = [min(max(round(image.box[at + 2] * side), starts[at] + 1), side) for at, side in enumerate(size)]
    return starts[0], starts[1], ends[0], ends[1]


@lru_cache(maxsize=1 << 17)
def size_of(image: Image) -> tuple[int, int]:
    """A picture's (height, width) as it will be read; no pixel is decoded. HarnessError where that cannot be told."""
    try:
        with Pillow.open(image.path, formats=FORMATS) as picture:
            turned = image.upright and picture.getexif().get(ORIENTATION, 1) >= 5
            width, height = (picture.height, picture.width) if turned else picture.size
    except Exception as error:
        raise HarnessError(f"image {image.path}: its size cannot be read ({type(error).__name__}: {error}).") from None
    if isinstance(image, Cropped):
        left, top, right, bottom = _inside(image, (width, height))
        return bottom - top, right - left
    return height, width


def decode(data: bytes, upright: bool = False) -> Pillow.Image:
    """The picture in the bytes of a file as RGB; of an animation the first frame.

    As LLaVA has it, in training and evaluation: `Image.open(file).convert("RGB")` and no more (`train.py`,
    `LazySupervisedDataset`; `model_vqa_loader.py`). So a photo that the camera marked as turned stays as its rows lie,
    16-bit grey is cut off at 255 and transparency is dropped. With `upright`, a photo is turned as its EXIF
    orientation says and 16-bit grey keeps its tones.
    """
    if not data:
        raise ValueError("empty file")
    if len(data) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES >> 20} MiB")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Pillow.DecompressionBombWarning)
            return _decode(data, upright)
    except UnidentifiedImageError:
        pointer = data.startswith(b"version https://git-lfs")
        kind = " but a Git LFS pointer; fetch the file itself, `git lfs pull`" if pointer else ""
        raise ValueError(f"not a JPEG, PNG, WebP, BMP or GIF{kind}") from None
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning):
        raise ValueError(f"more than {MAX_PIXELS // 10**6} megapixels or {MAX_SIDE} pixels a side") from None
    except Exception as error:  # decoders raise what they like (struct.error, SyntaxError, zlib.error, IndexError)
        raise ValueError(f"cannot be decoded ({type(error).__name__}: {error})") from None


def _decode(data: bytes, upright: bool) -> Pillow.Image:
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # libraries switch it on for the whole process, and half a picture is read
    with Pillow.open(io.BytesIO(data), formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS or max(image.size) > MAX_SIDE:
            raise Pillow.DecompressionBombError
        image.verify()  # leaves the image unusable, hence the second opening
    with Pillow.open(io.BytesIO(data), formats=FORMATS) as image:
        if upright:
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode.startswith("I"):  # 16-bit grey, which convert() cuts off at 255: white
                return image.point(lambda value: value / 256).convert("L").convert("RGB")
        return image.convert("RGB")


class Places(NamedTuple):
    """The folders that stored paths start from, wherever they lie now: the store, a testbed's data, a user's images."""

    store: Path
    data: Path | None = None
    images: Path | None = None


class Pictured(Protocol):
    """An item, example or record: something about one image, or about none."""

    @property
    def image(self) -> Image | None:
        """The image."""
        ...


Thing = TypeVar("Thing", bound=Pictured)


def resolve(image: Image, places: Places) -> Image:
    """The image with an absolute path."""
    first, _, rest = image.path.partition("/")
    folder = {"@data": places.data, "@images": places.images}.get(first)
    return replace(image, path=str(folder / rest if folder else places.store / image.path))


def relative(image: Image, places: Places) -> Image:
    """The image with a path that starts from one of the places if it lies in one of them; undone by `resolve`.

    What is stored has such paths, so that a store, a data folder and an image folder can be moved.
    """
    path = Path(image.path)
    for prefix, folder in (("", places.store), ("@images/", places.images), ("@data/", places.data)):
        if folder and path.is_relative_to(folder):
            return replace(image, path=prefix + path.relative_to(folder).as_posix())
    return image


def resolved(thing: Thing, places: Places) -> Thing:
    """The item, example or record with its image's path as `resolve` has it."""
    return replace(thing, image=resolve(thing.image, places)) if thing.image else thing  # type: ignore[type-var]


def movable(thing: Thing, places: Places) -> Thing:
    """The item, example or record with its image's path as `relative` has it."""
    return replace(thing, image=relative(thing.image, places)) if thing.image else thing  # type: ignore[type-var]


@dataclass(frozen=True)
class StoreImages:
    """Pictures for a stage under way (`harness.contracts.benchmark.Images`), with paths as they are once it is done.

    `staging` is the folder being filled and `final` the stage's folder, both in the store; `upright` is how its
    pictures are to be read.
    """

    places: Places
    staging: Path
    final: Path
    upright: bool = False

    def at(self, path: Path) -> Image:
        """The picture in a file; its path is as `relative` has it. One that lies in none of the places is copied."""
        path = path.absolute()
        if not path.is_file():
            raise UsageError(f"no image {path}; get it, or take out the record that names it.")
        image = Image(str(path), file_digest(path), self.upright)
        if path.is_relative_to(self.staging):
            image = replace(image, path=str(self.final / path.relative_to(self.staging)))
        image = relative(image, self.places)
        return self.of(path.read_bytes()) if Path(image.path).is_absolute() else image

    def settled(self, thing: Thing) -> Thing:
        """`movable`, and a picture that lies in none of the places is copied: what is stored names no other place."""
        moved = movable(thing, self.places)
        if moved.image is None or not Path(moved.image.path).is_absolute():
            return moved
        return replace(moved, image=self.of(Path(moved.image.path).read_bytes()))  # type: ignore[type-var]

    def of(self, data: bytes) -> Image:
        """A picture that came inside a record; written once, under its digest."""
        name = hashlib.sha256(data).hexdigest()
        path = self.staging / "images" / name
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
            failpoint("images.written")
        return relative(Image(str(self.final / "images" / name), name, self.upright), self.places)
