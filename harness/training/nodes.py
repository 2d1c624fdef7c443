"""How the machines of one training meet, and how each knows that the others live.

The first, on which the stage is made, opens a TCPStore, as torchrun's first one does, and writes where it is into a
file of the store (`meeting_of`) that the others watch. Then all say every second that they live: a machine that is
lost breaks no connection, and those that are left would wait for it as long as a collective may take, half an hour.
"""

import json
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch.distributed as dist

from harness.contracts.settings import Runtime
from harness.system.endpoints import endpoint
from harness.system.errors import Gone, HarnessError
from harness.system.jsonl import dumps

BEAT_S, LOST_S = 1.0, 30.0  # between signs of life; without one for so long a machine is lost
COME_S = 300.0  # for all machines to come to a training
POLL_S = 0.2
MEET = "meet"  # the name of the file by which they meet
FIRST = 0  # the machine on which the stage is made; the others count from 1


class Fate(NamedTuple):
    """How a rank ended that failed: its exit status, what it said of that, the file with all that it printed."""

    rank: int
    status: int
    kind: str
    sentence: str
    output: str


class Invitation(NamedTuple):
    """Where a training's machines meet: the id of this attempt, the TCPStore, the job's file."""

    id: str
    host: str
    port: int
    job: str

    @property
    def url(self) -> str:
        """The ranks' rendezvous."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}/{self.id}"


def meeting_of(root: Path, key: str) -> Path:
    """The file by which machines find the training of a stage, in the folder that its job has in the store."""
    return root.absolute() / ".jobs" / key / MEET


def _store(host: str, port: int, first: bool) -> Any:
    wait = timedelta(seconds=LOST_S)
    return dist.TCPStore(host, port, is_master=first, wait_for_workers=False, timeout=wait)  # type: ignore[attr-defined]


@dataclass
class Beats:
    """Signs of life in a TCPStore: one's own, and what was heard of others."""

    store: Any
    mine: int
    count: int = 0
    at: float = 0.0
    heard: dict[int, tuple[bytes, float]] = field(default_factory=dict)

    def beat(self) -> None:
        """Say that this machine lives, a few times while another's patience lasts."""
        if time.monotonic() - self.at >= BEAT_S:
            self.at, self.count = time.monotonic(), self.count + 1
            self.store.set(f"beat/{self.mine}", str(self.count))

    def silent_s(self, node: int) -> float:
        """Seconds since another was heard of, by this machine's clock alone."""
        told, now = self.store.get(f"beat/{node}"), time.monotonic()
        if node not in self.heard or self.heard[node][0] != told:
            self.heard[node] = told, now
        return now - self.heard[node][1]


class Meeting:
    """A training's machines, as the first of them sees them."""

    def __init__(self, runtime: Runtime, place: Path, job: Path) -> None:
        """HarnessError where no port can be opened, or not all machines come."""
        self.nodes, self.place = runtime.nodes, place
        given, port = endpoint(runtime.rdzv_endpoint)
        host = given or socket.gethostname()
        try:
            self.store = _store(host, port, True)
        except (RuntimeError, ValueError) as error:
            raise HarnessError(
                f"no machine can come to {host}:{port} ({str(error).splitlines()[0]}); name a host and a free port "
                "that the others reach: --set runtime.rdzv_endpoint=HOST:PORT."
            ) from None
        self.told = Invitation(uuid.uuid4().hex, host, self.store.port, str(job))
        self.beats = Beats(self.store, FIRST)
        for key in ("over", *(f"{what}/{node}" for node in range(self.nodes) for what in ("who", "beat", "end"))):
            self.store.set(key, "")
        place.parent.mkdir(parents=True, exist_ok=True)
        new = place.with_suffix(".new")
        new.write_text(dumps(self.told._asdict()), encoding="utf-8")
        new.replace(place)

    def __enter__(self) -> "Meeting":
        return self

    def __exit__(self, *error: object) -> None:
        """Send the others home; none has a rank left then, unless it is lost."""
        with suppress(Gone):
            self.ends()
        self.place.unlink(missing_ok=True)
        with suppress(OSError):  # of an executor that keeps more there
            self.place.parent.rmdir()

    @property
    def others(self) -> Iterator[int]:
        """Their numbers."""
        return iter(range(1, self.nodes))

    def gather(self) -> None:
        """Wait until all have come; HarnessError after a while."""
        until = time.monotonic() + COME_S
        while missing := [node for node in self.others if not self._of("who", node)]:
            if time.monotonic() > until:
                raise HarnessError(
                    f"machine {missing[0] + 1} of {self.nodes} has not come to this training in {COME_S:g} s, at "
                    f"{self.told.host}:{self.told.port}. Either nobody started it (the executor must know of further "
                    "machines: docs/clusters.md), or it does not see this store or this address."
                )
            time.sleep(POLL_S)

    def look(self) -> bool:
        """Beat, and look at the others: whether a rank has failed there. `Gone` where one is lost."""
        self.beats.beat()
        for node in self.others:
            if not self._of("end", node) and (silent := self.beats.silent_s(node)) >= LOST_S:
                name, *_ = self._of("who", node).split()
                raise Gone(
                    f"machine {node + 1} of {self.nodes} ({name}) was lost: nothing was heard of it for {silent:.0f} s;"
                    " the same command goes on from the last checkpoint."
                )
        return any(json.loads(self._of("end", node) or "[]") for node in self.others)

    def ends(self) -> list[Fate]:
        """End the training everywhere, and hear of the ranks that had failed before; `Gone` where a machine is lost."""
        self.store.set("over", "1")
        here = [node for node in self.others if self._of("who", node)]
        while not all(self._of("end", node) for node in here):
            self.look()
            time.sleep(POLL_S)
        return [Fate(*fate) for node in here for fate in json.loads(self._of("end", node))]

    def _of(self, what: str, node: int) -> str:
        return str(self.store.get(f"{what}/{node}").decode())


class Guest:
    """A training's machines, as one of the others sees them."""

    def __init__(self, told: Invitation, node: int) -> None:
        """ConnectionError where the training is over, or has somebody else in this place."""
        try:
            self.store, self.node = _store(told.host, told.port, False), node
            me = f"{socket.gethostname()} {uuid.uuid4().hex[:8]}"
            if self.store.compare_set(f"who/{node}", "", me).decode() != me:
                raise ConnectionError(f"place {node} is taken")
        except RuntimeError as error:
            raise ConnectionError(str(error)) from None
        self.beats = Beats(self.store, node)

    def look(self) -> bool:
        """Beat, and look at the first machine: whether the training is over. ConnectionError where that is lost."""
        try:
            self.beats.beat()
            if self.beats.silent_s(FIRST) >= LOST_S:
                raise ConnectionError("the first machine is silent")
            return bool(self.store.get("over"))
        except RuntimeError as error:  # torch's, of a connection that is broken
            raise ConnectionError(str(error)) from None

    def end(self, failed: list[Fate]) -> None:
        """Say how the ranks here have ended."""
        with suppress(RuntimeError):
            self.store.set(f"end/{self.node}", dumps(failed))


def invitation(place: Path) -> Invitation | None:
    """What the first machine has written last; None where nobody is invited."""
    try:
        return Invitation(**json.loads(place.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def invitations(place: Path, over: Callable[[], bool]) -> Iterator[Invitation]:
    """Each attempt of a training once, as it is told of, until `over`."""
    known = ""
    while not over():
        told = invitation(place)
        if told is not None and told.id != known:
            known = told.id
            yield told
        time.sleep(POLL_S)
