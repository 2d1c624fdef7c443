"""Leases: locks between machines whose kernels do not tell each other of theirs (NFS with `nolock`, say).

A lease is a file in the folder of its lock, which is drafted and then linked to a name that is nobody's, so that
whoever sees it sees whose it is. In it its holder writes another number every few seconds. No machine's clock is
compared with another's: a lease in which nothing has changed for `EXPIRES_S`, by the clock of whoever watches it, is
taken over by creating the next. A holder that only stood still finds that it has lost its lease when it looks
(`Lease.mine`), as it does before what it has made is published.

The kernel's lock is held first (`harness.system.locks`), so that a lease of this machine's is a dead process's.
"""

import errno
import json
import os
import random
import socket
import string
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from harness.system.errors import HarnessError

BEAT_S, EXPIRES_S, POLL_S = 5.0, 60.0, 0.25
COUNT = 20  # digits that are written anew
SHARER = "with-"  # begins the names of leases that many may have; others are numbers
DRAFT = "draft-"  # of those that are no leases yet

now, pause = time.monotonic, time.sleep  # of those who watch
_beating: dict["Lease", None] = {}
_heart: threading.Thread | None = None


class Lost(HarnessError):
    """A lease was taken over."""


def machine() -> tuple[str, str]:
    """This machine's name, and what tells its kernel, since it was started, from every other."""
    host, boot = socket.gethostname(), Path("/proc/sys/kernel/random/boot_id")
    return host, boot.read_text(encoding="ascii").strip() if boot.is_file() else f"{host}-{uuid.getnode():x}"


@dataclass(eq=False)
class Lease:
    """A lease that this process holds. `after`: whose it was that were taken over, "HOST (process NUMBER)" each."""

    file: Path
    nonce: str
    descriptor: int
    after: list[str] = field(default_factory=list)
    beats: int = 0
    written: bool = False
    process: int = field(default_factory=os.getpid)
    lock: threading.Lock = field(default_factory=threading.Lock)  # its descriptor is another file's once it is closed

    @classmethod
    def create(cls, file: Path, place: str) -> "Lease | None":
        """A new lease of a kernel's (`place`); None where it is somebody's."""
        nonce = uuid.uuid4().hex[:12]
        draft = file.with_name(DRAFT + nonce)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            lease = cls._written(draft, file, nonce, place)
            try:
                os.link(draft, file)
            except OSError as error:
                os.close(lease.descriptor)
                if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
                    raise
                lease = cls._written(file, file, nonce, place)  # this file system has no links
            else:
                lease._reopen()
        except (FileExistsError, FileNotFoundError):  # the folder goes with its last lease, a draft with its next
            return None
        finally:
            draft.unlink(missing_ok=True)
        return lease

    def _reopen(self) -> None:
        """By its own name: what is open by another one when that is unlinked, NFS keeps beside it."""
        draft = self.descriptor
        try:
            self.descriptor = os.open(self.file, os.O_RDWR)
            if not os.path.samestat(os.fstat(draft), os.fstat(self.descriptor)):
                os.close(self.descriptor)
                raise FileNotFoundError(f"{self.file} is another's by now.")
        finally:
            os.close(draft)

    @classmethod
    def _written(cls, to: Path, file: Path, nonce: str, place: str) -> "Lease":
        lease = cls(file, nonce, os.open(to, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666))
        told = {"place": place, "who": f"{machine()[0]} (process {lease.process})", "nonce": nonce}
        said = f"{0:0{COUNT}}\n{json.dumps(told)}\n".encode()
        with suppress(OSError):
            lease.written = os.pwrite(lease.descriptor, said, 0) == len(said)
        if not lease.written:  # the disk is full, which who clears the store is to change
            os.ftruncate(lease.descriptor, 0)
        return lease

    def beat(self) -> None:
        """Write that its holder lives: into its own file, whatever lies in that one's place by now."""
        with self.lock, suppress(OSError):
            if self.written and self.descriptor >= 0 and self.process == os.getpid():  # not a fork of it
                self.beats += 1
                os.pwrite(self.descriptor, f"{self.beats:0{COUNT}}".encode(), 0)
                os.fsync(self.descriptor)

    @property
    def there(self) -> bool:
        """Whether its file is."""
        if self.written:
            return _told(_read(self.file)).get("nonce") == self.nonce
        with suppress(OSError):
            return os.path.samestat(self.file.stat(), os.fstat(self.descriptor))
        return False

    def mine(self) -> bool:
        """Whether nobody has taken it over: of one `alone`."""
        return self.there and max(_numbered(self.file.parent), key=_number, default=None) == self.file

    def insist(self) -> None:
        """`Lost` where it is somebody else's."""
        if not self.mine():
            raise Lost(f"this process stood still for {EXPIRES_S:g} s or more, and another machine has taken it over")

    def release(self) -> None:
        """Let go of it, and leave nothing behind."""
        there = self.there
        with self.lock:  # before it is unlinked, since NFS keeps what is open, and its folder with it
            os.close(self.descriptor)
            self.descriptor = -1
        with suppress(OSError):
            if there:
                self.file.unlink()
            self.file.parent.rmdir()


class Watch:
    """What a process on the kernel `place` has seen of others' leases, and since when. `alive`: some have changed."""

    def __init__(self, place: str) -> None:
        self.place, self.alive = place, False
        self._seen: dict[Path, tuple[bytes, float]] = {}

    def all_dead(self, files: Iterable[Path]) -> bool:
        """Whether all are; each is looked at."""
        looked = [self.dead(file) for file in files]
        return all(looked)

    def dead(self, file: Path) -> bool:
        """Whether its holder has ended or has been silent for too long."""
        said = _read(file)
        if said is None or _told(said).get("place") == self.place:
            return True
        if file not in self._seen or self._seen[file][0] != said:
            self.alive |= file in self._seen
            self._seen[file] = said, now()
        return now() - self._seen[file][1] >= EXPIRES_S

    def who(self, file: Path) -> str | None:
        """Who, of another machine's, had a lease when it was seen last."""
        return _told(self._seen[file][0]).get("who", "somebody") if file in self._seen else None


@contextmanager
def alone(folder: Path, place: str, wait: bool = True) -> Iterator[Lease]:
    """The lease of `folder`, once nobody else has one there; without `wait` BlockingIOError where somebody has.

    `place` is this kernel, as far as its locks reach. The caller holds its lock.
    """
    watch = Watch(place)
    while (lease := _taken(folder, watch)) is None:
        if watch.alive and not wait:
            raise BlockingIOError(f"{folder} is another machine's.")
        pause(POLL_S * random.uniform(0.5, 1.5))
    with _beaten(lease):
        yield lease


@contextmanager
def together(folder: Path, place: str) -> Iterator[None]:
    """A lease in `folder` beside those of any number of others, once nobody is `alone` there."""
    while (lease := Lease.create(folder / f"{SHARER}{uuid.uuid4().hex}", place)) is None:
        pass
    with _beaten(lease):
        watch = Watch(place)
        while not watch.all_dead(_numbered(folder)):
            pause(POLL_S)
        yield


def _taken(folder: Path, watch: Watch) -> Lease | None:
    """The next lease of the folder, where those that are there are dead ones'."""
    there, drafts = _files(folder), _files(folder, drafts=True)
    if not watch.all_dead(there):
        return None
    number = 1 + max(map(_number, _numbered(folder)), default=0)
    lease = Lease.create(folder / str(number), watch.place)
    if lease and _files(folder) - there - {lease.file}:  # having written there, this machine sees who else has
        lease.release()
        return None
    if lease:
        for file in there:
            lease.after += [who for who in (watch.who(file),) if who]
        for file in there | drafts:  # who drafts one meanwhile drafts it anew
            file.unlink(missing_ok=True)
    return lease


@contextmanager
def _beaten(lease: Lease) -> Iterator[None]:
    """The lease beats meanwhile; then it is let go of."""
    global _heart
    _beating[lease] = None
    if _heart is None or not _heart.is_alive():  # in a fork it is not
        _heart = threading.Thread(target=_beat, name="leases", daemon=True)
        _heart.start()
    try:
        yield
    finally:
        del _beating[lease]
        lease.release()


def _beat() -> None:
    while True:
        time.sleep(BEAT_S)
        for lease in [*_beating]:
            lease.beat()


def _files(folder: Path, drafts: bool = False) -> set[Path]:
    """Leases there, or drafts of some; other names are NFS's, of what was unlinked while it was open."""
    begins = DRAFT if drafts else (SHARER, *string.digits)
    try:
        return {file for file in folder.iterdir() if file.name.startswith(begins)}
    except FileNotFoundError:
        return set()


def _numbered(folder: Path) -> set[Path]:
    """The leases of those who are alone, or want to be."""
    return {file for file in _files(folder) if file.name.isdigit()}


def _number(file: Path) -> int:
    return int(file.name)


def _read(file: Path) -> bytes | None:
    """What a lease says; None where it is gone."""
    try:
        return file.read_bytes()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESTALE):
            raise
        return None


def _told(said: bytes | None) -> dict[str, str]:
    """Who a lease says has it; nothing where it is not written yet."""
    try:
        told = json.loads((said or b"")[COUNT:])
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
