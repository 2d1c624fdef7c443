"""A source's examples outside a comparison: from its files, or from files that the testbed draws for the purpose."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.contracts.behind import behind
from harness.contracts.images import Places, StoreImages, resolve
from harness.contracts.pictures import Seen
from harness.contracts.records import Dropped, Example, Image
from harness.contracts.settings import Testbed
from harness.contracts.source import Source
from harness.system.errors import UsageError


@dataclass(frozen=True)
class Files:
    """A source whose files are there, how it is read, and a folder for pictures that lie in no file of their own."""

    source: Source
    testbed: Testbed
    scratch: Path

    def examples(self, seed: int, seen: Seen | None = None) -> Iterator[Example | Dropped]:
        """All of them in the order in which a split of this seed takes them; a picture is read when it is due.

        `seen` is handed each that is.
        """
        places = Places(self.scratch)
        images = StoreImages(places, self.scratch, self.scratch, self.testbed.reading.images == "upright")

        def keep(data: bytes) -> Image:
            return resolve(images.of(data), places)

        return self.source.load(
            lambda id: sha256(f"{seed}/{id}".encode()).hexdigest(), self.testbed.reading, keep, seen
        )

    def forget(self, image: Image) -> None:
        """A picture that was kept for this alone is not needed any more."""
        if Path(image.path).is_relative_to(self.scratch / "images"):
            Path(image.path).unlink(missing_ok=True)


@contextmanager
def files_of(source: Source, testbed: Testbed, n: int | None, seed: int) -> Iterator[Files]:
    """The source with files, `n` examples of them where the testbed draws it (None: as many as it usually does)."""
    with TemporaryDirectory(prefix="harness-data-") as folder:
        scratch, bed = Path(folder), behind(testbed.data)
        if source.home is None:
            if unknown := [part.name for part in source.parts if part.name not in bed.sources]:
                raise UsageError(
                    f"{testbed.name} draws its pictures, and knows no {unknown[0]}; name the testbed of official "
                    "files that has them with --testbed."
                )
            home = scratch / "drawn"
            for name, count in source.shares(n or testbed.examples).items():
                out = home / name if len(source.parts) > 1 else home
                out.mkdir(parents=True, exist_ok=True)
                bed.draw_source(name, "alignment", seed, count, out)
            source = source.at(home)
        source.check()
        yield Files(source, testbed, scratch)
