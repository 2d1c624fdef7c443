"""A lock belongs to whoever writes: a child that inherited it keeps it when its parent was killed."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.system.locks import exclusive, held

PARENT = """
import subprocess, sys
from pathlib import Path
from harness.system.locks import exclusive, held

with exclusive(Path(sys.argv[1])):
    child = subprocess.Popen(["sleep", "600"], pass_fds={passed})
    print(child.pid, flush=True)
    child.wait()
"""


def free(path: Path) -> bool:
    """Whether nobody holds the lock."""
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def orphaned(path: Path, passed: str) -> int:
    """The process id of a child whose parent held the lock and was killed."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT.format(passed=passed), str(path)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert not free(path)
        parent.kill()
    return child


@pytest.mark.parametrize(("passed", "kept"), [("held()", True), ("()", False)])
def test_a_child_that_inherited_it_keeps_it(tmp_path: Path, passed: str, kept: bool) -> None:
    """The second case is the mutant: locks that end with the parent."""
    path = tmp_path / "locks" / "stage"
    child = orphaned(path, passed)
    try:
        assert free(path) is not kept
    finally:
        os.kill(child, signal.SIGKILL)
    with exclusive(path):  # waits for the child's end
        assert not free(path)
    assert free(path)


def test_what_is_held_ends_with_the_block(tmp_path: Path) -> None:
    with exclusive(tmp_path / "a"), exclusive(tmp_path / "b"):
        assert len(held()) == 2
        assert not any(os.get_inheritable(descriptor) for descriptor in held())
    with pytest.raises(KeyError), exclusive(tmp_path / "a"):
        raise KeyError
    assert held() == ()
    assert free(tmp_path / "a") and free(tmp_path / "b")
