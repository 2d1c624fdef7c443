"""Our packages with everybody's names: found whatever else lies on the path, in a checkout and as a wheel has them."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

from harness import ROOMS

ROOT = Path(__file__).parents[1]
PLAN = ["-m", "harness", "plan", "--json", "--methods", "sft,dpo", "--benchmarks", "pope,chair"]


def python(*words: str, cwd: Path, home: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    """Another process that finds harness in `home`; what lies in `cwd` comes before it on the path."""
    env = {**os.environ, "PYTHONPATH": f"{cwd}{os.pathsep}{home}"}
    return subprocess.run([sys.executable, *words], cwd=cwd, env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder of somebody who has packages of these names, one of them a module."""
    for name in ROOMS[:2]:
        (tmp_path / "theirs" / name).mkdir(parents=True)
        (tmp_path / "theirs" / name / "__init__.py").write_text("raise RuntimeError('not ours')")
    (tmp_path / "theirs" / f"{ROOMS[2]}.py").write_text("raise RuntimeError('not ours')")
    return tmp_path / "theirs"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files as a wheel lays them out."""
    home = tmp_path_factory.mktemp("site")
    for name in ("harness", *ROOMS):
        shutil.copytree(ROOT / name, home / ("harness" if name == "harness" else f"harness/_rooms/{name}"))
    return home


def test_beside_others_of_the_same_name_ours_are_found(hostile: Path) -> None:
    ran = python("-m", "harness", "benchmarks", cwd=hostile)
    assert ran.returncode == 0 and "pope" in ran.stdout, ran.stderr


def test_without_the_finder_theirs_would_be(hostile: Path) -> None:
    """The mutant."""
    code = (
        "import sys, harness; sys.meta_path = [f for f in sys.meta_path if f is not harness._Ours]; import benchmarks"
    )
    assert "not ours" in python("-c", code, cwd=hostile).stderr


@pytest.mark.parametrize("file", ["benchmarks/__init__.py", "benchmarks.py"])
def test_whoever_imported_theirs_before_is_told(file: str, tmp_path: Path) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("")
    said = python("-c", "import benchmarks, harness", cwd=tmp_path).stderr
    assert f"{tmp_path}/benchmarks" in said and "has the name of a package of ours; import harness before it" in said


def test_installed_it_plans_the_same_stages_as_in_a_checkout(installed: Path, hostile: Path) -> None:
    """Every key is made of the code that its stage runs, so the same keys mean that all of it was found."""
    plans = [python(*PLAN, "--store", str(hostile / "s"), cwd=hostile, home=home) for home in (ROOT, installed)]
    here, there = (json.loads(ran.stdout) for ran in plans)
    assert here["stages"] == there["stages"] and len(here["stages"]) > 10
    assert (
        "_rooms" in python("-c", "import harness, methods; print(methods.__file__)", cwd=hostile, home=installed).stdout
    )


def test_a_wheel_puts_them_where_they_are_looked_for() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert build["sources"] == {name: f"harness/_rooms/{name}" for name in ROOMS}
    assert build["only-include"] == ["harness", *ROOMS]


def test_no_module_needs_itself_by_way_of_others() -> None:
    graph = grimp.build_graph("harness", *ROOMS, exclude_type_checking_imports=True)

    def sort() -> None:
        TopologicalSorter({one: graph.find_modules_directly_imported_by(one) for one in graph.modules}).prepare()

    sort()
    graph.add_import(importer="harness.contracts.settings", imported="harness.contracts.judge_kind")
    with pytest.raises(CycleError):
        sort()
