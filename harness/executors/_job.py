"""A step made by a job on another machine: its folder in the store, by which whoever hands it out and the job talk.

`order` says what to make, `ticks` how far it has come, `log` what it printed, `end` how it ended. Order and `begin.py`,
by which a job begins, are read by the job alone; what is read back of a job is plain text, so that no folder of a
stranger's runs code.

    python -P STORE/.jobs/KEY/begin.py [NODE]

NODE is the number of a machine beside that on which the stage is made, 0: it takes its part in a training over several.
"""

import math
import pickle
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.contracts.executor import Bodies, Failure
from harness.contracts.schedule import attempt
from harness.contracts.steps import Step
from harness.system import errors
from harness.system.console import install
from harness.system.errors import Denied, HarnessError
from harness.system.jsonl import dumps, loads

BEGIN = """import sys
sys.path[:] = {path!r}
from pathlib import Path
from {name} import main
sys.exit(main(Path(__file__).parent, int(*sys.argv[1:])))
"""
BEAT_S = 0.2  # between ticks that are written down
KINDS = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, HarnessError)}


@dataclass(frozen=True, slots=True)
class End:
    """How a job ended: a `Failure` as plain data, with whom its step asked; `kind` is "" where the stage is made."""

    kind: str
    title: str = ""
    why: str = ""
    ends: bool = False
    asks: str = ""

    @property
    def failed(self) -> bool:
        """Whether the stage is not made."""
        return bool(self.kind)

    @property
    def failure(self) -> Failure | None:
        """The failure, None where there is none."""
        return Failure(self.title, KINDS[self.kind](self.why), self.ends) if self.kind else None

    def takes(self, step: Step) -> bool:
        """Whether it takes a step with it that does not read it: nothing more can be stored, or its judge refuses."""
        return self.ends or (self.kind == Denied.__name__ and self.asks == step.resources.asks)


def folder_of(root: Path, key: str) -> Path:
    """Where a step's job has its files."""
    return root.absolute() / ".jobs" / key


def command(folder: Path) -> list[str]:
    """What makes the step of a job's folder, on any machine: a random.py in the current folder is nobody's random."""
    return [sys.executable, "-P", str(folder / "begin.py")]


def give(folder: Path, bodies: Bodies, step: Step, waits: Sequence[str]) -> None:
    """Write a job's order, and take away what an earlier one left; `waits` are the keys that its job waits for."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("ticks", "end", "log"):
        (folder / name).unlink(missing_ok=True)
    (folder / "begin.py").write_text(BEGIN.format(path=sys.path, name=__name__), encoding="utf-8")
    (folder / "order").write_bytes(pickle.dumps((bodies, step, waits)))


def main(folder: Path, node: int = 0) -> int:
    """Make the step of a job's folder; 0 where its stage is made. A job that has ended before does nothing."""
    install()
    if node:
        return help_in(folder, node)
    if (before := end_of(folder)) is not None:
        return int(before.failed)
    with (folder / "order").open("rb") as file:
        bodies, step, waits = pickle.load(file)  # noqa: S301  # of whoever handed this job in
    if any((end := end_of(folder.parent / key)) and end.takes(step) for key in waits):
        return 1
    told = Told(folder)
    failed = attempt(bodies, step, told)
    told.write()
    _write_end(folder, step, failed)
    return int(failed is not None)


def help_in(folder: Path, node: int) -> int:
    """Take a further machine's part in a job's step until that has ended."""
    from harness.training.follow import follow  # it loads torch
    from harness.training.nodes import MEET

    follow(folder / MEET, node, lambda: end_of(folder) is not None)
    return 0


def _write_end(folder: Path, step: Step, failed: Failure | None) -> None:
    kinds = type(failed.error).__mro__ if failed else ()
    kind = next((kind.__name__ for kind in kinds if KINDS.get(kind.__name__) is kind), "")
    end = End(kind, failed.title, str(failed.error), failed.ends, step.resources.asks) if failed else End("")
    (folder / "end.new").write_text(dumps(end), encoding="utf-8")
    (folder / "end.new").replace(folder / "end")


class Told:
    """A step's ticks, written a few times a second."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "ticks"
        self.file.write_text("", encoding="utf-8")
        self.at, self.pending = -math.inf, ""

    def __call__(self, done: int, total: int) -> None:
        """Come so far."""
        self.pending = f"{done} {total}\n"
        if time.monotonic() - self.at > BEAT_S:
            self.write()

    def write(self) -> None:
        """Write what is not written yet."""
        with self.file.open("a", encoding="utf-8") as file:
            file.write(self.pending)
        self.at, self.pending = time.monotonic(), ""


def has_begun(folder: Path) -> bool:
    """Whether a job's step has begun."""
    return (folder / "ticks").exists()


def ticks(folder: Path) -> Iterator[tuple[int, int]]:
    """What a job has written of its ticks, (done, total) each."""
    for line in _since(folder / "ticks", 0).splitlines():
        done, _, total = line.partition(b" ")
        if done.isdigit() and total.isdigit():
            yield int(done), int(total)


def printed(folder: Path, offset: int) -> tuple[list[str], int]:
    """The lines that a job has printed from a place in its log on, and the place behind them."""
    said = _since(folder / "log", offset)
    return said.decode("utf-8", "replace").splitlines(), offset + len(said)


def _since(file: Path, offset: int) -> bytes:
    """A file's whole lines from there on."""
    if not file.exists():
        return b""
    with file.open("rb") as opened:
        opened.seek(offset)
        said = opened.read()
    return said[: said.rfind(b"\n") + 1]


def end_of(folder: Path) -> End | None:
    """How a job ended; None where it has not, or where what it left cannot be read."""
    try:
        end: End = loads(End, (folder / "end").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return end if end.kind in ("", *KINDS) else None
