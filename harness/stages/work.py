"""What a stage's body is handed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config import Runtime, Testbed
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

    def folder(self, name: str) -> Path:
        """The finished stage that the step reads under this name; HarnessError where it is not what was stored."""
        return self.store.sound(self.step.reads[name].name)
