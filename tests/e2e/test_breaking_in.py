"""A user's method that prints, is called like a module of Python's, imports what is beside it, and dies in its code."""

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import SMALL_BED, Ran, fingerprint, harness

MARGIN = (Path(__file__).parents[1] / "outside" / "method" / "margin.py").read_text()
DIES = '''"""Ends this process where it is told to."""

import os
import signal

CALLS = []


def at(place: str) -> None:
    """Here."""
    CALLS.append(place)
    if os.environ.get("DIE") == f"{place}:{CALLS.count(place)}":
        os.kill(os.getpid(), signal.SIGKILL)
'''
COMPARE = ["compare", "--methods", "./there/random.py", "--testbed", str(SMALL_BED), "--benchmarks", "gqa", "--no-page"]
SIZES = ["--examples", "8", "--limit", "4", "--set", "runtime.checkpoint_every_steps=1"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The method, which is called as one of Python's own modules, prints, and imports what lies beside it."""
    text = MARGIN.replace("from dataclasses import", "import dying\nprint('hello')\nfrom dataclasses import", 1)
    text = text.replace(
        "            turn = example.turns[0]\n", "            dying.at('build')\n            turn = example.turns[0]\n"
    )
    text = text.replace("        chosen, rejected = ", "        dying.at('loss')\n        chosen, rejected = ")
    assert text.count("dying.at") == 2
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "random.py").write_text(text)
    (tmp_path / "there" / "dying.py").write_text(DIES)
    (tmp_path / "random.py").write_text("raise SystemExit('nobody asked for this file')\n")
    return tmp_path


def compare(home: Path, store: str, *more: str, workers: int = 2, die: str = "") -> Ran:
    places = ["--store", store, "--out", f"{store}-out", "--workers", str(workers)]
    script = home / "bin" / "harness"  # Python looks for modules where it lies, not in the current folder
    script.parent.mkdir(exist_ok=True)
    script.write_text("if __name__ == '__main__':\n    from harness.cli import main\n    main()\n")
    return harness(*COMPARE, *SIZES, *places, *more, env={"DIE": die}, cwd=home, script=script)


@pytest.mark.heavy
def test_its_plan_is_one_object_whatever_it_prints(home: Path) -> None:
    ran = compare(home, "store", "--dry-run", "--json")
    assert ran.status == 0 and "build random seed 0" in [stage["title"] for stage in ran.json["stages"]], ran.stderr
    (home / "there" / "dying.py").write_text(DIES.replace("CALLS.count(place)", "len(CALLS)"))
    again = compare(home, "store", "--dry-run", "--json")
    keys = [{stage["title"]: stage["stage"] for stage in one.json["stages"]} for one in (ran, again)]
    assert {title for title in keys[0] if keys[0][title] != keys[1][title]} >= {"build random seed 0"}
    assert json.dumps(ran.json).count(str(home)) == 0


@pytest.mark.heavy
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_in_its_own_code_the_same_command_ends_in_the_same_bits(home: Path, workers: int) -> None:
    calm = compare(home, "calm", workers=workers)
    assert calm.status == 0, calm.stderr
    for die in ("build:3", "loss:1", "loss:2"):
        ran = compare(home, "store", workers=workers, die=die)
        assert ran.status not in (0, 2), (die, ran.stderr)
    last = compare(home, "store", workers=workers)
    assert last.status == 0, last.stderr
    assert fingerprint(home / "store", home / "store-out") == fingerprint(home / "calm", home / "calm-out")
