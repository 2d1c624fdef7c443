"""A source of each kind with a dozen records to try it with: what `tests/seams/test_source.py` and others run over."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from textwrap import dedent
from typing import Any

from PIL import Image as Pillow

from harness.contracts import images
from harness.contracts import source as contract
from harness.contracts.images import Places
from harness.contracts.records import Dropped, Example
from harness.contracts.settings import Reading
from harness.contracts.source import Source, declared
from harness.sources._chosen import source as chosen
from harness.sources._published import Published
from tests.seams.found import OUTSIDE

RECORDS = 12
READING = Reading()


@dataclass(frozen=True)
class Tried:
    """A source, and the folder that holds all it reads."""

    source: Source
    root: Path

    @property
    def files(self) -> list[Path]:
        """Every file that decides its examples."""
        return sorted(path for path in self.root.rglob("*") if path.is_file() and path.suffix != ".py")

    @property
    def data(self) -> list[Path]:
        """Those of them that list records."""
        return [path for path in self.files if path.suffix in (".json", ".jsonl")]

    def at(self, root: Path) -> "Tried":
        """The same source with its files in another folder."""
        return Tried(moved(self.source, self.root, root), root)

    def copy(self, root: Path) -> "Tried":
        """The same with a copy of its files."""
        shutil.copytree(self.root, root)
        return self.at(root)

    @property
    def identity(self) -> dict[str, str]:
        """What identifies its examples."""
        return self.source.identity(READING)

    def examples(self, keep: Path) -> list[Example | Dropped]:
        """All of them, sorted by id, whose pictures' files lie nowhere."""
        found = [placeless(example) for example in self.source.load(lambda id: id, keep=kept(keep))]
        return sorted(found, key=lambda example: example.id)


def places(source: Source) -> list[tuple[str, Path]]:
    own = [(name, place) for name in ("home", "images") if (place := getattr(source, name))]
    return own if source.parts == (source,) else [*own, *(place for part in source.parts for place in places(part))]


def moved(source: Source, here: Path, there: Path) -> Source:
    """The source with its files in another folder."""
    lies: dict[str, Any] = {
        name: there / place.relative_to(here) for name in ("home", "images") if (place := getattr(source, name))
    }
    if source.parts != (source,):
        lies["parts"] = tuple(moved(part, here, there) for part in source.parts)
    return replace(source, **lies)


def placeless(example: Example | Dropped) -> Example | Dropped:
    if isinstance(example, Dropped) or example.image is None:
        return example
    return replace(example, image=replace(example.image, path=""))


def kept(folder: Path) -> Callable[[bytes], images.Image]:
    """What a split stage gives a source to write pictures with."""
    folder.mkdir(exist_ok=True)
    return images.StoreImages(Places(folder), folder, folder).of


def picture(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.new("RGB", (8, 6), (shade, 90, 200)).save(path, "PNG")


def record(number: int, prefix: str = "") -> dict[str, Any]:
    """Every third one shares its id with another, as in LLaVA-150k."""
    said = [{"from": "human", "value": f"<image>\nWhat is {number}?"}, {"from": "gpt", "value": f"It is {number}."}]
    return {"id": f"x{number - number % 3 // 2}", "image": f"{prefix}{number}.png", "conversations": said}


def published(name: str, root: Path) -> Source:
    """A source whose files are laid out as its makers publish them."""
    kind = declared(name)
    assert issubclass(kind, Published), f"{name} is no `Published`: give its suite some data to try it with"
    file, prefix = kind.files[-1]
    for number in range(RECORDS):
        picture(root / kind.folders[0] / f"{prefix}{number}.png", number)
    others = [record(number, "elsewhere/") for number in range(3)] if prefix else []
    rows = [*others, *(record(number, prefix) for number in range(RECORDS))]
    (root / file).write_text(json.dumps(rows))
    return kind(root)


def local(root: Path, shade: int = 0) -> Source:
    """A user's JSON lines beside their pictures."""
    for number in range(RECORDS):
        picture(root / "photos" / f"{number}.png", number + shade)
    (root / "my.jsonl").write_text("".join(json.dumps(record(number)) + "\n" for number in range(RECORDS)))
    return chosen(str(root / "my.jsonl"), str(root / "photos"))


def joined(root: Path) -> Source:
    """An official source, a user's file of records, and one of code."""
    published("llava150k", root / "sources" / "llava150k")
    local(root, 100)
    shutil.copy(OUTSIDE / "source" / "squares.py", root)
    word = f"llava150k:2+{root / 'my.jsonl'}+{root / 'squares.py'}"
    return chosen(word, str(root / "photos"), root)


def signs(root: Path) -> Source:
    """The example of the contract's page, with its files beside it."""
    text = re.search(r"defines one `Source`:\n\n(.*?)\n\nWhat every", contract.__doc__ or "", re.DOTALL)
    assert text
    modules = {"harness.contracts.source": "Source", "harness.contracts.records": "Example, Turn"}
    head = "import json\n" + "".join(f"from {module} import {names}\n" for module, names in modules.items()) + "\n"
    (root / "signs.py").write_text(head + dedent(text[1]))
    for folder, numbers in (("signs", range(RECORDS)), ("signs-heldout", range(50, 53))):
        rows = [{"file": f"{number}.png", "city": f"City {number}"} for number in numbers]
        for number in numbers:
            picture(root / folder / f"{number}.png", number)
        (root / folder / "signs.json").write_text(json.dumps(rows))
    return chosen(str(root / "signs.py"))


def outside(file: str, root: Path) -> Source:
    """A file of `tests/outside/source/`, with the folder beside it where it has one."""
    path = Path(file)
    shutil.copy(path, root)
    if path.with_suffix("").is_dir():
        shutil.copytree(path.with_suffix(""), root / path.stem)
    return chosen(str(root / path.name))


def made(name: str, root: Path) -> Tried:
    """A source with a dozen examples or more under `root`."""
    root.mkdir()
    if name.endswith(".py"):
        return Tried(outside(name, root), root)
    make = {"local": local, "signs": signs, "joined": joined}.get(name, partial(published, name))
    return Tried(make(root), root)


def liar(**lies: Any) -> Callable[[Tried], Tried]:
    """The same source with some of its methods changed; what they were is in `Liar.true`."""

    def of(tried: Tried) -> Tried:
        true = type(tried.source)
        as_it_is = {"__module__": true.__module__, "true": true, "__deepcopy__": lambda self, memo: self}
        changed = type("Liar", (true,), as_it_is | lies)
        return Tried(changed(tried.source.home, tried.source.images), tried.root)

    return of
