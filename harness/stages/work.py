"""What a stage's body is handed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import plugins
from harness.config import Runtime, Testbed
from harness.images import Places
from harness.profile import Tick
from harness.steps import Request, Step
from harness.store import Store


@dataclass(frozen=True)
class Work:
    """One step under way: `out` is the folder to fill, `tick` is told how far it has come."""

    step: Step
    out: Path
    tick: Tick
    store: Store
    testbed: Testbed
    request: Request
    runtime: Runtime

    @property
    def what(self) -> Mapping[str, Any]:
        """The stage's identity."""
        return self.step.stage.identity

    @property
    def places(self) -> Places:
        """Where stored image paths start from: the store, the testbed's data, and the images of a user's file."""
        bed, own = self.testbed.data, Path(self.request.data).expanduser()
        images = Path(self.request.images).expanduser() if self.request.images else None
        if images is None and self.request.data not in plugins.names("harness.data"):
            images = own if own.is_dir() else own.parent  # as `harness.data.local.places`
        return Places(
            self.store.root, None if bed == "generated" else Path(bed).absolute(), images.absolute() if images else None
        )

    def folder(self, name: str) -> Path:
        """The finished stage that the step reads under this name; HarnessError where it is not what was stored."""
        return self.store.sound(self.step.reads[name].name)
