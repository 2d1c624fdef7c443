"""Every reply that was paid for, kept for good: append-only, shared by all processes, safe against a torn tail.

One line of JSON per record, sealed by a digest of itself. A record is a reservation, made before a call, or a
settlement, made after it, which holds the reply and what it cost; a third kind takes a reply back that cannot be
read. A call whose process died before it settled counts as paid: nobody knows that it was not. Whether a process lives
is told by a lock that it holds, never by a clock.

A batch is a reservation of many questions at once, each settled by itself. It outlives its process: records of where it
is at the service let another one find it.
"""

import asyncio
import hashlib
import json
import math
import os
import uuid
import weakref
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.judging.replies import WHOLE
from harness.store.store import failpoint, sync
from harness.system.jsonl import dumps
from harness.system.locks import exclusive

NANO = 10**9  # money is counted in whole billionths of a USD, so that sums are exact
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Reservation:
    """A call under way: billionths of a USD, who makes it, and whether nobody else may meanwhile."""

    nano: int
    by: str
    alone: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """Questions that went together, by their keys, to a server's host; the ids there of their file and batch, or ""."""

    keys: tuple[str, ...]
    server: str
    file: str = ""
    id: str = ""


class Journal:
    """The journal in one folder. An object is used by one thread; any number of objects and processes share a folder.

    `settled` is what finished calls cost (whole billionths of a USD); `open` holds the reservations of calls that have
    not finished, by ticket ("BATCH/KEY" in a batch); `beyond` the most that a call of each model cost over
    its bound (USD). `carried` says in which of the `batches` a question is that is still open.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "replies.jsonl"
        self.locks = folder / "locks"
        self.replies: dict[str, dict[str, Any]] = {}
        self.open: dict[str, Reservation] = {}
        self.batches: dict[str, Batch] = {}
        self.carried: dict[str, str] = {}
        self.settled = 0
        self.beyond: dict[str, float] = {}
        self.damaged = 0
        self._me = uuid.uuid4().hex
        self._life: FileLock | None = None
        self._offset = 0
        self.refresh()

    @property
    def spent(self) -> float:
        """USD paid, or perhaps paid, by everybody so far."""
        return (self.settled + sum(one.nano for one in self.open.values())) / NANO

    def get(self, key: str) -> dict[str, Any] | None:
        """The reply kept under this key by whichever process, or None."""
        if key not in self.replies:
            self.refresh()
        return self.replies.get(key)

    def reserve(self, usd: float, budget: float | None, alone: bool = False) -> str | None:
        """A ticket for a call that may cost so much; None where that could exceed the budget for everything so far.

        While a call with `alone` is under way, nobody gets a ticket under a budget: what it costs is not known yet.
        """
        ticket = uuid.uuid4().hex
        with self._alone():
            if _nano(usd) > self._room(budget):
                return None
            self._live()
            self._append({"reserve": ticket, "nano": _nano(usd), "by": self._me, "alone": alone})
        failpoint("journal.reserved")
        return ticket

    def _room(self, budget: float | None) -> float:
        """Billionths that a call may cost; below 0 while one is under way `alone`."""
        if budget is None:
            return math.inf
        held = any(one.alone and self._lives(one.by) for one in self.open.values())
        return -1 if held else _nano(budget) - round(self.spent * NANO)

    def reserve_batch(self, batch: str, usd: Mapping[str, float], budget: float | None, server: str) -> bool:
        """Reserve, in one record, what a batch's questions may cost: the first of these that fit; whether any does."""
        with self._alone():
            room, items = self._room(budget), dict[str, int]()
            for key, nano in zip(usd, map(_nano, usd.values()), strict=True):
                if (room := room - nano) < 0:
                    break
                items[key] = nano
            if items:
                self._live()
                # a list, since the keys of an object are sorted when it is written
                self._append({"batch": batch, "items": [*items.items()], "by": self._me, "server": server})
        failpoint("journal.batched")
        return bool(items)

    def note_batch(self, batch: str, **where: str) -> None:
        """Record the id of a batch's `file`, or its own `id`, at the service."""
        with self._alone():
            self._append({"noted": batch, **where})
        failpoint(f"journal.noted_{next(iter(where))}")

    def close_batch(self, batch: str, paid: bool = False) -> None:
        """What is open of a batch never will be settled: it cost what was reserved, or nothing."""
        with self._alone():
            self._append({"closed": batch, "paid": paid})

    def settle(
        self,
        ticket: str,
        usd: float,
        key: str = "",
        reply: dict[str, Any] | None = None,
        beyond: tuple[str, float] | None = None,
    ) -> None:
        """Record what a call cost and, if it gave one, the reply. No kill can undo it; `force` it to disk as well.

        `beyond` is the model and the USD by which the call cost more than its bound.
        """
        kept: dict[str, Any] = {"key": key, "reply": reply} if reply is not None else {}
        kept |= {"beyond": [beyond[0], _nano(beyond[1])]} if beyond else {}
        failpoint("journal.answered")
        with self._alone():
            self._append({"settle": ticket, "nano": _nano(usd), **kept})
        failpoint("journal.written")

    def void(self, key: str, reply: dict[str, Any]) -> None:
        """Keep this reply no longer: what it says cannot be read. What it cost stays; a newer reply does too."""
        with self._alone():
            self._append({"void": key, "reply": _seal(reply)})

    async def force(self) -> None:
        """Wait until what has been written is on disk."""
        await asyncio.to_thread(sync, self.file)
        failpoint("journal.forced")

    def waiting(self) -> bool:
        """Whether a call under way may still settle for less than it reserved: whether its process lives."""
        self.refresh()
        return any(self._lives(one.by) for one in self.open.values())

    def _live(self) -> None:
        """Hold the lock that says so until this object or its process is gone."""
        if self._life is None:
            self._life = FileLock(self.locks / f"life-{self._me}")
            self._life.acquire(blocking=False)
            weakref.finalize(self, _end, self._life, os.getpid())

    def _lives(self, who: str) -> bool:
        """Whether somebody holds that lock; a dead one's is taken away."""
        path = self.locks / f"life-{who}"
        if who == self._me or not path.exists():
            return who == self._me
        lock = FileLock(path)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return True
        path.unlink(missing_ok=True)
        lock.release()
        return False

    @asynccontextmanager
    async def sole(self, key: str) -> AsyncIterator[None]:
        """Held by one asker of this key at a time, over all processes; the system lets go of it when one dies."""
        async with self._held(key[:2], POLL_S):  # shared with 1 in 256 other keys
            yield

    @asynccontextmanager
    async def tending(self, batch: str) -> AsyncIterator[None]:
        """Held by who sends a batch or waits for it; the others wait for that one."""
        async with self._held(f"batch-{batch}", 10 * POLL_S):
            self.refresh()
            yield

    @asynccontextmanager
    async def _held(self, name: str, poll_s: float) -> AsyncIterator[None]:
        self.locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.locks / name)
        while True:
            try:
                lock.acquire(blocking=False)
                break
            except Timeout:
                await asyncio.sleep(poll_s)
        try:
            yield
        finally:
            lock.release()

    def refresh(self) -> None:
        """Read what has been appended since; an unfinished last line is left for later."""
        if not self.file.is_file():
            return
        with self.file.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            self._take(line)

    def _take(self, line: bytes) -> None:
        record = _unsealed(line)
        if record is None:
            self.damaged += 1
        elif "void" in record:
            if _seal(self.replies.get(record["void"], {})) == record["reply"]:
                del self.replies[record["void"]]
        elif "reserve" in record:
            by, alone = record.get("by", ""), record.get("alone", False)
            self.open[record["reserve"]] = Reservation(record["nano"], by, alone)
        elif "settle" in record:
            self._settled(record)
        else:
            self._take_batch(record)

    def _settled(self, record: dict[str, Any]) -> None:
        self._close(record["settle"])
        self.settled += record["nano"]
        if "key" in record and record["reply"].get("finish", WHOLE[0]) in WHOLE:  # older ones may have been cut
            self.replies.setdefault(record["key"], record["reply"])
        model, nano = record.get("beyond", ("", 0))
        self.beyond[model] = max(self.beyond.get(model, 0.0), nano / NANO)

    def _take_batch(self, record: dict[str, Any]) -> None:
        if "batch" in record:
            batch = record["batch"]
            self.batches[batch] = Batch(tuple(key for key, _ in record["items"]), record["server"])
            for key, nano in record["items"]:
                self.open[f"{batch}/{key}"] = Reservation(nano, record["by"], alone=False)
                self.carried[key] = batch
        elif (batch := record.get("noted")) in self.batches:  # its own record may be damaged
            where = {name: record[name] for name in ("file", "id") if name in record}
            self.batches[batch] = replace(self.batches[batch], **where)
        elif (batch := record.get("closed")) in self.batches:
            for key in self.batches[batch].keys:
                if left := self._close(f"{batch}/{key}"):
                    self.settled += left.nano * record["paid"]

    def _close(self, ticket: str) -> Reservation | None:
        batch, _, key = ticket.partition("/")
        if self.carried.get(key) == batch:
            del self.carried[key]
        return self.open.pop(ticket, None)

    def _append(self, record: dict[str, Any]) -> None:
        """Write one record. The caller is alone: what follows the last whole line is a dead writer's, and is closed."""
        new = not self.file.exists()
        with self.file.open("ab") as file:
            torn = file.tell() > self._offset
            file.write(b"\n" * torn + _sealed(record))
        if new:
            sync(self.file.parent)
        self.refresh()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with exclusive(self.locks / "journal"):
            self.refresh()
            yield


def _end(life: FileLock, process: int) -> None:
    if os.getpid() == process:  # not a fork of it
        Path(life.lock_file).unlink(missing_ok=True)
        life.release()


def _nano(usd: float) -> int:
    return round(usd * NANO)


def _seal(record: dict[str, Any]) -> str:
    return hashlib.sha256(dumps(record).encode()).hexdigest()[:12]


def _sealed(record: dict[str, Any]) -> bytes:
    return (dumps({**record, "seal": _seal(record)}) + "\n").encode()


def _unsealed(line: bytes) -> dict[str, Any] | None:
    """The record of a line, or None where a byte of it is not as it was written."""
    try:
        record = json.loads(line)
        intact = isinstance(record, dict) and record.pop("seal", None) == _seal(record)
    except ValueError:
        return None
    return record if intact else None
