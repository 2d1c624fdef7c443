"""What files hold, by digest: every byte counts, and is read once.

A digest is remembered with the file's place, size, times and inode, in this process and in a file of the store, so that
a folder of 100,000 pictures is hashed when it is first used and then only looked at. A file that was touched in the
last two seconds is not remembered, since its next change might leave the times as they are (git's "racily clean" rule).
What is remembered is never trusted half: a line that is torn or altered does not count, and the file is read again.
"""

import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from harness.system.errors import UsageError

MEMO = ".contents"  # in the store's folder
RACY_NS = 2 * 10**9
THREADS = 8
AT_ONCE = 2000  # files between two lines of the memo: what a kill can cost
# File managers leave them, and Python beside the files that it has imported.
NOBODYS = {".DS_Store", ".localized", ".directory", "Thumbs.db", "desktop.ini", "__pycache__"}
NOT_DATA = ".cache/huggingface"  # what `hf download --local-dir` leaves in a folder: when it fetched each file
SPARE = 1000  # lines that no longer count, beyond as many as do: then the memo is written anew


class Stamp(NamedTuple):
    """What tells a file from what it was: size in bytes, times in ns, inode."""

    size: int
    mtime: int
    ctime: int
    inode: int


class Contents:
    """Digests of files. One object per process is enough; any number of processes share the memo of a store."""

    def __init__(self) -> None:
        self.read = 0
        """How many files were read so far."""
        self._tell: Callable[[int, int], None] | None = None
        """Is told how many of how many files have been read, after each `AT_ONCE`."""
        self.root: Path | None = None
        """The store that remembers as well."""
        self._memo: Path | None = None
        self._known: dict[str, tuple[str, str]] = {}
        self._due = b""
        """Lines for a memo whose store is not there yet."""

    def keep(self, root: Path) -> None:
        """Remember in the store at `root` as well, once it is there, and know what is remembered there."""
        self.root, self._memo = root, root / MEMO
        lines = 0
        try:
            for line in self._memo.read_bytes().splitlines():
                lines += 1
                if known := _unsealed(line):
                    self._known[known[0]] = known[1:]
        except OSError:
            self._append(b"")
            return
        self._append(b"")
        if lines > 2 * len(self._known) + SPARE:
            self._rewrite()

    @contextmanager
    def telling(self, tell: Callable[[int, int], None]) -> Iterator[None]:
        """Meanwhile `tell` hears how many files have been read, of how many."""
        self._tell = tell
        try:
            yield
        finally:
            self._tell = None

    def digest(self, path: Path | str) -> str:
        """sha256 of a file's bytes, in hex; UsageError where it cannot be read."""
        return self.digests([path])[0]

    def digests(self, paths: Sequence[Path | str], gone: str = "") -> list[str]:
        """sha256 of the bytes of each file, in hex, in order; `gone` of what is no file, UsageError without."""
        places = [os.path.abspath(path) for path in paths]  # noqa: PTH100 -- 100,000 Path objects cost a second
        digests = {place: digest for place in places if (digest := self._remembered(place))}
        unknown = [place for place in dict.fromkeys(places) if place not in digests]
        if gone:
            digests |= {place: gone for place in unknown if not os.path.isfile(place)}  # noqa: PTH113
            unknown = [place for place in unknown if place not in digests]
        for start in range(0, len(unknown), AT_ONCE):
            some = unknown[start : start + AT_ONCE]
            if len(some) == 1:  # a stage's files come one by one, and a thread takes longer than reading a small one
                read = [_read(some[0])]
            else:
                with ThreadPoolExecutor(min(THREADS, len(some))) as pool:  # hashing lets others run
                    read = list(pool.map(_read, some))
            self.read += len(read)
            fresh = {place: (told, digest) for place, (told, digest) in zip(some, read, strict=True) if told}
            digests |= {place: digest for place, (_, digest) in zip(some, read, strict=True)}
            self._known |= fresh
            self._append(b"".join(_sealed(place, *known) for place, known in fresh.items()))
            if self._tell:
                self._tell(start + len(some), len(unknown))
        return [digests[place] for place in places]

    def _remembered(self, place: str) -> str:
        """The digest of a file that is as it was; empty where it is not known or not so."""
        known = self._known.get(place)
        try:
            return known[1] if known and known[0] == _told(os.stat(place)) else ""  # noqa: PTH116
        except OSError:
            return ""

    def _append(self, lines: bytes) -> None:
        self._due += lines
        if not self._due or self._memo is None or not self._memo.parent.is_dir():
            return
        due, self._due = self._due, b""
        with suppress(OSError), self._memo.open("ab", buffering=0) as file:  # without a memo it costs time, no more
            file.write(b"\n" + due)  # whatever was torn before, ends here

    def _rewrite(self) -> None:
        assert self._memo is not None
        part = self._memo.with_name(f"{MEMO}.{os.getpid()}.{time.time_ns()}")
        try:
            part.write_bytes(b"".join(_sealed(place, *known) for place, known in self._known.items()))
            part.replace(self._memo)  # lines that another process appended meanwhile are read again another time
        except OSError:
            part.unlink(missing_ok=True)


CONTENTS = Contents()


def listing(folder: Path, names: Sequence[str] | None = None) -> str:
    """Digest of a folder: every file's name and bytes, through links as well; identity of a user's data.

    Hidden files count too, for a glob of *.json finds ._a.json; only `NOBODYS` do not.
    With `names`, of those files alone, and of which of them are not there.
    """
    if names is None:
        names = sorted(files_in(folder))
    digests = CONTENTS.digests([f"{folder}/{name}" for name in names], gone="is not there")
    lines = (f"{json.dumps(name)} {digest}" for name, digest in zip(names, digests, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _read(place: str) -> tuple[str, str]:
    """What tells a file from what it was, empty where its next change could leave that as it is, and its digest."""
    try:
        with open(place, "rb") as file:  # noqa: PTH123 -- a string, as in `digests`
            began, before = time.time_ns(), os.fstat(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            after = os.stat(place)  # noqa: PTH116
    except OSError as error:
        raise UsageError(f"{place} cannot be read: {error.strerror}.") from None
    lasting = _told(before) == _told(after) and began - max(after.st_mtime_ns, after.st_ctime_ns) > RACY_NS
    return _told(after) if lasting else "", digest


def files_in(folder: Path, prefix: str = "", above: tuple[tuple[int, int], ...] = ()) -> Iterator[str]:
    """Names of the plain files, relative to the first folder; a link that leads back up is not followed."""
    try:
        status = folder.stat()
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return  # what is not there is told by who needs it
    except OSError as error:
        raise UsageError(f"{folder} cannot be read: {error.strerror}.") from None
    me = (status.st_dev, status.st_ino)
    if me in above:
        return
    for entry in entries:
        try:
            mode = entry.stat().st_mode
        except OSError:
            continue  # a link to nothing
        if entry.name in NOBODYS or f"{prefix}{entry.name}" == NOT_DATA:
            continue
        if stat.S_ISDIR(mode):
            yield from files_in(folder / entry.name, f"{prefix}{entry.name}/", (*above, me))
        elif stat.S_ISREG(mode):
            yield prefix + entry.name


def stamp(path: Path) -> Stamp:
    """A file's; UsageError where there is none."""
    try:
        status = path.stat()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _told(status: os.stat_result) -> str:
    """A stamp as the memo has it: 100,000 of them are compared as texts, in half the time of numbers."""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _seal(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _sealed(place: str, stamp: str, digest: str) -> bytes:
    text = f"{digest} {stamp} {json.dumps(place)}"
    return f"{_seal(text)} {text}\n".encode()


def _unsealed(line: bytes) -> tuple[str, str, str] | None:
    """(place, stamp, digest) of a line; None where it is not as it was written."""
    try:
        seal, _, text = line.decode("ascii").partition(" ")
        if seal != _seal(text):
            return None
        told, _, place = text.partition(' "')
        digest, _, stamp = told.partition(" ")
        return json.loads(f'"{place}') if "\\" in place else place[:-1], stamp, digest
    except ValueError:
        return None
