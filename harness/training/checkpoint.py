"""Resumable training state that survives a kill at any instant and a damaged disk.

Every rank writes its part into a staging folder; then rank 0 writes a manifest of all digests, last, and renames. Only
a folder whose manifest verifies is ever loaded (DeepSpeed's files are pickles), newest first.
"""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from harness.store.digest import file_digest
from harness.store.store import failpoint, sync

KEPT = 2
STATE = "state"
log = logging.getLogger(__name__)


class State(NamedTuple):
    """A state that verifies: its folder, and the step after which it was written, as its manifest has it."""

    folder: Path
    step: int


class Checkpoints:
    """The states of one training under `folder`; `identity` is what must not have changed since one was written."""

    def __init__(self, folder: Path, identity: str, rank: int, barrier: Callable[[], None]) -> None:
        self.folder = folder
        self.rejected: list[str] = []
        self._identity = identity
        self._rank = rank
        self._barrier = barrier

    def save(self, engine: Any, step: int, state: dict[str, Any]) -> None:
        """Write the state after `step`; every rank must call. All but the last two states up to it go."""
        staging = self.folder / "staging"
        if self._rank == 0:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
        self._barrier()
        failpoint("engine.checkpoint")
        # frozen weights are in the model folder already, and for adapters they are nearly all there is
        engine.save_checkpoint(str(staging), STATE, state, save_latest=False, exclude_frozen_parameters=True)
        self._barrier()
        if self._rank == 0:
            self._publish(staging, step)
        self._barrier()

    def _publish(self, staging: Path, step: int) -> None:
        files = sorted(path for path in staging.rglob("*") if path.is_file())
        digests = {path.relative_to(staging).as_posix(): file_digest(path) for path in files}
        for path in files:
            sync(path)
        failpoint("engine.manifest")
        manifest = staging / "manifest.json"
        manifest.write_text(json.dumps({"step": step, "identity": self._identity, "files": digests}), encoding="utf-8")
        sync(manifest)
        final = self.folder / _name(step)
        shutil.rmtree(final, ignore_errors=True)
        failpoint("engine.rename")
        staging.rename(final)
        sync(self.folder)
        there = self._found()
        later = [folder for folder in there if folder.name > final.name]  # of a training that was cut otherwise
        for old in [*later, *there[len(later) + KEPT :]]:
            shutil.rmtree(old, ignore_errors=True)

    def newest(self) -> State | None:
        """The newest state that verifies; what was passed over is in `rejected`, with the reason."""
        for folder in self._found():
            verdict = self._verified(folder)
            if isinstance(verdict, int):
                return State(folder, verdict)
            self.rejected.append(f"{folder.name}: {verdict}")
            log.warning("checkpoint %s is not used: %s", folder, verdict)
        return None

    def _found(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"), reverse=True)

    def _verified(self, folder: Path) -> int | str:
        """The step of a state, or why it cannot be used."""
        try:
            manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            if manifest["identity"] != self._identity:
                return "it belongs to another training"
            for name, digest in manifest["files"].items():
                if file_digest(folder / name) != digest:
                    return f"{name} is damaged"
            if folder.name != _name(manifest["step"]):
                return "it is not of the step that its name says"
            return int(manifest["step"])
        except FileNotFoundError as error:
            return f"{Path(error.filename).name} is missing"
        except (OSError, ValueError, KeyError, TypeError):
            return "its manifest cannot be read"


def _name(step: int) -> str:
    return f"step-{step:08d}"


def load(engine: Any, folder: Path) -> dict[str, Any]:
    """Put a verified state into the engine; returns what was saved with it. Every rank must call."""
    path, state = engine.load_checkpoint(str(folder), STATE, load_module_strict=False)
    assert path is not None, "a verified checkpoint holds a state"
    return dict(state)
