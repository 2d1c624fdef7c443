"""Finished work, kept under a key of what made it, so that the same command again does nothing.

A stage is done when its manifest is there; it is written last, in a staging folder that is then renamed. So a kill at
any instant leaves a stage either finished or not there at all.
"""

import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from harness import __version__
from harness.store.contents import CONTENTS
from harness.store.manifest import MANIFEST as MANIFEST
from harness.store.manifest import TOLD, damage_in, damaged, folders, is_stored, read_manifest, render
from harness.store.writing import failpoint as failpoint
from harness.store.writing import look_anew, remove, seal
from harness.store.writing import sync as sync
from harness.system.errors import HarnessError, UsageError
from harness.system.jsonl import dumps
from harness.system.leases import EXPIRES_S, Lease, Lost
from harness.system.locks import at_once, exclusive, shared
from harness.system.machine import explained

USE = "in-use"  # the lock that whoever relies on finished stages shares, and whoever takes some away holds alone

_sound: set[Path] = set()  # folders of stages that this process has looked at


@dataclass(frozen=True)
class Stage:
    """One cached step. Whatever changes its outputs is in `identity` or comes with an input; nothing else is.

    `inputs` are the stages it reads, by what they are to it. `identity` is plain data that JSON can carry.
    """

    kind: str
    identity: Mapping[str, Any] = field(hash=False)
    inputs: Mapping[str, "Stage"] = field(default_factory=dict, hash=False, repr=False)  # each again has its own

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", self.kind):
            raise ValueError(f"{self.kind!r} cannot name a kind of stage: it becomes a folder.")

    @cached_property
    def key(self) -> str:
        """20 hex digits that stand for kind, identity and inputs."""
        return _key(self.kind, self.identity, {name: stage.name for name, stage in self.inputs.items()})

    @property
    def name(self) -> str:
        """`kind/key`: the stage's folder in any store."""
        return f"{self.kind}/{self.key}"


def _key(kind: str, identity: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    return _sha256(dumps({"kind": kind, "identity": identity, "inputs": inputs}).encode())[:20]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Store:
    """Stages under one folder: `<kind>/<key>/`, and `.locks`, `.staging`, `.work` for those under way."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._leases: dict[str, Lease] = {}  # of stages that are being made here

    def path(self, stage: Stage) -> Path:
        """Where the stage's files are once it is done."""
        return self.root / stage.kind / stage.key

    def done(self, stage: Stage) -> bool:
        """Whether the stage is finished. Cheap; `sound` looks at the files as well."""
        return (self.path(stage) / MANIFEST).is_file()

    def work(self, stage: Stage) -> Path:
        """A folder for what should survive a crash while the stage is under way; gone once it is done.

        It has another name under each lease, so that whoever has lost one writes where nobody reads.
        """
        lease = self._leases.get(stage.name)
        begun = [] if lease else self._asides("work", stage)
        folder = begun[0] if begun else self._aside("work", stage, lease)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def manifest(self, stage: Stage) -> dict[str, Any]:
        """What is known of a finished stage: identity, inputs, files, created, seconds, version."""
        return self.manifest_of(stage.name)

    def manifest_of(self, name: str) -> dict[str, Any]:
        """The manifest of the finished stage `kind/key`."""
        return read_manifest(self.root / name)

    def facts(self, name: str) -> dict[str, str]:
        """What made the finished stage `kind/key`: its identity's leaves by dotted name, and those of its inputs."""
        return self._facts_of(self.manifest_of(name))

    def run(self, stage: Stage, body: Callable[[Path], None]) -> Path:
        """The finished stage's folder. `body` fills a staging folder, unless the stage is done already.

        Where another process is at the same stage, this waits for it and uses what it made; so it does for the ranks
        of a training whose own parent was killed, because they hold the lock too (`harness.system.locks`). So does a
        process that stood still until another machine took the stage over.
        """
        while not self._whole(stage):
            try:
                with explained(self.root), self.used(), exclusive(self._lock(stage)) as lease:
                    self._make(stage, body, lease)
                break
            except Lost as lost:
                sys.stderr.write(f"{stage.name}: {lost}; what that one makes is used\n")
        if self._asides("work", stage):
            with suppress(OSError), exclusive(self._lock(stage)):  # a store that cannot be written still serves
                for begun in self._asides("work", stage) if self.done(stage) else ():
                    shutil.rmtree(begun, ignore_errors=True)
        return self.path(stage)

    def _make(self, stage: Stage, body: Callable[[Path], None], lease: Lease) -> None:
        for who in lease.after:
            sys.stderr.write(f"{stage.name}: {who} was silent for {EXPIRES_S:g} s; its stage is taken over\n")
        for folder in (self.root, self.path(stage).parent, self.root / ".work", self.root / ".staging"):
            look_anew(folder)
        if self.done(stage) and (damage := self.damage(stage.name)):
            sys.stderr.write(f"{stage.name}: {damage[0]}; the stage is made again\n")
            self.discard(stage.name)
        if self.done(stage):
            return
        newest, *others = [*self._asides("work", stage), None]
        if newest:
            newest.rename(self._aside("work", stage, lease))
        for left in (*filter(None, others), *self._asides("staging", stage)):
            remove(left)
        self._leases[stage.name] = lease
        try:
            self._produce(stage, body, lease)
        except Exception:
            lease.insist()  # whoever has taken it over has moved its folders away
            raise
        finally:
            del self._leases[stage.name]

    def _whole(self, stage: Stage) -> bool:
        """Whether the stage is done and undamaged; False, to look again under its lock, where it is just moved away."""
        with suppress(OSError, UsageError):
            return self.done(stage) and not self.damage(stage.name)
        return False

    @contextmanager
    def used(self) -> Iterator[None]:
        """While open, nobody clears the store (`alone`): for whoever relies on stages that are finished."""
        with ExitStack() as held:
            with explained(self.root):
                held.enter_context(shared(self.root / ".locks" / USE))
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While open, nobody makes stages or relies on them; HarnessError, at once, where somebody does.

        The processes of a comparison that was killed count as long as they live.
        """
        with ExitStack() as held:
            try:
                with explained(self.root):
                    held.enter_context(at_once(self.root / ".locks" / USE))
            except BlockingIOError:
                raise HarnessError(f"{self.root}: a comparison works on this store; try again when it ends.") from None
            yield

    def _produce(self, stage: Stage, body: Callable[[Path], None], lease: Lease) -> None:
        staging = self._aside("staging", stage, lease)
        staging.mkdir(parents=True)
        failpoint("store.staged")
        created, start = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
        try:
            body(staging)
            failpoint("store.filled")
            fields = {
                "kind": stage.kind,
                "key": stage.key,
                "identity": stage.identity,
                "inputs": {name: read.name for name, read in stage.inputs.items()},
                "files": seal(staging),
                "created": created,
                "seconds": round(time.monotonic() - start, 3),
                "version": __version__,
            }
            failpoint("store.sealed")
            self._commit(stage, staging, fields, lease)
        except Exception:
            shutil.rmtree(staging, ignore_errors=True)
            raise

    def _commit(self, stage: Stage, staging: Path, fields: dict[str, Any], lease: Lease) -> None:
        """Publish what a lease's holder has made, unless the lease is lost.

        One that is lost between the question and the renaming does no harm: a stage is whole when it is renamed, and
        is never renamed over another.
        """
        final = self.path(stage)
        (staging / MANIFEST).write_text(render(json.loads(dumps(fields))), encoding="utf-8")
        failpoint("store.manifest")
        sync(staging / MANIFEST)
        sync(staging)
        failpoint("store.synced")
        final.parent.mkdir(parents=True, exist_ok=True)
        lease.insist()
        failpoint("store.leased")
        if final.exists() and not self.done(stage):  # a stage whose manifest was deleted
            self.discard(stage.name)
        try:
            staging.rename(final)
        except OSError:
            if not self.done(stage):
                raise
            remove(staging)  # whoever lost the lease between its question and its renaming has made the stage
        failpoint("store.renamed")
        sync(final.parent)
        sync(self.root)
        failpoint("store.committed")

    def discard(self, name: str) -> None:
        """Take the stage `kind/key` out of the store, whole, so that the next run makes it again."""
        doomed = self.root / ".staging" / f"discarded-{name.replace('/', '-')}"
        _sound.discard(self.root / name)
        with explained(self.root):
            remove(doomed)
            doomed.parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).rename(doomed)
            failpoint("store.discarded")
            remove(doomed)

    def damage(self, name: str) -> list[str]:
        """What is not as it was stored in the finished stage `kind/key`; empty if all is.

        Looked at once per process, and files are read only where their times say that they may have changed.
        """
        folder = self.root / name
        if folder in _sound:
            return []
        damage = damage_in(folder, CONTENTS.digest)
        if not damage:
            _sound.add(folder)
        return damage

    def sound(self, name: str) -> Path:
        """The folder of the finished stage `kind/key`; HarnessError where a file in it is not what was stored."""
        if damage := self.damage(name):
            raise HarnessError(
                f"{self.root / name}: {'; '.join(damage[:3])}. Give the comparison's command again: it makes the stage "
                "anew."
            )
        return self.root / name

    def file(self, name: str, file: str) -> Path:
        """A file of the finished stage `kind/key`, whose other files may be elsewhere; HarnessError as of `sound`."""
        path, known = self.root / name / file, self.manifest_of(name)["files"].get(file, {})
        if not is_stored(path, known, CONTENTS.digest):
            raise HarnessError(f"{path} is not what was stored; delete {path.parent} and run the comparison again.")
        return path

    def finished(self, kind: str = "*") -> list[str]:
        """Names (`kind/key`) of the finished stages, sorted."""
        return [name for name in folders(self.root, kind) if os.path.exists(f"{self.root}/{name}/{MANIFEST}")]  # noqa: PTH110

    def verify(
        self, stage: Stage | None = None, tick: Callable[[int, int], None] | None = None
    ) -> dict[str, list[str]]:
        """Damaged stages (`kind/key`) and what is wrong with each, by reading every byte; empty if all is well.

        `tick` is told how many stages have been read, of how many, after each `TOLD`.
        """
        names = folders(self.root) if stage is None else [stage.name]
        found = dict[str, list[str]]()
        for read, (name, damage) in enumerate(damaged(self.root, names), 1):
            if damage:
                found[name] = damage
            if tick and (read % TOLD == 0 or read == len(names)):
                tick(read, len(names))
        return found

    def why(self, stage: Stage) -> str:
        """Why the stage is not done: what differs from the finished stage of its kind that is nearest to it."""
        if self.done(stage):
            return f"{stage.name} is done."
        mine = self._facts(stage)
        others = [read_manifest(self.root / name) for name in self.finished(stage.kind)]
        if not others:
            return f"no {stage.kind} is finished yet."
        far = [(_differences(self._facts_of(other), mine), other) for other in others]
        changed, nearest = min(far, key=lambda pair: (len(pair[0]), pair[1]["key"]))
        more = f" and {len(changed) - 4} more" if len(changed) > 4 else ""
        return f"differs from {nearest['kind']}/{nearest['key']} in {'; '.join(changed[:4])}{more}."

    def _facts(self, stage: Stage) -> dict[str, str]:
        facts = leaves(json.loads(dumps(stage.identity)))
        for name, read in stage.inputs.items():
            facts |= {f"{name}.{fact}": value for fact, value in self._facts(read).items()}
        return facts

    def _facts_of(self, manifest: dict[str, Any]) -> dict[str, str]:
        facts = leaves(manifest["identity"])
        for name, read in manifest["inputs"].items():
            if (self.root / read / MANIFEST).is_file():
                inner = self._facts_of(read_manifest(self.root / read))
                facts |= {f"{name}.{fact}": value for fact, value in inner.items()}
        return facts

    def _lock(self, stage: Stage) -> Path:
        return self.root / ".locks" / stage.name.replace("/", "-")

    def _aside(self, what: str, stage: Stage, lease: Lease | None) -> Path:
        """`.what/KIND-KEY`, under a lease with its name in front."""
        return self.root / f".{what}" / f"{f'{lease.nonce}.' if lease else ''}{stage.name.replace('/', '-')}"

    def _asides(self, what: str, stage: Stage) -> list[Path]:
        """All there are of a stage, the newest first."""
        plain = self._aside(what, stage, None)
        found = [path for path in (plain, *plain.parent.glob(f"*.{plain.name}")) if path.is_dir()]
        return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def leaves(value: Any, name: str = "") -> dict[str, str]:
    """The leaves of nested JSON, as JSON, by dotted name."""
    if isinstance(value, dict) and value:
        inner = [leaves(value[key], f"{name}.{key}" if name else str(key)) for key in value]
        return {key: leaf for part in inner for key, leaf in part.items()}
    return {name: dumps(value)}


def _differences(old: dict[str, str], new: dict[str, str]) -> list[str]:
    def short(text: str | None) -> str:
        return "(none)" if text is None else text if len(text) <= 60 else text[:57] + "..."

    names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    return [f"{name}: {short(old.get(name))} -> {short(new.get(name))}" for name in names]
