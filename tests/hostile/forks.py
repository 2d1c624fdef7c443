"""Runs `harness` commands one after another, each in a fork with a limit on memory; started by `conftest.py`.

The modules are imported once, so that a command takes what its own work takes. One JSON object per line on stdin
(`argv`, `cwd`, `out`: a folder for what it prints; with `columns` on a terminal
so wide), one on stdout (`status`, `grown`: bytes of resident memory more).
"""

import contextlib
import io
import json
import os
import resource
import signal
import sys
import termios
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

OURS = "compare face progress request published"
for name in OURS.split():
    import_module(f"harness.comparison.{name}")
for name in ("plan_text", "gating", "terminal", "diagnosis"):
    import_module(f"harness.commands.{name}")
for name in ("reports.report", "harness.system.archives", "harness.contracts.judge"):
    import_module(name)
for name in ("pandas", "openpyxl", "yaml", "rich.console", "pydantic"):
    import_module(name)
from benchmarks import _parquet  # noqa: E402
from harness import cli  # noqa: E402
from harness.models.folder import inspect  # noqa: E402
from harness.sources.local import Local  # noqa: E402

SPARE = 512 << 20  # bytes of address space that a command may take beyond what is loaded
SECONDS = 60  # of computing, or of waiting
MUTE = {"identity": lambda text: text, "nothing": lambda *_: None}  # what a mutant puts in a function's place
READERS: dict[str, Callable[..., Any]] = {
    "read-data": lambda file, images: [*Local(file, images).load()] and None,
    "read-parquet": lambda folder: [*(_parquet.rows(folder, "", "test") or ())] and None,
    "read-model": lambda folder: inspect(folder) and None,
}


def note(file: Path, event: str, given: tuple[Any, ...], home: str) -> None:
    """Write down what runs a stranger's code: his modules, pickles, programs."""
    code = event == "exec" and str(getattr(given[0], "co_filename", "")).startswith(home)
    program = event == "subprocess.Popen" and given[0] != "uname"  # `platform` asks that one
    if code or program or event in ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn"):
        with file.open("a") as told:
            told.write(f"{event} {str(given)[:200]}\n")


def memory(kind: str) -> int:
    """This process's VmSize, VmHWM or VmRSS in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind))
    return int(line.split()[1]) * 1024


def run(asked: dict[str, Any], terminal: int) -> None:
    """The command; never returns."""
    os.chdir(asked["cwd"])
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = Path(asked["out"]) / name
        os.dup2(terminal if terminal else os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        stream = io.TextIOWrapper(
            io.FileIO(number, "w"), asked["encoding"], write_through=True
        )  # strict, as Python's is
        setattr(sys, name, stream)
    resource.setrlimit(resource.RLIMIT_AS, (memory("VmSize") + SPARE,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    os.environ.update(asked["env"])
    signal.alarm(SECONDS)
    for where, value in asked["mutant"].items():
        module, _, attribute = where.partition(":")
        setattr(import_module(module), attribute, MUTE.get(value, value))
    if asked["watched"]:
        sys.addaudithook(lambda event, given: note(Path(asked["out"]) / "events", event, given, asked["cwd"]))
    sys.argv = ["harness", *asked["argv"]]
    status = 70
    try:
        if asked["argv"][0] in READERS:  # what a stage does in a process of its own, which is not to import torch here
            cli.app = lambda **_: READERS[asked["argv"][0]](*map(Path, asked["argv"][1:]))
        cli.main()
    except SystemExit as stop:
        status = stop.code or 0
    except BaseException as error:
        sys.stderr.write(f"Traceback: {error!r}")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def shown(master: int) -> bytes:
    """All that a terminal is sent."""
    pieces = []
    with contextlib.suppress(OSError):  # nobody has it open any more
        while piece := os.read(master, 1 << 16):
            pieces.append(piece)
    return b"".join(pieces)


for line in sys.stdin:
    before, asked = memory("VmRSS"), json.loads(line)
    master, terminal = os.openpty() if asked["columns"] else (0, 0)
    if terminal:
        termios.tcsetwinsize(terminal, (50, asked["columns"]))
    child = os.fork()
    if not child:
        run(asked, terminal)
    if terminal:
        os.close(terminal)
        (Path(asked["out"]) / "stdout").write_bytes(shown(master).replace(b"\r\n", b"\n"))
        (Path(asked["out"]) / "stderr").write_bytes(b"")
        os.close(master)
    _, ended, used = os.wait4(child, 0)
    grown = max(0, used.ru_maxrss * 1024 - before)
    print(json.dumps({"status": os.waitstatus_to_exitcode(ended), "grown": grown}), flush=True)
