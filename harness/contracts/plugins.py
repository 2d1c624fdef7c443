"""Finds methods, benchmarks and data sources: a plugin is a file, and the file's name is its name.

No registry and no decorator: `methods/dpo.py` is `dpo`, and `./mine.py` is the method in that file, whose name may be
none of ours. A benchmark's file that a user names is adopted under its own name, for as long as the process lives.

What is a user's is the same for every seam. The file is executed once, until it or what it counts with changes. It
imports what lies beside it, wherever the command was given. What it reads beside itself lies in the folder of its name
(`mine/`), or is named by it. All this is in keys (`harness.store.closure`).
"""

import difflib
import importlib
import importlib.util
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import fields, is_dataclass
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, get_args, get_type_hints

from harness.contracts import borrowed
from harness.store.closure import OURS, SOURCES, Alone, Entry
from harness.system.blame import import_fault, plugin_fault, shown
from harness.system.errors import UsageError
from harness.system.jsonl import dumps

T = TypeVar("T")
Adopted = dict[tuple[str, str], Path]
Editions = dict[Path, str]

HANDED = ("benchmarks", "harness.sources")  # are handed their folder, whose content is in the keys of items and splits

_adopted: Adopted = {}
_loaded: Editions = {}
_held: Editions = {}
_beside: dict[str, Path] = {}  # first names of what outside files import of their user's -> where it lies


def installed(package: str) -> list[str]:
    """Plugin names in an import package, sorted; reads the folder, imports no plugin."""
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    files = [path for folder in folders for path in Path(folder).glob("*.py")]
    return sorted(path.stem for path in files if not path.stem.startswith("_"))


def names(package: str) -> list[str]:
    """The names that this process knows: what is installed, and what it has adopted."""
    return sorted({*installed(package), *(name for kind, name in _adopted if kind == package and outside(kind, name))})


def foreign(package: str, given: Iterable[str]) -> set[str]:
    """Those of some names that no plugin has here."""
    return {name for name in set(given) - set(names(package)) if not borrowed.there(package, name)}


def adopt(package: str, file: str) -> str:
    """Take an outside file in under its own name, which is returned; a word that is no path is returned as it is.

    A link is called as the file that it leads to, whose folder it reads. Of "lmms:gqa=FOLDER" the name is returned.

    Only what a user gives on the command line is adopted: its code will run. UsageError for a name that is taken.
    """
    if not file.endswith(".py"):
        name, path = borrowed.placed(package, file)
        if path is None:
            return name
    else:
        path = source(package, file)
        name = path.stem
    if _adopted.get((package, name), path) != path:
        cure = f"its files are in {_adopted[package, name]} already" if path.is_dir() else "rename the file"
        raise UsageError(f'{file}: there is another {_noun(package)} "{name}"; {cure}.')
    _adopted[package, name] = path
    return name


def adopt_files(package: str, given: str | Sequence[str]) -> None:
    """The same of words that must be paths, as a list or with commas between."""
    for file in filter(None, given.split(",")) if isinstance(given, str) else given:
        if not file.endswith(".py"):
            raise UsageError(f"{file} is no Python file; name that of a {_noun(package)} of yours, ./mine.py.")
        adopt(package, file)


def _noun(package: str) -> str:
    """What a package's plugins are, one of them."""
    name = package.rpartition(".")[2]
    return "model family" if name == "families" else name.removesuffix("s")


def adopted() -> Adopted:
    """What this process has adopted, for others to `adopt_all`: (package, name) -> file."""
    return dict(_adopted)


def adopt_all(files: Adopted) -> None:
    """Adopt what another process has."""
    _adopted.update(files)


def editions() -> Editions:
    """Outside files that this process has loaded -> digest of what it loaded last, with all that this imports."""
    return dict(_loaded)


def hold(files: Editions) -> None:
    """From now on load these files as they were, or not at all."""
    _held.clear()
    _held.update(files)


def leave() -> None:
    """Hold to nothing, and load anew what a user's files are from now on."""
    for name in [name for name in sys.modules if name.partition(".")[0] in _beside]:
        del sys.modules[name]
    for known in (_held, _loaded, _beside):
        known.clear()


def held() -> Editions:
    """What this process holds to, for others to do the same."""
    return dict(_held)


def own_folder(package: str, name: str) -> Path | None:
    """The folder of data beside an outside file, of its name (`mine/` beside `mine.py`); None where there is none.

    Of a borrowed plugin the folder that it was named with.
    """
    if borrowed.maker(package, name):
        return _adopted.get((package, name))
    file = source(package, name) if outside(package, name) else None
    return file.with_suffix("") if file and file.with_suffix("").is_dir() else None


def outside(package: str, name: str) -> bool:
    """Whether a name is that of a user's file."""
    return name.endswith(".py") or ((package, name) in _adopted and not borrowed.maker(package, name))


def stem(name: str) -> str:
    """A plugin's own name: of an outside file its name without folder and ending."""
    return Path(name).stem if name.endswith(".py") else name


def plain(identity: object, whose: str) -> dict[str, Any]:
    """What a plugin says that identifies it; UsageError where it is not plain data, so that no key could have it."""
    try:
        if isinstance(identity, Mapping):
            dumps(dict(identity))
            return dict(identity)
    except (TypeError, ValueError):
        pass
    raise UsageError(f"{whose}.identity gives {identity!r:.200}; wanted: a dict of texts, numbers and lists of them.")


def parted(words: str) -> tuple[str, str]:
    """A plugin's name or file, and what it is told: ("openai", "MODEL") of "openai:MODEL", of "./mine.py" no more."""
    outside = re.fullmatch(r"(.+?\.py)(?::(.*))?", words, re.DOTALL)
    which, _, rest = words.partition(":")
    return (outside[1], outside[2] or "") if outside else (which, rest)


def called(words: str) -> str:
    """The same words without a path: "mine:strict" of "~/mine.py:strict"."""
    which, rest = parted(words)
    return f"{stem(which)}:{rest}" if rest else stem(which)


def unknown(kind: str, name: str, known: list[str]) -> UsageError:
    """The error for a name that is not there: one sentence with the nearest name and the list."""
    close = difflib.get_close_matches(name, known, n=1)
    hint = f'; did you mean "{close[0]}"?' if close else "."
    return UsageError(f'no {kind} "{name}"{hint} Known: {", ".join(known)}.')


def source(package: str, name: str) -> Path:
    """The file of a plugin: in its package, or an outside file given as a path ending in .py."""
    if name.endswith(".py"):
        path = Path(name).expanduser().resolve()
        if not path.is_file():
            raise UsageError(f"no file {name}; give a path to a Python file that defines one plugin.")
        for word in (stem(name), path.stem):  # a link, and what it leads to
            if word in installed(package) and path != source(package, word):
                raise UsageError(f'{name}: the {_noun(package)} "{word}" is ours; rename the file.')
        return path
    if borrowed.maker(package, name):
        return Path(str(borrowed.module(package, name).__file__))
    if (package, name) in _adopted:
        return _adopted[package, name]
    if name not in names(package):
        raise unknown(_noun(package), name, names(package))
    module = importlib.util.find_spec(f"{package}.{name}")
    if module is None or module.origin is None:
        raise UsageError(f"{package}/{name}.py cannot be found; is another package called {package} in the way?")
    return Path(module.origin)


def counted(package: str, name: str) -> Entry:
    """A plugin's file as it counts in keys: an outside one with the folder of its name beside it, where it has one."""
    file = source(package, name)
    return Alone(file) if package in HANDED and outside(package, name) else file


def lmms_eval() -> str:
    """The version of lmms-eval where it and what it imports are installed, else ""; imports none of it."""
    needed = ("lmms_eval", "loguru", "sacrebleu", "evaluate", "pytz", "tenacity", "datasets", "openpyxl", "nltk")
    return metadata.version("lmms-eval") if all(map(importlib.util.find_spec, needed)) else ""


def module(package: str, name: str) -> ModuleType:
    """The plugin's module, imported.

    UsageError for an outside file that is not what it is held to (`hold`): a stage's key is that of what it was.
    """
    path = source(package, name)
    if not outside(package, name):
        try:
            return importlib.import_module(f"{package}.{name}")
        except Exception as error:
            raise import_fault(error, path) from None
    qualified = f"{package}_file_{stem(name)}"
    edition = SOURCES.digest(counted(package, name))
    if _held.get(path, edition) != edition:
        raise _changed(path)
    known = sys.modules.get(qualified)
    if known is None or known.__file__ != str(path) or _loaded.get(path) != edition:
        known = _executed(qualified, path)
        if SOURCES.digest(counted(package, name)) != edition:
            raise _changed(path)
        _loaded[path] = edition
    return known


def _executed(qualified: str, path: Path) -> ModuleType:
    """An outside file as a new module."""
    _forget(path)
    _claim(path)
    spec = importlib.util.spec_from_file_location(qualified, path)
    assert spec is not None and spec.loader is not None, "its name ends in .py"
    made = sys.modules[qualified] = importlib.util.module_from_spec(spec)
    try:
        with redirect_stdout(sys.stderr):  # what a file prints is no result
            spec.loader.exec_module(made)
    except BaseException as error:
        del sys.modules[qualified]
        if isinstance(error, KeyboardInterrupt):
            raise
        raise import_fault(error, path) from None
    return made


def _changed(path: Path) -> UsageError:
    return UsageError(
        f"{shown(str(path))} has changed since this comparison began; the same command again makes what it decides "
        "anew."
    )


def _forget(file: Path) -> None:
    """Have an outside file import anew what it imports of a user's files."""
    of_file = {str(path) for path in SOURCES.files(file).values()}
    for name, known in list(sys.modules.items()):
        if name.partition(".")[0] not in (*OURS, "__main__") and getattr(known, "__file__", None) in of_file:
            del sys.modules[name]


class _Beside:
    """Finds what outside files import of their user's where keys have it from, before it is looked for elsewhere."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The module or package of a first name that is claimed; None for any other name."""
        return PathFinder.find_spec(name, [str(_beside[name])]) if name in _beside else None


def _claim(file: Path) -> None:
    """Have an outside file find its user's modules; UsageError where others have their names in this process."""
    if _Beside not in sys.meta_path:
        sys.meta_path.insert(0, _Beside)
    importlib.invalidate_caches()
    for name, home in SOURCES.homes(file).items():
        other = getattr(sys.modules.get(name), "__file__", None) or _beside.get(name, home)
        if other != home:
            raise UsageError(f"{shown(str(file))} imports {home / name}, and {other} has this name too; rename one.")
        _beside[name] = home


def plugin(package: str, name: str, base: type[T]) -> type[T]:
    """The one subclass of `base` that the plugin's file defines, or that is made for a borrowed one."""
    if borrowed.maker(package, name):
        kind: type[T] = borrowed.made(package, name)
        return kind
    loaded = module(package, name)
    found = [
        thing
        for thing in vars(loaded).values()
        if isinstance(thing, type) and issubclass(thing, base) and thing.__module__ == loaded.__name__
    ]
    if len(found) != 1:
        raise UsageError(f"{name} defines {len(found)} subclasses of {base.__name__}; it must define exactly one.")
    return found[0]


def refuse_truths(given: Any, kinds: Mapping[str, Any]) -> None:
    """ValueError for a true or false where a field takes none: pydantic would read 1 or 0, and YAML reads yes so."""
    for name, value in given.items() if isinstance(given, dict) else ():
        if isinstance(value, bool) and name in kinds and not _takes_truths(kinds[name]):
            raise ValueError(f"{name} is {value}, which is no number or text; a text is written in quotes")


def _takes_truths(kind: Any) -> bool:
    return kind in (bool, object, Any) or any(map(_takes_truths, get_args(kind))) or isinstance(kind, bool)


def make(package: str, name: str, base: type[T], options: dict[str, Any]) -> T:
    """The plugin with its options set; an unknown or malformed option is a UsageError that lists them."""
    from pydantic import TypeAdapter, ValidationError

    cls = plugin(package, name, base)
    if not is_dataclass(cls):
        raise UsageError(f"{cls.__name__} in {name} is not a dataclass; its fields are its options.")
    known = sorted(field.name for field in fields(cls))
    for option in options:
        if option not in known:
            raise unknown(f"option of {name}", option, known or ["(it has none)"])
    try:
        refuse_truths(options, get_type_hints(cls))
    except ValueError as error:
        raise UsageError(f"{name}.{error}.") from None
    try:
        made: T = TypeAdapter(cls).validate_python(options)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{name}.{where}: {first['msg']} (given: {first['input']!r}).") from None
    except UsageError:
        raise
    except Exception as error:  # of a __post_init__ or a default
        raise UsageError(plugin_fault(error) or f"{name} cannot be made: {type(error).__name__}: {error}.") from error
    for option in options:
        if isinstance(value := getattr(made, option), float) and not math.isfinite(value):
            raise UsageError(f"{name}.{option}: {value} is no number that anything can be computed with.")
    return made
