"""`make install` with fakes: it shows what it fetches, uses uv where there is one, and stops where nothing works."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYTHON = """#!/bin/bash
echo "python $*" >> calls
mkdir -p .venv/bin && cp pip .venv/bin/pip && chmod +x .venv/bin/pip
"""
PIP = """#!/bin/bash
echo "pip $*" >> calls
echo "Collecting torch"
echo "  Downloading torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl (123.4 MB)"
echo "Requirement already satisfied: numpy"
echo "Installing collected packages: torch, $(printf 'x%.0s' {1..500})"
exit ${PIP_STATUS:-0}
"""
UV = """#!/bin/bash
echo "uv $*" >> calls
[ "$1" = pip ] || ./python3
exit ${UV_STATUS:-0}
"""

Made = tuple[int, str, list[str]]


@pytest.fixture
def make(tmp_path: Path):  # type: ignore[no-untyped-def]
    """Runs make in a copy whose PATH has the system's tools, a fake python and pip, and a fake uv if wanted."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "awk", "du", "touch", "mkdir", "cp", "chmod", "rm", "make", "echo", "printf", "env", "sh"):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    for place, script in ((tmp_path / "python3", PYTHON), (tmp_path / "pip", PIP)):
        place.write_text(script)
        place.chmod(0o755)

    def run(*words: str, uv: bool = False, **variables: str) -> Made:
        if uv:
            (tools / "uv").write_text(UV)
            (tools / "uv").chmod(0o755)
        (tmp_path / "calls").write_text("")
        env = {"PATH": str(tools), **variables}
        ran = subprocess.run(
            ["make", "PYTHON=./python3", *words], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        return ran.returncode, ran.stdout, (tmp_path / "calls").read_text().splitlines()

    return run


def test_it_says_how_much_it_is_and_which_file_it_is_at(make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    status, said, calls = make("install")
    assert status == 0 and "with pip: 2.1 GB" in said
    assert "Downloading torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl (123.4 MB)" in said
    assert "Requirement already" not in said and max(map(len, said.splitlines())) <= 120
    assert [call.split()[0] for call in calls] == ["python", "pip", "pip"] and "--no-deps lmms-eval==" in calls[2]
    assert make("install")[2] == []  # it is there


def test_uv_is_used_where_it_is_at_hand(make) -> None:  # type: ignore[no-untyped-def]
    status, said, calls = make("install", uv=True)
    assert status == 0 and "with uv" in said and not any(call.startswith("pip") for call in calls)
    assert next(call for call in calls if call.startswith("uv pip")).endswith("-e .[test,lmms,docs]")


def test_pip_goes_on_where_uv_cannot(make) -> None:  # type: ignore[no-untyped-def]
    status, _, calls = make("install", uv=True, UV_STATUS="2")
    assert status == 0 and sum(call.startswith("pip install") for call in calls) == 2


@pytest.mark.parametrize("uv", [False, True])
def test_what_did_not_install_is_not_taken_for_installed(make, tmp_path: Path, uv: bool) -> None:  # type: ignore[no-untyped-def]
    """The lines of pip go through a filter, whose status would be 0."""
    status, _, _ = make("install", uv=uv, PIP_STATUS="1", UV_STATUS="1")
    assert status != 0 and not (tmp_path / ".venv" / ".installed").exists()


def test_the_documented_targets_are_there(make) -> None:  # type: ignore[no-untyped-def]
    for target, said in (("compare", "harness compare --methods nsft,dpo"), ("docs", "mkdocs build --strict")):
        status, shown, _ = make("-n", target)
        assert status == 0 and said in shown
    assert "mkdocs build --strict" in make("-n", "lint")[1]
