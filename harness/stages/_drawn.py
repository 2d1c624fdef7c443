"""Stages about images that the embedded world may have drawn."""

from dataclasses import dataclass
from pathlib import Path

from harness.contracts.stage import Kind
from harness.store.store import Stage
from harness.system.errors import HarnessError


@dataclass(frozen=True, kw_only=True)
class Drawn(Kind.Reads):
    """What a split or items read: the files that the embedded world drew for them; None where these are others'."""

    data: Stage | None = None


def changed(*places: Path) -> HarnessError:
    """The error for files that are not those which the stage's key has: read, they would lie under the wrong one.

    Of several places it is one that has changed.
    """
    which = " or ".join(map(str, places))
    return HarnessError(f"{which} has changed since this comparison began; the same command again reads it anew.")
