"""Stages about images that the embedded world may have drawn."""

from dataclasses import dataclass

from harness.contracts.stage import Kind
from harness.store.store import Stage


@dataclass(frozen=True, kw_only=True)
class Drawn(Kind.Reads):
    """What a split or items read: the files that the embedded world drew for them; None where these are others'."""

    data: Stage | None = None
