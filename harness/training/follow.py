"""A further machine's part in a training over several: a process that starts its ranks when the first machine calls.

    python -P -c "... from harness.training.follow import main; main()" MEET NODE

It lives as long as its standard input, which whoever started it keeps open: over SSH that ends with either end.
"""

import os
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from harness.system.console import install
from harness.system.errors import HarnessError
from harness.system.lifeline import ORPHANED
from harness.system.profile import quiet
from harness.training.job import Job
from harness.training.launch import running, watch
from harness.training.nodes import Fate, Guest, Invitation, invitations


def command(place: Path, node: int) -> list[str]:
    """What runs on a further machine, the first being 0; `place` is the training's `nodes.meeting_of`."""
    begin = f"import sys; sys.path[:] = {sys.path!r}; from harness.training.follow import main; main()"
    return [sys.executable, "-P", "-c", begin, str(place), str(node)]


def follow(place: Path, node: int, over: Callable[[], bool]) -> None:
    """Take this machine's part in each attempt of a training, until it is `over`."""
    for told in invitations(place, over):
        with suppress(ConnectionError):  # an attempt that has ended
            take_part(told, Guest(told, node))


def take_part(told: Invitation, guest: Guest) -> None:
    """Run this machine's ranks until they or the training end; ConnectionError where the first machine is lost."""
    try:
        job = Job.model_validate_json(Path(told.job).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = f"{socket.gethostname()} cannot read {told.job} ({error}); all machines must have the store at this path."
        guest.end([Fate(guest.node, HarnessError.exit_status, HarnessError.__name__, why, "")])
        return
    with running(Path(told.job), job.runtime, guest.node, told.url) as ranks:
        failed = watch(ranks, quiet, guest.look)
    guest.end(failed)


def main() -> None:
    """Follow until standard input ends; the words are MEET NODE."""
    place, node = sys.argv[1:]
    install()
    threading.Thread(target=_end_with_input, daemon=True).start()
    follow(Path(place), int(node), lambda: False)


def _end_with_input() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os._exit(ORPHANED)
