"""Our own code edited while a run goes on: a stage is made by the code that its key has, or not at all."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.store.closure import OURS, Sources
from harness.system.errors import UsageError

ROOT = Path(__file__).parents[2]
LARGE = ("bases", "clip")  # of the embedded world: read, not written

PLAN = """
import pickle, sys
from harness.comparison.plan import plan
from harness.comparison.request import request
from harness.comparison.worker import Bodies

bed, asked, runtime = request("sft,dpo", "llava150k", "", "mini", 1, "gqa", 8, 4, None, 1)
planned = plan(asked, bed)
steps = {step.title: step for step in planned.steps}
bodies = Bodies(sys.argv[1], bed, asked, runtime)
"""
HAND = PLAN + "pickle.dump((bodies, steps), open(sys.argv[2], 'wb'))\n"
MAKE = """
import pickle, sys
from harness.system.errors import UsageError
bodies, steps = pickle.load(open(sys.argv[2], 'rb'))
make = bodies()
for title in sys.argv[3:]:
    try:
        make(steps[title], lambda done, total: None)
    except UsageError as error:
        print(title, "refused:", error)
    else:
        print(title, "made")
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of our code that may be edited."""
    for package in OURS:
        shutil.copytree(
            ROOT / package, tmp_path / "home" / package, ignore=shutil.ignore_patterns(*LARGE, "__pycache__")
        )
    for name in LARGE:
        (tmp_path / "home/harness/mini" / name).symlink_to(ROOT / "harness/mini" / name)
    return tmp_path / "home"


def python(checkout: Path, script: str, *titles: str) -> str:
    """What a script says that runs on the copy."""
    command = [sys.executable, "-c", script, "../store", "../handed", *titles]
    ran = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_worker_makes_no_stage_with_other_code_than_was_planned(checkout: Path) -> None:
    """It imports our files when it begins: what was edited by then is not what the key has. Other stages go on."""
    python(checkout, HAND)
    with (checkout / "methods" / "dpo.py").open("a") as file:
        file.write("LATER = 1\n")
    (checkout / "methods" / "sft.py").touch()
    said = python(checkout, MAKE, "data llava150k seed 0", "build dpo seed 0", "split llava150k seed 0").splitlines()
    assert said[0] == "data llava150k seed 0 made" and said[2] == "split llava150k seed 0 made"
    assert "build dpo seed 0 refused" in said[1] and "methods/dpo.py has changed since this comparison began" in said[1]


def test_a_process_that_has_read_our_file_plans_no_more_once_it_is_edited(checkout: Path) -> None:
    """A notebook goes on with what it has imported: a second comparison's keys would be those of other code."""
    again = f"""{PLAN}
from pathlib import Path
file = Path("methods/dpo.py")
file.write_text(file.read_text() + "\\nLATER = 1\\n")
from harness.system.errors import UsageError
try:
    plan(asked, bed)
except UsageError as error:
    print(error)
"""
    assert "methods/dpo.py has changed since this comparison began" in python(checkout, again)


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """A file of a package of ours, in a place of its own."""
    file = tmp_path / "harness" / "work.py"
    file.parent.mkdir()
    file.write_text("X = 1\n")
    return file


def test_a_file_that_was_only_touched_or_commented_is_the_same(ours: Path, tmp_path: Path) -> None:
    sources = Sources(tmp_path)
    before = sources.digest("harness.work")
    ours.write_text("X = 1  # why\n")
    assert sources.digest("harness.work") == before


def test_what_another_process_has_read_is_held_to(ours: Path, tmp_path: Path) -> None:
    planner, worker, mutant = Sources(tmp_path), Sources(tmp_path), Sources(tmp_path)
    before = planner.digest("harness.work")
    worker.hold(planner.known())
    ours.write_text("X = 2\n")
    with pytest.raises(UsageError, match=r"work\.py has changed"), worker.held("harness.work"):
        pass
    assert mutant.digest("harness.work") != before  # whoever holds to nothing runs other code


def test_of_what_changes_while_a_stage_is_made_only_what_it_imports_then_counts(
    ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training of ten hours is not lost for an edit of what it had imported before."""
    sources = Sources(tmp_path)
    monkeypatch.setitem(sys.modules, "harness.work", sys)
    with sources.held("harness.work"):
        ours.write_text("X = 2\n")
    ours.write_text("X = 1\n")
    monkeypatch.delitem(sys.modules, "harness.work")
    with pytest.raises(UsageError, match=r"work\.py has changed"), sources.held("harness.work"):
        ours.write_text("X = 3\n")
        monkeypatch.setitem(sys.modules, "harness.work", sys)
