"""The source that `--data` names; asked once, where a request is made."""

from collections import Counter
from math import gcd
from pathlib import Path

from harness.contracts import plugins
from harness.contracts.joined import Joined, weighed
from harness.contracts.source import PACKAGE, Source, declared, official
from harness.sources._rows import is_data
from harness.sources.local import FORMATS, Local
from harness.system.errors import UsageError

LOCAL = "local"  # is meant by a path, not by its name


def named() -> list[str]:
    """The names that sources here have on the command line."""
    return [name for name in plugins.installed(PACKAGE) if name != LOCAL]


def source(word: str, images: str = "", home: Path | None = None) -> Source:
    """What a word means: a source by its name, a Python file that defines one, or a file or folder of records.

    Several with "+" between are joined, each with its weight behind a colon where it is not 1. `images` is the folder
    of `--images`, `home` that of a testbed's files, None where it draws them. UsageError where a word means nothing;
    whether the files are there is for `Source.check` to say.
    """
    if "+" in word and not Path(word).expanduser().exists():
        return _joined(word, images, home)
    return _single(word, images, home)


def beside(name: str, home: Path | None) -> Source:
    """The source of `training.joint`, whose files are the testbed's in `home`; UsageError for another word."""
    if name not in named():
        told = plugins.unknown("source in training.joint", name, named())
        mine = "A file of your own is one where it lies in the place of a source's official file; null joins none."
        raise UsageError(f"{told} {mine}")
    return official(name, home)


def _joined(word: str, images: str, home: Path | None) -> Source:
    given = [weighed(part.strip()) for part in word.split("+")]
    if not all(part and weight for part, weight in given):
        raise UsageError(f"--data {word}: write NAME+NAME or NAME:2+NAME:1, weights in whole numbers, 1 or more.")
    mine = [part for part, _ in given if part not in named() and not part.endswith(".py")]
    if images and not mine:
        raise UsageError(f"--images goes with a data file of your own, and {word} has none.")
    found = [(_single(part, images if part in mine else "", home), weight) for part, weight in given]
    pairs = sorted(found, key=lambda pair: pair[0].name)  # the same examples, however they are written
    for name, count in Counter(part.name for part, _ in pairs).items():
        if count > 1:
            one = "put the files into one" if name == LOCAL else f"give it a weight, {name}:2"
            raise UsageError(f"--data {word} has {count} parts that are called {name}; {one}.")
        if "+" in name or ":" in name:
            raise UsageError(f"--data {word}: {name}.py cannot be joined under this name; rename the file.")
    parts, divisor = tuple(part for part, _ in pairs), gcd(*(weight for _, weight in pairs))
    own = [part for part in parts if part.own]
    if own and any(part.home is None for part in parts):
        raise UsageError(
            f"--data {word}: this testbed draws its own sources, and no file of yours can be joined to them; "
            "use one of official files."
        )
    weights = tuple(weight // divisor for _, weight in pairs)
    lies = own[0].home if own else home / "sources" if home else None
    return Joined(lies, own[0].images if own else None, parts, weights)


def _single(word: str, images: str, home: Path | None) -> Source:
    path = Path(word).expanduser()
    if images and (word.endswith(".py") or word in named()):
        raise UsageError(f"--images goes with a data file of your own; {word} says itself where its pictures are.")
    if word.endswith(".py"):
        kind, file = declared(plugins.adopt(PACKAGE, word)), path.resolve()
        beside = file.parent / (kind.beside or file.stem)
        made = kind(beside, beside)
        if other := {made.name, str(made)} - {file.stem}:
            raise UsageError(f"{word} calls itself {min(other)}; a source is called as its file, {file.stem}.")
        return made
    if word in named():
        return official(word, home)
    if "/" in word or path.is_file() or is_data(path):
        path, start = path.absolute(), Path(images).expanduser().absolute() if images else None
        return Local(path, start or (path if path.is_dir() else path.parent))
    raise UsageError(f"{plugins.unknown('data', word, named())} Or data of your own: a Python file, {FORMATS}.")
