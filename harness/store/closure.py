"""Which source files decide what a stage holds: those its body imports. Their digest is in the stage's key.

Imports are read from the syntax trees, those inside functions too, and followed through our own modules; a parent
package's `__init__` counts as imported, and what its `__all__` names. What only type checkers import does not. Other
packages count by the first two parts of their version, so that another transformers makes its stages anew and a patch
of it does not.

A user's file counts with what it imports of the user's, beside it or on Python's path; with the files that it names
("prompt.txt", from where it lies); and with the folder of its name beside it, all of it (`mine/` of `mine.py`).
"""

import os
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from importlib import machinery, metadata
from pathlib import Path
from typing import Any, NamedTuple

from harness import HOME
from harness.store.contents import CONTENTS, Stamp, files_in, stamp
from harness.store.digest import source
from harness.store.syntax import imports_of, texts_in
from harness.system.errors import UsageError

OURS = ("harness", "methods", "benchmarks", "reports")

# Modules that cannot change a result, and why; what only they import cannot either.
NEUTRAL = {
    "harness": "holds the version, and finds our packages where they are",
    "harness.contracts.behind": "finds a testbed's files, whose content, or the code that draws them, is in keys",
    "harness.contracts.testbed_kind": "says what a testbed promises; the code that draws is in keys",
    "harness.store.closure": "makes keys; no result sees them",
    "harness.store.syntax": "reads sources; makes keys",
    "harness.store.contents": "remembers digests of files; makes keys",
    "harness.system.locks": "keeps others away while a body writes",
    "harness.system.leases": "keeps other machines away while a body writes",
    "harness.system.machine": "says in a sentence what the machine lacked",
    "harness.store.manifest": "seals what a body has written and finds what has changed since",
    "harness.store.store": "moves and seals what a body has written, and reads none of it",
    "harness.store.writing": "seals what a body has written, and reads none of it",
    "harness.system.blame": "says whose code an exception came from; a result never has one",
    "harness.training.launch": "starts a training's processes and waits for them; what they do is the engine's",
    "harness.system.boards": "shows curves elsewhere while they are drawn",
    "harness.judging.journal": "keeps replies as they came; what was asked is their key",
    "harness.judging.prices": "counts what calls cost; no request and no reply sees it",
    "harness.contracts.executor": "who runs a stage and what it takes meanwhile; no body sees either",
    "harness.system.profile": "measures time, memory and FLOPs beside a result",
    "harness.models.footprint": "says what memory work takes; how much is done at once changes no result",
    "harness.system.energy": "measures joules beside a result",
}

# Files that modules read, beside themselves.
DATA = {
    "harness.backends._vllm_engine": ("harness/backends/_vllm_worker.py",),
    "harness.judging.codebook": ("harness/judging/codebook.yaml",),
    "benchmarks._coco_objects": ("benchmarks/chair_data/*",),
    "benchmarks._amber_nouns": ("benchmarks/amber_data/*",),
    "harness.viewing.shell": ("harness/viewing/assets/*",),
    "reports.glossary": ("reports/glossary.md",),
    "reports.page": ("reports/pages/*",),
    "reports.layouts": ("reports/paper_tables.json",),
}

# Packages whose version can change a number or a text: import name -> distribution.
DECIDING = {
    "torch": "torch",
    "transformers": "transformers",
    "tokenizers": "tokenizers",
    "peft": "peft",
    "deepspeed": "deepspeed",
    "bitsandbytes": "bitsandbytes",
    "PIL": "pillow",
    "numpy": "numpy",
    "scipy": "scipy",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "datasets": "datasets",
    "openpyxl": "openpyxl",
    "nltk": "nltk",
    "lmms_eval": "lmms-eval",
}
BROUGHT = {"transformers": ("tokenizers",)}  # what comes with a package under another name
ENDINGS = (*machinery.EXTENSION_SUFFIXES, *machinery.SOURCE_SUFFIXES, *machinery.BYTECODE_SUFFIXES)  # as Python looks


BEGAN = time.time_ns()  # what this process has imported was written before, or cannot be told
Module = tuple[str, Path, tuple[Path, ...]]  # name, file, and the folders that its own imports may lie in


class Alone(NamedTuple):
    """A plugin's file without the folder beside it: the contract hands it that, and keys have what is in it."""

    file: Path


Entry = str | Path | Alone  # a module of ours, or a plugin's file


class Read(NamedTuple):
    """A file as it was read: its digest, what it imports, and of a user's the texts in it, which may name files."""

    stamp: Stamp
    digest: str
    imports: tuple[str, ...] = ()
    packages: frozenset[str] = frozenset()  # first names of what it imports by whole names
    texts: frozenset[str] = frozenset()


class Sources:
    """The source files of our packages: of `harness` in `root`, of the others in `home`.

    A process runs what it has imported. So a file of ours that changes after it was read is a UsageError from then on.
    """

    def __init__(self, root: Path, home: Path | None = None) -> None:
        self.root, self.home = root, home or root
        self._reads: dict[Path, Read] = {}
        self._found: dict[str, list[Module]] = {}
        self._closures: dict[tuple[Entry, ...], dict[str, Path]] = {}
        self._insides: dict[Path, Path | None] = {}

    def files(self, *entries: Entry) -> dict[str, Path]:
        """Every file in the closure of modules, or of a plugin's file outside our packages, by a name without place.

        Files of users' that have one name have a mark more each: which of them a body loads is not for us to guess.
        """
        if entries in self._closures:
            return self._closures[entries]
        reached: dict[str, Path] = {}
        for name, path, _ in self._closure(entries):
            while name in reached:
                name += "'"
            reached[name] = path
            for pattern in DATA.get(name, ()):
                folder = self._folder(name)
                reached |= {str(p.relative_to(folder)): p for p in folder.glob(pattern) if p.is_file()}
            if not self._inside(path):
                reached |= {f"{name}: {text}": Path(file) for text, file in self._named(path)}
                folder = path.with_suffix("")
                reached |= {f"{name}/{inner}": folder / inner for inner in files_in(folder) if path in entries}
        made = dict(sorted(reached.items()))
        if all(isinstance(entry, str) or (isinstance(entry, Path) and self._inside(entry)) for entry in entries):
            self._closures[entries] = made  # a user's files may change while we run, ours do not
        return made

    def homes(self, file: Path) -> dict[str, Path]:
        """Where a user's file, and what it imports, finds the user's modules: their first names -> folders."""
        found: dict[str, Path] = {}
        for name, path, _ in self._closure([file]):
            if name != file.name and not self._inside(path):
                parts = name.split(".")
                found[parts[0]] = path.parents[len(parts) - (not path.name.startswith("__init__."))]
        return found

    def digest(self, *entries: Entry) -> str:
        """sha256 of the closure: of Python files the syntax trees count, of others the bytes.

        UsageError for a file of ours that has changed since it was read.
        """
        lines = [f"{name} {self._read(path).digest}" for name, path in self.files(*entries).items()]
        return sha256("\n".join(lines).encode()).hexdigest()

    def known(self) -> dict[Path, Read]:
        """Our files as this process has read them, for another to `hold` to."""
        return {path: read for path, read in self._reads.items() if self._inside(path)}

    def hold(self, known: Mapping[Path, Read]) -> None:
        """Take our files to be as another process has read them."""
        self._reads.update(known)

    def imported(self) -> None:
        """UsageError where this process has imported one of our files that is not as another process has read it."""
        for path in [path for path in self._reads if _imports(self._inside(path), path)]:
            self._read(path)

    @contextmanager
    def held(self, *entries: Entry) -> Iterator[None]:
        """UsageError where a file of ours in the closure has changed; in the end, of those that are imported meanwhile.

        What was imported before may change while this is open: a training of hours does not care.
        """
        self.digest(*entries)
        before = set(sys.modules)
        yield
        for name, path in self.files(*entries).items():
            if name in sys.modules and name not in before:
                self._read(path)

    def packages(self, *entries: Entry) -> dict[str, str]:
        """Other people's packages that the closure imports and that can change a result: name -> major.minor.

        Of those that a user's own file imports, all that are installed.
        """
        names: set[str] = set()
        for path in self.files(*entries).values():
            for top in self._read(path).packages:
                if top in DECIDING:
                    names |= {DECIDING[top], *BROUGHT.get(top, ())}
                elif not self._inside(path):
                    names.add(top)
        return {name: short for name in sorted(names) if (short := _version(name))}

    def code(self, *entries: Entry) -> dict[str, Any]:
        """`code`: the digest of the closure; `packages`: the versions of other people's packages in it."""
        return {"code": self.digest(*entries), "packages": self.packages(*entries)}

    def _closure(self, entries: Iterable[Entry]) -> Iterator[Module]:
        cut = NEUTRAL.keys() - {*entries, "harness"}
        todo: list[Module] = []
        for entry in entries:
            entry = entry.file if isinstance(entry, Alone) else entry
            todo += [self._file(entry)] if isinstance(entry, Path) else self._places(entry, ())
        reached = set[tuple[str, Path]]()
        while todo:
            name, path, homes = todo.pop()
            if (name, path) in reached or name in cut or name == "harness":
                continue
            reached.add((name, path))
            yield name, path, homes
            package = name.split(".") if path.name.startswith("__init__.") else name.split(".")[:-1]
            for imported in self._read(path).imports:
                bare = imported.lstrip(".")
                up = len(imported) - len(bare)
                whole = ".".join([*package[: len(package) - up + 1], bare]).strip(".") if up else imported
                places = self._places(whole, homes)
                todo += places if not any(place[0] in cut for place in places) else []

    def _file(self, path: Path) -> Module:
        """A plugin given by its file: one of ours, or a user's, who may import what lies beside it."""
        if inside := self._inside(path):
            return ".".join(inside.with_suffix("").parts), path, ()
        return path.name, path, (path.parent, *_importable())

    def _folder(self, name: str) -> Path:
        """The folder that the package of one of our modules lies in."""
        return self.root if name.partition(".")[0] == "harness" else self.home

    def _inside(self, path: Path) -> Path | None:
        """A file of ours as its package has it; None of others."""
        if path not in self._insides:
            insides = [path.relative_to(folder) for folder in (self.home, self.root) if path.is_relative_to(folder)]
            self._insides[path] = next((inside for inside in insides if inside.parts[0] in OURS), None)
        return self._insides[path]

    def _places(self, name: str, homes: tuple[Path, ...]) -> list[Module]:
        """The module and its parents, as far as they are files of ours or lie in one of a user's folders."""
        if name.partition(".")[0] in OURS:
            if name not in self._found:
                self._found[name] = _files_of(name, self._folder(name), ())
            return self._found[name]
        if not homes or _installed(name.partition(".")[0]):
            return []
        return next((places for home in homes if (places := _files_of(name, home, homes))), [])

    def _named(self, path: Path) -> Iterator[tuple[str, str]]:
        """Files that a text in a user's file names, and those in a folder so named if it asks for its own place."""
        texts = self._read(path).texts
        for text in texts:
            place = os.path.join(path.parent, text)  # noqa: PTH118 -- a text may be too long for a Path to ask about
            if os.path.isabs(text) or not text.strip("./"):  # noqa: PTH117
                continue
            if os.path.isfile(place):  # noqa: PTH113
                yield text, place
            elif "__file__" in texts and os.path.isdir(place):  # noqa: PTH112
                yield from ((f"{text}/{name}", f"{place}/{name}") for name in files_in(Path(place)))

    def _read(self, path: Path) -> Read:
        """A file as it is now; UsageError for one of ours that is not as it was, or was imported as it was before."""
        now, known = stamp(path), self._reads.get(path)
        if known and known.stamp == now:
            return known
        ours = self._inside(path)
        if path.suffix == ".py":
            digest, tree = source(path)
            assert tree is not None, "it is Python"
            texts = frozenset() if ours else frozenset(texts_in(tree))
            imports = imports_of(tree, path.name == "__init__.py")
            packages = frozenset(name.partition(".")[0] for name in imports if not name.startswith("."))
            read = Read(now, digest, imports, packages, texts)
        else:
            read = Read(now, CONTENTS.digest(path))
        stale = known.digest != read.digest if known else now.mtime > BEGAN and _imports(ours, path)
        if ours and stale:
            raise UsageError(
                f"{path} has changed since this comparison began; the same command again, in a new process, makes what "
                "it decides anew."
            )
        self._reads[path] = read
        return read


def _imports(ours: Path | None, path: Path) -> bool:
    """Whether this process has imported a file of ours."""
    name = ".".join(ours.with_suffix("").parts).removesuffix(".__init__") if ours else ""
    return getattr(sys.modules.get(name), "__file__", None) == str(path)


def _files_of(name: str, home: Path, homes: tuple[Path, ...]) -> list[Module]:
    parts, places = name.split("."), list[Module]()
    for end in range(1, len(parts) + 1):
        stem = home.joinpath(*parts[:end])
        files = (Path(f"{start}{ending}") for start in (stem / "__init__", stem) for ending in ENDINGS)
        file = next((file for file in files if file.is_file()), None)
        if file:
            places.append((".".join(parts[:end]), file, homes))
    return places


def _importable() -> list[Path]:
    """Folders that Python imports from and that hold nobody's installed packages."""
    installed = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders = [Path(entry or ".").resolve() for entry in sys.path]
    return [folder for folder in folders if folder.is_dir() and not any(map(folder.is_relative_to, installed))]


@cache
def _installed(name: str) -> bool:
    """Whether a module is Python's own or an installed package's: then a user's file of this name is another's."""
    folders = [sysconfig.get_path(name) for name in ("purelib", "platlib")]
    return name in sys.stdlib_module_names or machinery.PathFinder.find_spec(name, folders) is not None


@cache
def _version(name: str) -> str:
    """Major.minor of a package, by its name or by what it is imported as; "" where there is none."""
    try:
        full = metadata.version(name)
    except metadata.PackageNotFoundError:
        if name in sys.stdlib_module_names or name in DECIDING.values():
            return ""
        known = metadata.packages_distributions().get(name, [])
        full = metadata.version(known[0]) if known else ""
    return ".".join(full.split(".")[:2])


SOURCES = Sources(Path(__file__).resolve().parents[2], HOME.resolve())


def code(*entries: Entry) -> dict[str, Any]:
    """What identifies the code of a stage whose body, plugin and judge are these modules or files (`Sources.code`)."""
    return SOURCES.code(*entries)
