"""Which source files decide what a stage holds: those its body imports. Their digest is in the stage's key.

Imports are read from the syntax trees, those inside functions too, and followed through our own modules; a parent
package's `__init__` counts as imported, and what its `__all__` names. What only type checkers import does not. Other
packages count by the first two parts of their version, so that another transformers makes its stages anew and a patch
of it does not.
"""

import ast
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache
from hashlib import sha256
from importlib import machinery, metadata
from pathlib import Path
from typing import Any

from harness import HOME
from harness.store.digest import source

OURS = ("harness", "methods", "benchmarks", "reports")

# Modules that cannot change a result, and why; what only they import cannot either.
NEUTRAL = {
    "harness": "holds the version, and finds our packages where they are",
    "harness.contracts.behind": "finds a testbed's files, whose content, or the code that draws them, is in keys",
    "harness.contracts.testbed_kind": "says what a testbed promises; the code that draws is in keys",
    "harness.store.closure": "makes keys; no result sees them",
    "harness.store.contents": "remembers digests of files; makes keys",
    "harness.system.locks": "keeps others away while a body writes",
    "harness.system.machine": "says in a sentence what the machine lacked",
    "harness.store.manifest": "seals what a body has written and finds what has changed since",
    "harness.store.store": "moves and seals what a body has written, and reads none of it",
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
    "harness.judging.codebook": ("harness/judging/codebook.yaml",),
    "benchmarks._coco_objects": ("benchmarks/chair_data/*",),
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


Module = tuple[str, Path, tuple[Path, ...]]  # name, file, and the folders that its own imports may lie in


class Sources:
    """The source files of our packages, read once each: of `harness` in `root`, of the others in `home`."""

    def __init__(self, root: Path, home: Path | None = None) -> None:
        self.root, self.home = root, home or root
        self._reads: dict[tuple[Path, int], tuple[str, tuple[str, ...]]] = {}
        self._found: dict[str, list[Module]] = {}
        self._closures: dict[tuple[str | Path, ...], dict[str, Path]] = {}

    def files(self, *entries: str | Path) -> dict[str, Path]:
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
        made = dict(sorted(reached.items()))
        if not any(isinstance(entry, Path) and not self._inside(entry) for entry in entries):
            self._closures[entries] = made  # a user's files may change while we run, ours do not
        return made

    def digest(self, *entries: str | Path) -> str:
        """sha256 of the closure: of Python files the syntax trees count, of others the bytes."""
        lines = [f"{name} {self._read(path)[0]}" for name, path in self.files(*entries).items()]
        return sha256("\n".join(lines).encode()).hexdigest()

    def packages(self, *entries: str | Path) -> dict[str, str]:
        """Other people's packages that the closure imports and that can change a result: name -> major.minor.

        Of those that a user's own file imports, all that are installed.
        """
        names: set[str] = set()
        for path in self.files(*entries).values():
            for top in {imported.partition(".")[0] for imported in self._read(path)[1]} - {""}:  # "": relative
                if top in DECIDING:
                    names |= {DECIDING[top], *BROUGHT.get(top, ())}
                elif not self._inside(path):
                    names.add(top)
        return {name: short for name in sorted(names) if (short := _version(name))}

    def code(self, *entries: str | Path) -> dict[str, Any]:
        """`code`: the digest of the closure; `packages`: the versions of other people's packages in it."""
        return {"code": self.digest(*entries), "packages": self.packages(*entries)}

    def _closure(self, entries: Iterable[str | Path]) -> Iterator[Module]:
        cut = NEUTRAL.keys() - {*entries, "harness"}
        todo: list[Module] = []
        for entry in entries:
            todo += [self._file(entry)] if isinstance(entry, Path) else self._places(entry, ())
        reached = set[tuple[str, Path]]()
        while todo:
            name, path, homes = todo.pop()
            if (name, path) in reached or name in cut or name == "harness":
                continue
            reached.add((name, path))
            yield name, path, homes
            package = name.split(".") if path.name.startswith("__init__.") else name.split(".")[:-1]
            for imported in self._read(path)[1]:
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
        insides = [path.relative_to(folder) for folder in (self.home, self.root) if path.is_relative_to(folder)]
        return next((inside for inside in insides if inside.parts[0] in OURS), None)

    def _places(self, name: str, homes: tuple[Path, ...]) -> list[Module]:
        """The module and its parents, as far as they are files of ours or lie in one of a user's folders."""
        if name.partition(".")[0] in OURS:
            if name not in self._found:
                self._found[name] = _files_of(name, self._folder(name), ())
            return self._found[name]
        return next((places for home in homes if (places := _files_of(name, home, homes))), [])

    def _read(self, path: Path) -> tuple[str, tuple[str, ...]]:
        """(digest, names imported) of a file; what is no Python imports nothing."""
        name = path, 0 if self._inside(path) else path.stat().st_mtime_ns
        if name not in self._reads:
            digest, tree = source(path)
            listed = _listed(tree) if tree and path.name == "__init__.py" else ()
            self._reads[name] = digest, tuple(sorted({*_imported(tree), *listed})) if tree else ()
        return self._reads[name]


def _files_of(name: str, home: Path, homes: tuple[Path, ...]) -> list[Module]:
    parts, places = name.split("."), list[Module]()
    for end in range(1, len(parts) + 1):
        stem = home.joinpath(*parts[:end])
        files = (Path(f"{start}{ending}") for start in (stem / "__init__", stem) for ending in ENDINGS)
        file = next((file for file in files if file.is_file()), None)
        if file:
            places.append((".".join(parts[:end]), file, homes))
    return places


def _imported(tree: ast.AST) -> Iterator[str]:
    """What a syntax tree imports, relative imports with their dots; of `from a import b` both a and a.b."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and _for_types(node.test):
            for other in node.orelse:
                yield from _imported(ast.Module([other], []))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            dots, module = "." * node.level, node.module or ""
            yield dots + module
            yield from (f"{dots}{module}{'.' * bool(module)}{alias.name}" for alias in node.names)
        else:
            yield from _imported(node)


def _listed(tree: ast.Module) -> Iterator[str]:
    """What a package's `__all__` names, relative to it: whoever imports `*` from it imports these, its modules too."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(getattr(target, "id", "") == "__all__" for target in targets):
            named = (one.value for one in ast.walk(node) if isinstance(one, ast.Constant))
            yield from (f".{name}" for name in named if isinstance(name, str))


def _for_types(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in (getattr(test, "id", ""), getattr(test, "attr", ""))


def _importable() -> list[Path]:
    """Folders that Python imports from and that hold nobody's installed packages."""
    installed = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders = [Path(entry or ".").resolve() for entry in sys.path]
    return [folder for folder in folders if folder.is_dir() and not any(map(folder.is_relative_to, installed))]


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


def code(*entries: str | Path) -> dict[str, Any]:
    """What identifies the code of a stage whose body, plugin and judge are these modules or files (`Sources.code`)."""
    return SOURCES.code(*entries)
