"""Every reply that was paid for, kept for good: append-only, shared by all processes, safe against a torn tail.

One line of JSON per record, sealed by a digest of itself. A record is a reservation, made before a call, or a
settlement, made after it, which holds the reply and what it cost. A call whose process died before it settled counts
as paid: nobody knows that it was not.
"""

import asyncio
import hashlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.store import failpoint, sync
from harness.types import dumps

NANO = 10**9  # money is counted in whole billionths of a USD, so that sums are exact
POLL_S = 0.02


class Journal:
    """The journal in one folder. An object is used by one thread; any number of objects and processes share a folder.

    `settled` is what finished calls cost and `dearest` the most that one did (USD); `open` holds the reservations of
    calls that have not finished, by ticket.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "replies.jsonl"
        self.locks = folder / "locks"
        self.replies: dict[str, dict[str, Any]] = {}
        self.open: dict[str, tuple[int, float]] = {}
        self.settled = 0
        self.dearest = 0.0
        self.damaged = 0
        self._offset = 0
        self.refresh()

    @property
    def spent(self) -> float:
        """USD paid, or perhaps paid, by everybody so far."""
        return (self.settled + sum(nano for nano, _ in self.open.values())) / NANO

    def get(self, key: str) -> dict[str, Any] | None:
        """The reply kept under this key by whichever process, or None."""
        if key not in self.replies:
            self.refresh()
        return self.replies.get(key)

    def reserve(self, usd: float, budget: float | None) -> str | None:
        """A ticket for a call that may cost so much; None where that could exceed the budget for everything so far."""
        ticket = uuid.uuid4().hex
        with self._alone():
            if budget is not None and round(self.spent * NANO) + _nano(usd) > _nano(budget):
                return None
            self._append({"reserve": ticket, "nano": _nano(usd), "at": time.time()})
        failpoint("journal.reserved")
        return ticket

    def settle(self, ticket: str, usd: float, key: str = "", reply: dict[str, Any] | None = None) -> None:
        """Record what a call cost and, if it gave one, the reply. No kill can undo it; `force` it to disk as well."""
        kept = {"key": key, "reply": reply} if reply is not None else {}
        failpoint("journal.answered")
        with self._alone():
            self._append({"settle": ticket, "nano": _nano(usd), **kept})
        failpoint("journal.written")

    async def force(self) -> None:
        """Wait until what has been written is on disk."""
        await asyncio.to_thread(sync, self.file)
        failpoint("journal.forced")

    def waiting(self, seconds: float) -> bool:
        """Whether a call reserved in the last `seconds` may still settle for less than it reserved."""
        self.refresh()
        return any(time.time() - at < seconds for _, at in self.open.values())

    @asynccontextmanager
    async def sole(self, key: str) -> AsyncIterator[None]:
        """Held by one asker of this key at a time, over all processes; the system lets go of it when one dies."""
        self.locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.locks / key[:2])  # shared with 1 in 256 other keys
        while True:
            try:
                lock.acquire(blocking=False)
                break
            except Timeout:
                await asyncio.sleep(POLL_S)
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
        elif "reserve" in record:
            self.open[record["reserve"]] = (record["nano"], record["at"])
        else:
            self.open.pop(record["settle"], None)
            self.settled += record["nano"]
            self.dearest = max(self.dearest, record["nano"] / NANO)
            if "key" in record:
                self.replies.setdefault(record["key"], record["reply"])

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
        self.locks.mkdir(parents=True, exist_ok=True)
        with FileLock(self.locks / "journal", poll_interval=0.005):
            self.refresh()
            yield


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
