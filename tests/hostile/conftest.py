"""A server that runs one `harness` command after another, each in a process and under a limit of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ran:
    """How a command ended, what it printed, and how many bytes of memory it took beyond what is loaded."""

    status: int
    stdout: str
    stderr: str
    grown: int
    code: tuple[str, ...] = ()  # if watched: what it ran that is not ours


Command = Callable[..., Ran]


@pytest.fixture(scope="session")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """Run a command in a folder. `columns`: on a terminal so wide; there what it printed is all in `stdout`.

    A `mutant` sets "module:name" to a value, which takes a protection away.
    """
    out = tmp_path_factory.mktemp("printed")
    plain = {name: value for name, value in os.environ.items() if name != "COLUMNS"}  # xdist gives its workers one
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("forks.py"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, env={**plain, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert server.stdin and server.stdout

    def run(cwd: Path, *argv: str, **how: object) -> Ran:
        usual = {"env": {}, "mutant": {}, "columns": 0, "encoding": "utf-8", "watched": False}
        asked = {"argv": argv, "cwd": str(cwd), "out": str(out), **usual, **how}
        server.stdin.write(json.dumps(asked) + "\n")
        server.stdin.flush()
        answer = json.loads(server.stdout.readline())
        events = out / "events"
        told = [(out / name).read_text("utf-8", "surrogateescape") for name in ("stdout", "stderr")]
        run_code = events.read_text().splitlines() if events.exists() else []
        events.unlink(missing_ok=True)
        return Ran(answer["status"], told[0], told[1], answer["grown"], tuple(run_code))

    yield run
    server.stdin.close()
    server.wait()
