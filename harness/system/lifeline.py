"""Ties a process to the one that started it: when that one ends, however it ends, so does this; or ends it before."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

SAFE_PATH = "PYTHONSAFEPATH"
PR_SET_PDEATHSIG = 1  # linux/prctl.h
ORPHANED = 137
SETTLED_S = 10.0  # for a process to end by itself


def start(process: SpawnProcess) -> None:
    """Start a process of ours.

    It is born with Ctrl-C blocked, which is its parent's to handle: it would say so in a traceback. A file in the
    current folder (`random.py`) is no module for it.
    """
    told = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"
    try:
        resource_tracker.ensure_running()  # else `process.start` starts it, and unblocks Ctrl-C
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    finally:
        safe_path(told)


def safe_path(told: str | None) -> None:
    """The environment as it was: processes that a plugin starts find what they would find elsewhere."""
    os.environ.pop(SAFE_PATH, None)
    os.environ.update({SAFE_PATH: told} if told is not None else {})


def follow(parent: int, line: Connection | int) -> None:
    """End this process at once when `parent` (a process id) has ended.

    On Linux the kernel sees to it, also where this process is busy in native code. Everywhere a thread waits for the
    end of `line`, whose other end the parent alone holds.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_end_with, args=(line,), daemon=True).start()
    if os.getppid() != parent:  # it ended before the tie was made
        os._exit(ORPHANED)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Wait for a process that was told to end, a while; then kill its group, which it leads, with whatever it began."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(SETTLED_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _end_with(line: Connection | int) -> None:
    wait([line])
    os._exit(ORPHANED)
