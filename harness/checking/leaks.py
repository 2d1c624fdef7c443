"""Which pictures of a benchmark a model would be trained on: the same file, nearly the same picture, the same COCO id.

COCO's train2017 holds most of val2014, from which POPE, CHAIR and others are made; a picture may also come again in
another size or compression.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from harness.checking.drawn import Files
from harness.contracts import plugins
from harness.contracts.behind import behind
from harness.contracts.benchmark import Benchmark, folder_of
from harness.contracts.images import Places, StoreImages, read_image, resolve
from harness.contracts.records import Example, Image
from harness.contracts.settings import Testbed
from harness.system.errors import UsageError
from reports.shared import coco_id

NEAR = 4
"""Of 64 bits, so many may differ between two versions of one picture."""
FLAT = 8
"""A picture with fewer rising or fewer falling places is too plain to tell from others."""
SHOWN = 5
ROWS = 256  # benchmark pictures that are held against all others at once
Hashes = NDArray[np.uint64]


@dataclass
class Pictures:
    """Different pictures, by the digest of their files: where each comes from, its hash, and the COCO ids in names."""

    whose: dict[str, str] = field(default_factory=dict)
    """Digest -> the first id that shows it."""
    hashes: dict[str, int] = field(default_factory=dict)
    """Digest -> `dhash`; the plain ones are not here."""
    coco: dict[str, str] = field(default_factory=dict)
    """COCO id -> the first id that shows it."""
    _looked: dict[str, int] = field(default_factory=dict)
    """Digest -> `dhash` of every picture that was looked at."""

    def look(self, image: Image, picture: Pillow.Image) -> None:
        """Hash a picture that has just been read; `add` says whose it is."""
        if image.sha256 not in self._looked:
            self._looked[image.sha256] = dhash(picture)

    def add(self, id: str, image: Image) -> None:
        """One more, whose file is there if it was not looked at; ValueError where it cannot be read."""
        if coco := coco_id(image.path):
            self.coco.setdefault(coco, id)
        if image.sha256 in self.whose:
            return
        self.whose[image.sha256] = id
        if image.sha256 not in self._looked:
            self.look(image, read_image(Path(image.path), image.sha256, image.upright))
        value = self._looked[image.sha256]
        if FLAT <= value.bit_count() <= 64 - FLAT:
            self.hashes[image.sha256] = value


def dhash(picture: Pillow.Image) -> int:
    """64 bits: whether brightness rises from each of 9 x 8 places to the next on its right."""
    small = picture.convert("L").resize((9, 8), Pillow.Resampling.BOX)
    rises = np.diff(np.asarray(small, np.int16), axis=1) > 0
    return int.from_bytes(np.packbits(rises).tobytes(), "big")


def mirrored(value: int) -> int:
    """The hash of the picture's mirror image, where no two places are alike."""
    rows = np.unpackbits(np.frombuffer(value.to_bytes(8, "big"), np.uint8)).reshape(8, 8)
    return int.from_bytes(np.packbits(1 - rows[:, ::-1]).tobytes(), "big")


@dataclass(frozen=True)
class Leak:
    """What a benchmark shares with the training pictures: pairs (benchmark's id, training id) of each way to tell.

    `near` leaves out what is the same file; `chance` is how many of its pictures have a near one when they are
    mirrored: what pictures that are not related give by chance. Directions of light and of layouts are kept that way.
    """

    benchmark: str
    pictures: int
    same: Sequence[tuple[str, str]]
    near: Sequence[tuple[str, str]]
    coco: Sequence[tuple[str, str]]
    chance: int


def leak(benchmark: str, asked: Pictures, trained: Pictures) -> Leak:
    """What a benchmark's pictures share with those that are trained on."""
    same = [(id, trained.whose[digest]) for digest, id in asked.whose.items() if digest in trained.whose]
    coco = [(id, trained.coco[number]) for number, id in asked.coco.items() if number in trained.coco]
    left = {digest: value for digest, value in asked.hashes.items() if digest not in trained.whose}
    names, values = list(trained.hashes), np.array([*trained.hashes.values()], np.uint64)
    at = _nearest(np.array([*left.values()], np.uint64), values)
    pairs = zip(left, at, strict=True)
    near = [(asked.whose[digest], trained.whose[names[place]]) for digest, place in pairs if place >= 0]
    mirror = _nearest(np.array([mirrored(value) for value in asked.hashes.values()], np.uint64), values)
    return Leak(benchmark, len(asked.whose), same, near, coco, sum(place >= 0 for place in mirror))


def _nearest(asked: Hashes, among: Hashes) -> list[int]:
    """For each hash the place of the nearest one among others; -1 where none is near."""
    if not len(among):
        return [-1] * len(asked)
    found: list[int] = []
    for start in range(0, len(asked), ROWS):
        distance = np.bitwise_count(asked[start : start + ROWS, None] ^ among[None])
        best = distance.argmin(axis=1)
        near = distance[np.arange(len(best)), best] <= NEAR
        found += np.where(near, best, -1).tolist()
    return found


def trained_pictures(files: Files, seed: int, n: int | None = None) -> Pictures:
    """The pictures of a source, or of its first `n` records in the seed's order."""
    found = Pictures()
    for made in islice(files.examples(seed, found.look), n):
        if isinstance(made, Example) and made.image:
            found.add(made.id, made.image)
            files.forget(made.image)
    return found


def asked_pictures(name: str, testbed: Testbed, limit: int | None = None) -> Pictures:
    """The pictures of a benchmark: of its official files, or of those that the testbed draws about `limit` scenes."""
    benchmark: Benchmark = plugins.make("benchmarks", name, Benchmark, testbed.benchmarks.get(name, {}))
    bed, found = behind(testbed.data), Pictures()
    with TemporaryDirectory(prefix="harness-data-") as folder:
        scratch = Path(folder)
        home = folder_of(name, bed.home)
        if bed.home is None and not plugins.own_folder("benchmarks", name):
            if name not in bed.benchmarks:
                raise UsageError(f"{testbed.name} draws no files of {name}; it has {', '.join(bed.benchmarks)}.")
            home = scratch / "drawn"
            home.mkdir()
            bed.draw_benchmark(name, "benchmark", 0, limit or testbed.scenes, home)
        if not home.is_dir():
            raise UsageError(f"{home} is not there; {benchmark.told(home)}")
        places = Places(scratch, bed.home.absolute() if bed.home else None)
        images = StoreImages(places, scratch, scratch, testbed.reading.images == "upright")
        for item in benchmark.items(home, images):
            if item.image:
                try:
                    found.add(item.id, resolve(item.image, places))
                except ValueError as error:
                    raise UsageError(f"{name}, {item.id}: its picture: {error}.") from None
    return found


def plain(found: Sequence[Leak]) -> dict[str, object]:
    """The same for JSON."""
    return {
        one.benchmark: {
            "pictures": one.pictures,
            "same_file": [list(pair) for pair in one.same],
            "near": [list(pair) for pair in one.near],
            "near_by_chance": one.chance,
            "same_coco_id": [list(pair) for pair in one.coco],
        }
        for one in found
    }


def examples(found: Sequence[Leak]) -> Iterator[str]:
    """The first pairs of every way to tell, in words."""
    for one in found:
        ways: Mapping[str, Sequence[tuple[str, str]]] = {
            "the same file": one.same, "nearly the same picture": one.near, "the same COCO id": one.coco,
        }  # fmt: skip
        for way, pairs in ways.items():
            for asked, trained in pairs[:SHOWN]:
                yield f"{one.benchmark} {asked} and training example {trained}: {way}"
            if len(pairs) > SHOWN:
                yield f"{one.benchmark}: {len(pairs) - SHOWN:,} more: {way}"
