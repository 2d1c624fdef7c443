"""The source that `--data` names; asked once, where a request is made."""

from pathlib import Path

from harness.contracts import plugins
from harness.contracts.source import PACKAGE, Source, declared
from harness.sources._rows import is_data
from harness.sources.local import FORMATS, Local
from harness.system.errors import UsageError

LOCAL = "local"  # is meant by a path, not by its name


def named() -> list[str]:
    """The names that sources here have on the command line."""
    return [name for name in plugins.installed(PACKAGE) if name != LOCAL]


def source(word: str, images: str = "", home: Path | None = None) -> Source:
    """What a word means: a source by its name, a Python file that defines one, or a file or folder of records.

    `images` is the folder of `--images`, `home` that of a testbed's files, None where it draws them. UsageError where
    the word means nothing; whether the files are there is for `Source.check` to say.
    """
    path = Path(word).expanduser()
    if images and (word.endswith(".py") or word in named()):
        raise UsageError(f"--images goes with a data file of your own; {word} says itself where its pictures are.")
    if word.endswith(".py"):
        kind, file = declared(plugins.adopt(PACKAGE, word)), path.resolve()
        beside = file.parent / (kind.beside or file.stem)
        return kind(beside, beside)
    if word in named():
        return declared(word)(home / "sources" / word if home else None)
    if "/" in word or path.is_file() or is_data(path):
        return Local(path, Path(images).expanduser() if images else path if path.is_dir() else path.parent)
    raise UsageError(f"{plugins.unknown('data', word, named())} Or data of your own: a Python file, {FORMATS}.")
