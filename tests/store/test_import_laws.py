"""What a key says a file imports, against what Python imports when the file runs: random programs, no two alike.

A program is a plugin's file and modules beside it that import each other in all of Python's ways. It is run here, and
the files that came in are its closure: a file that runs and is not in it can change a number under the same key.
"""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.store import closure, syntax
from harness.store.closure import Sources
from tests.laws import caught, law

HOME = Path(closure.__file__).parents[2]
MODULES = ("zq_one", "zq_two", "zq_pack", "zq_pack.part", "zq_pack.deep", "zq_pack.deep.end", "zq_bare.only")
"""`zq_pack` and `zq_pack.deep` are packages, `zq_bare` is a folder without `__init__`."""
PACKAGES = {"zq_pack", "zq_pack.deep"}
Program = dict[str, str]  # a file's place -> its text


def place(module: str) -> str:
    """Where a module's file lies."""
    return module.replace(".", "/") + ("/__init__.py" if module in PACKAGES else ".py")


def beside(module: str, other: str) -> str:
    """`other` as a relative import of `module` names it, in three parts of `from A import B`; "" where it cannot."""
    here = module.split(".") if module in PACKAGES else module.split(".")[:-1]
    there = other.split(".")
    if not here or here[0] != there[0] or len(there) < 2:
        return ""
    up = next(up for up in range(len(here)) if there[: len(here) - up] == here[: len(here) - up])
    rest = there[len(here) - up :]
    return f"from {'.' * (up + 1)}{'.'.join(rest[:-1])} import {rest[-1]}" if rest else ""


FORMS: dict[str, Callable[[str], str]] = {
    "plain": lambda one: f"import {one}",
    "named": lambda one: f"import {one} as named",
    "from": lambda one: f"from {one.rpartition('.')[0]} import {one.rpartition('.')[2]}" if "." in one else "",
    "a name of it": lambda one: f"from {one} import NAME",
    "star": lambda one: f"from {one} import *",
    "several": lambda one: f"import sys, {one}",
}
LAYOUTS: dict[str, str] = {
    "at the top": "{line}\n",
    "in a function": "def later():\n    {plain}\nlater()\n",
    "in a method": "class Late:\n  def work(self):\n    with open(__file__):\n      {plain}\nLate().work()\n",
    "instead of another": "try:\n    import zq_not_there\nexcept ImportError:\n    {line}\n",
    "where it is there": "import sys\nif sys.version_info > (3,):\n    {line}\n",
    "in a match": "match 1:\n    case 1:\n        {line}\n",
    "for types": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    {line}\n",
    "else than for types": "import typing\nif typing.TYPE_CHECKING:\n    import zq_not_there\nelse:\n    {line}\n",
}


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """A plugin `zq_mine.py` and every module, each of which imports up to two others."""
    made: Program = {}
    for module in ("zq_mine", *MODULES):
        text = "NAME = 1\n"
        if module == "zq_pack" and draw(st.booleans()):
            text += "__all__ = ['NAME']\n__all__ += ['part']\n"
        for other in draw(st.lists(st.sampled_from(MODULES), max_size=2, min_size=module == "zq_mine")):
            line = FORMS[draw(st.sampled_from(sorted(FORMS)))](other) or f"import {other}"
            line = (draw(st.booleans()) and beside(module, other)) or line
            plain = f"import {other}" if "*" in line else line
            text += LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))].format(line=line, plain=plain)
        made[place(module)] = text
    if draw(st.booleans()):
        made["zq_pack.py"] = "raise SystemExit('the package goes first')\n"
    return made


@contextmanager
def written(program: Program) -> Iterator[Path]:
    """The program in a folder."""
    with TemporaryDirectory(prefix="program-") as name:
        folder = Path(name).resolve()
        for file, text in program.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text)
        yield folder


def ran(folder: Path) -> set[Path]:
    """The files of the folder that run when Python loads the plugin; ImportError where it cannot."""
    before, path, bytecode = dict(sys.modules), list(sys.path), sys.dont_write_bytecode
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        spec = importlib.util.spec_from_file_location("zq_file", folder / "zq_mine.py")
        assert spec and spec.loader
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
        fresh = [module for name, module in sys.modules.items() if name not in before]
        return {folder / "zq_mine.py", *(Path(module.__file__) for module in fresh if getattr(module, "__file__", ""))}
    finally:
        for name in sys.modules.keys() - before.keys():
            del sys.modules[name]
        sys.path[:], sys.dont_write_bytecode = path, bytecode
        sys.path_importer_cache.pop(str(folder), None)


def followed(folder: Path) -> set[Path]:
    """The files that the plugin's key is made of."""
    return set(Sources(HOME).files(folder / "zq_mine.py").values())


@law(150)
@given(programs())
def test_the_files_of_a_key_are_those_that_run(program: Program) -> None:
    """All of them, or the same key would hold another number; and no other but what `__all__` names unasked."""
    with written(program) as folder:
        try:
            wanted = ran(folder)
        except (ImportError, AttributeError):  # a circle that Python itself does not take
            return
        known = followed(folder)
        assert wanted <= known, wanted - known
        assert known == wanted or "__all__" in program["zq_pack/__init__.py"]


@law(40)
@given(programs(), st.data())
def test_an_edit_changes_the_digest_where_the_file_runs(program: Program, data: st.DataObject) -> None:
    """A comment changes none, wherever it stands."""
    with written(program) as folder:
        before, known = Sources(HOME).digest(folder / "zq_mine.py"), followed(folder)
        file = folder / data.draw(st.sampled_from(sorted(program)))
        file.write_text(file.read_text() + "# said\n")
        assert Sources(HOME).digest(folder / "zq_mine.py") == before
        file.write_text(file.read_text() + "MORE = 2\n")
        assert (Sources(HOME).digest(folder / "zq_mine.py") != before) == (file in known)


@pytest.mark.heavy
@law(30)
@given(programs())
def test_a_key_does_not_know_where_the_program_lies(program: Program) -> None:
    with written(program) as here, written(program) as there:
        assert Sources(HOME).code(here / "zq_mine.py") == Sources(HOME).code(there / "zq_mine.py")


# The wrong ways that these laws must catch

real_imported = syntax._imported


def without_functions(tree: ast.AST) -> Iterator[str]:
    """A mutant: imports at the top alone."""
    top = [node for node in ast.iter_child_nodes(tree) if not isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return real_imported(ast.Module(top, []))  # type: ignore[arg-type]


def without_dots(tree: ast.AST) -> Iterator[str]:
    """A mutant: relative imports are nobody's."""
    return (name for name in real_imported(tree) if not name.startswith("."))


def the_module_alone(tree: ast.AST) -> Iterator[str]:
    """A mutant: of `from a import b` a alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def files_first(name: str, home: Path, homes: tuple[Path, ...]) -> list[closure.Module]:
    """A mutant: `a.py` goes before `a/__init__.py`."""
    parts, found = name.split("."), list[closure.Module]()
    for end in range(1, len(parts) + 1):
        stem = home.joinpath(*parts[:end])
        if file := next((file for file in (Path(f"{stem}.py"), stem / "__init__.py") if file.is_file()), None):
            found.append((".".join(parts[:end]), file, homes))
    return found


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("_imported", without_functions),
        ("_imported", without_dots),
        ("_imported", the_module_alone),
        ("_files_of", files_first),
        ("_files_of", lambda name, home, homes: [*files_first(name, home, homes)][-1:]),
        ("_listed", lambda tree: ()),
        ("_for_types", lambda test: False),
    ],
    ids=["no functions", "no dots", "no submodules", "files first", "no parents", "no __all__", "types too"],
)
def test_a_wrong_closure_would_be_caught(name: str, wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closure if name == "_files_of" else syntax, name, wrong)
    caught(test_the_files_of_a_key_are_those_that_run)


# What random programs do not come to


def test_two_files_of_one_name_are_both_in_the_key(tmp_path: Path) -> None:
    """A method `own.py` and a judge `own.py` in another folder, each with a `helper` beside it."""
    files = [tmp_path / side / name for side in ("a", "b") for name in ("own.py", "zq_helper.py")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_text("import zq_helper\n")
    entries = tmp_path / "a" / "own.py", tmp_path / "b" / "own.py"
    assert set(Sources(HOME).files(*entries).values()) == set(files)
    keys = {Sources(HOME).digest(*entries)}
    for file in files:
        file.write_text(f"import zq_helper\nMORE = {str(file)!r}\n")
        keys.add(Sources(HOME).digest(*entries))
    assert len(keys) == 1 + len(files)


def test_a_compiled_module_beside_a_plugin_is_in_its_key(tmp_path: Path) -> None:
    """It is taken before a `.py` of its name, as Python takes it, and any byte of it counts."""
    (tmp_path / "mine.py").write_text("import zq_fast\n")
    (tmp_path / "zq_fast.py").write_text("")
    compiled = tmp_path / f"zq_fast{closure.ENDINGS[0]}"
    keys = set()
    for data in (b"", b"\x7fELF", b"\x7fELG"):
        if data:
            compiled.write_bytes(data)
        keys.add(Sources(HOME).digest(tmp_path / "mine.py"))
    assert len(keys) == 3 and compiled in Sources(HOME).files(tmp_path / "mine.py").values()
