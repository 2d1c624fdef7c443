"""A training in as many processes as asked for: their start, their end, and what one that fails says.

The ranks hold the locks of the process that starts them (`harness.system.locks`) and end with it
(`harness.system.lifeline`), so that no other run ever writes where one of them still does. Those of one machine find
each other by a file and talk over the loopback device; further machines have `harness.training.follow` running.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path

from harness.contracts.settings import Runtime
from harness.store.closure import SOURCES
from harness.system import lifeline, machine
from harness.system.blame import debugging, explained
from harness.system.errors import Denied, Exhausted, Full, Gone, HarnessError, Unexpected, UsageError
from harness.system.jsonl import dumps
from harness.system.locks import held
from harness.system.profile import Tick, quiet
from harness.training.deepspeed_engine import Seat
from harness.training.engine import train
from harness.training.job import Job, TrainResult
from harness.training.nodes import BEAT_S, FIRST, MEET, Fate, Meeting

SETTLED_S = 2.0  # for the other ranks to end by themselves once one has failed, so that the cause is among them
SAID = {kind.__name__: kind for kind in (HarnessError, UsageError, Full, Exhausted, Gone, Denied, Unexpected)}
Look = Callable[[], bool]  # at other machines, every second: whether the ranks here are to end


@dataclass
class Rank:
    """One process of a training, and how it fared. `line` ends when the process does; it carries its messages."""

    number: int
    process: "subprocess.Popen[bytes]"
    line: Connection
    output: Path
    failure: dict[str, str] = field(default_factory=dict)

    def read(self, tick: Tick) -> bool:
        """Take one message; false once the rank has ended."""
        try:
            message = json.loads(self.line.recv_bytes())
        except (EOFError, OSError):
            self.process.wait()
            return False
        if "done" in message:
            tick(message["done"], message["total"])
        else:
            self.failure = message
        return True

    @property
    def fate(self) -> Fate:
        """How it ended, which has failed."""
        said = {"kind": "", "sentence": ""} | self.failure
        return Fate(self.number, self.process.returncode, output=str(self.output), **said)


def launch(job: Job, tick: Tick = quiet) -> TrainResult:
    """Train in this process, or in `runtime.num_processes` new ones, those of further machines included; HarnessError
    where one of them fails.

    Where memory runs out it goes on from the last checkpoint with less at a time (`harness.training.room`).
    """
    while True:
        try:
            return _launch(job, tick)
        except Exhausted:
            pass
        machine.reclaim()  # out of the exception, whose traceback holds what did not fit
        job = job.model_copy(update={"shortages": job.shortages + 1})


def _launch(job: Job, tick: Tick) -> TrainResult:
    count = job.runtime.num_processes
    if count == 1:
        return train(job, tick)
    work = Path(job.work)
    work.mkdir(parents=True, exist_ok=True)
    request = work / "job.json"
    request.write_text(job.model_dump_json(), encoding="utf-8")
    if job.runtime.nodes > 1:
        failed = _with_others(job, request, tick)
    else:
        with running(request, job.runtime) as ranks:
            failed = watch(ranks, tick)
    if failed:
        _explain(min(failed, key=_remoteness), count)
    return TrainResult.model_validate_json((Path(job.out) / "summary.json").read_text(encoding="utf-8"))


def _with_others(job: Job, request: Path, tick: Tick) -> list[Fate]:
    """Run this machine's ranks, and have the others run theirs; how those of all ended that failed."""
    with Meeting(job.runtime, Path(job.meet or request.with_name(MEET)), request) as meeting:
        meeting.gather()
        with running(request, job.runtime, FIRST, meeting.told.url) as ranks:
            failed = watch(ranks, tick, meeting.look)
        return failed + meeting.ends()


@contextmanager
def running(request: Path, runtime: Runtime, node: int = FIRST, url: str = "") -> Iterator[list[Rank]]:
    """A machine's ranks, which are gone afterwards. They find each other by a file, those of several at `url`."""
    count, here = runtime.num_processes, runtime.num_processes // runtime.nodes
    file = request.with_name(f"rendezvous-{uuid.uuid4().hex}")
    ranks: list[Rank] = []
    try:
        for local in range(here):
            ranks.append(_start(request, Seat(node * here + local, count, url or str(file), local)))
        yield ranks
    finally:
        for rank in ranks:
            rank.process.kill()
        for rank in ranks:
            rank.process.wait()
            rank.line.close()
        file.unlink(missing_ok=True)


def _start(request: Path, seat: Seat) -> Rank:
    """A new process for one rank; this process keeps one end of its line, and the rank alone has the other."""
    mine, its = Pipe()
    output = request.with_name(f"rank-{seat.rank}.txt")
    told = [str(request), *map(str, seat), str(os.getpid()), str(its.fileno())]
    begin = f"import sys; sys.path[:] = {sys.path!r}; from harness.training.launch import main; main()"
    env = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}  # no key is needed
    with output.open("wb") as file, its:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", begin, *told],  # a random.py in the current folder is nobody's random
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=_near(seat.rendezvous) | env | {"OMP_NUM_THREADS": "1"},
            pass_fds=(its.fileno(), *held()),
        )
    return Rank(seat.rank, process, mine, output)


def _near(rendezvous: str) -> dict[str, str]:
    """Keeps the ranks' sockets on the loopback device, if all are here, unless the user says otherwise."""
    if rendezvous.startswith("tcp://") and not rendezvous.startswith(("tcp://127.", "tcp://localhost:", "tcp://[::1]")):
        return {}
    device = next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), None)
    return {"GLOO_SOCKET_IFNAME": device, "NCCL_SOCKET_IFNAME": device} if device else {}


def watch(ranks: Sequence[Rank], tick: Tick, look: Look | None = None) -> list[Fate]:
    """Until every rank has ended, or one has failed and the others had a while for it; how those ended that failed."""
    running = {rank.line: rank for rank in ranks}
    deadline = float("inf")
    while running and (left := deadline - time.monotonic()) > 0:
        left = min(left, BEAT_S) if look else left
        for line in wait(list(running), None if left == float("inf") else left):
            assert isinstance(line, Connection)
            rank = running[line]
            if not rank.read(tick):
                del running[line]
                if rank.process.returncode:
                    deadline = min(deadline, time.monotonic() + SETTLED_S)
        if look and look():
            deadline = min(deadline, time.monotonic() + SETTLED_S)
    return [rank.fate for rank in ranks if rank.process.returncode]


def _remoteness(failed: Fate) -> int:
    """How far from the cause a failed rank is: where one is lost, the others abort or fail with its connection."""
    if failed.status < 0 and failed.status != -signal.SIGABRT:
        return 0
    return 3 if not failed.kind else 2 if failed.kind == Unexpected.__name__ else 1


def _explain(failed: Fate, count: int) -> None:
    """Raise what a failed rank said, or what ended it."""
    output = Path(failed.output)
    if debugging() and output.is_file():
        sys.stderr.write(output.read_text(encoding="utf-8", errors="replace"))
    status, who = failed.status, f"rank {failed.rank} of {count} (they count from 0)"
    if failed.kind:
        raise SAID[failed.kind](failed.sentence)
    if status < 0:
        why = {-signal.SIGKILL: " (out of memory?)", -signal.SIGABRT: _last_words(output)}.get(status, "")
        raise HarnessError(
            f"{who} was ended by {_signal(-status)}{why}; the same command goes on from the last checkpoint. Less "
            "memory is needed with a smaller runtime.per_device_train_batch_size or runtime.zero_stage=3."
        )
    raise Unexpected(f"{who} ended with status {status}. What it said is in {output}; please report it.")


def _last_words(output: Path) -> str:
    """What a rank that aborted said in the end, in brackets: the cause, by whatever library gave up."""
    text = output.read_text(encoding="utf-8", errors="replace") if output.is_file() else ""
    said = [line.strip() for line in text.splitlines() if "terminate called" in line or "what():" in line]
    return f" ({' '.join(said[-2:])[:300]})" if said else ""


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def main() -> None:
    """One rank of a launched training; the words are JOB RANK WORLD RENDEZVOUS LOCAL PARENT LINE."""
    request, rank, world, rendezvous, local, parent, descriptor = sys.argv[1:]
    line = Connection(int(descriptor))
    lifeline.follow(int(parent), line)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it ends the ranks
    job = Job.model_validate_json(Path(request).read_text(encoding="utf-8"))
    tick = partial(_tell_progress, line) if rank == "0" else quiet
    tempfile.tempdir = job.work  # a traceback that nobody is shown goes with the rest
    try:
        with machine.explained(Path(os.path.commonpath([job.work, job.out]))):
            SOURCES.hold(job.ours)
            SOURCES.imported()
            train(job, tick, Seat(int(rank), int(world), rendezvous, int(local)))
        status = 0
    except Exception as error:
        said = explained(error)
        line.send_bytes(dumps({"kind": type(said).__name__, "sentence": str(said)}).encode())
        status = said.exit_status
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # an orderly exit might wait for the other ranks, or abort over their closed connections


def _tell_progress(line: Connection, done: int, total: int) -> None:
    line.send_bytes(dumps({"done": done, "total": total}).encode())
