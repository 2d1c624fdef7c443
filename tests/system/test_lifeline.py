"""A process that follows another ends with it, also where only one of the two ties holds."""

import os
import signal
import subprocess
import sys
from multiprocessing.connection import wait

import pytest

PARENT = """
import os, subprocess, sys
from multiprocessing.connection import Pipe

mine, its = Pipe()
child = [sys.executable, "-c", sys.argv[1], str(os.getpid()), str(its.fileno())]
child = subprocess.Popen(child, pass_fds=[its.fileno()])
its.close()
child.wait()
"""
CHILD = """
import os, sys, time
from multiprocessing.connection import Connection
from harness.system import lifeline

{change}
lifeline.follow(int(sys.argv[1]), Connection(int(sys.argv[2])))
print(os.getpid(), flush=True)
time.sleep(600)
"""
NO_THREAD = "lifeline._end_with = lambda line: None"
NO_KERNEL = "sys.platform = 'elsewhere'"
NEITHER = f"{NO_THREAD}\n{NO_KERNEL}"


@pytest.mark.parametrize(("change", "ends"), [("", True), (NO_THREAD, True), (NO_KERNEL, True), (NEITHER, False)])
def test_it_ends_with_its_parent(change: str, ends: bool) -> None:
    """Both processes write to one pipe, which ends with the last of them. The last case is the mutant."""
    command = [sys.executable, "-c", PARENT, CHILD.format(change=change)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
        assert bool(wait([parent.stdout.fileno()], timeout=60 if ends else 1)) is ends
        if not ends:
            os.kill(child, signal.SIGKILL)


def test_a_parent_that_has_ended_already_is_noticed() -> None:
    child = subprocess.Popen([sys.executable, "-c", CHILD.format(change=NO_THREAD), "1", "0"], stdin=subprocess.PIPE)
    assert child.wait(timeout=60) in (137, -signal.SIGKILL)
