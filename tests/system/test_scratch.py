"""Folders of processes: a killed one's goes with the next, a living one's stays."""

import fcntl
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.system.scratch import Scratch
from tests.laws import caught

OWNER = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from harness.system.scratch import Scratch
made = Scratch("toy")
(made.path / "file").write_text("of the moment")
print(made.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], set[str]]:
    """What lies in the temporary folder, the names."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return lambda: {path.name for path in tmp_path.iterdir()}


def test_it_goes_when_it_is_cleared_or_forgotten(there: Callable[[], set[str]]) -> None:
    one, other = Scratch("toy"), Scratch("toy")
    assert there() == {one.path.name, other.path.name} and one.path.stat().st_mode & 0o777 == 0o700
    one.clear()
    del other
    assert there() == set()


def test_a_killed_process_s_goes_with_the_next_and_a_living_one_s_stays(
    there: Callable[[], set[str]], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        theirs = Path(owner.stdout.readline().strip())
        mine = Scratch("toy")
        assert (theirs / "file").is_file() and there() == {theirs.name, mine.path.name}
        owner.kill()
    assert theirs.is_dir()
    other = Scratch("toy")
    assert there() == {mine.path.name, other.path.name}


def test_one_that_is_not_locked_is_caught(
    there: Callable[[], set[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda file, how: None)
    caught(test_a_killed_process_s_goes_with_the_next_and_a_living_one_s_stays, there, tmp_path)


def test_what_is_no_folder_of_such_a_process_is_left_alone(there: Callable[[], set[str]], tmp_path: Path) -> None:
    """A link would lead elsewhere, a file is a log that a sentence names, another name is another's."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "toy-link").symlink_to(tmp_path / "kept")
    (tmp_path / "toy-a.log").touch()
    before = there()
    made = Scratch("toy")
    assert there() == {*before, made.path.name} and (tmp_path / "kept" / "file").exists()
