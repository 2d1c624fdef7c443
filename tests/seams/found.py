"""What there is of a seam: every file of ours, and every outside file in `tests/outside/SEAM/`."""

from pathlib import Path

from harness.contracts import plugins
from harness.contracts.behind import TESTBEDS, behind
from harness.contracts.testbed_kind import TestbedKind

OUTSIDE = Path(__file__).parents[1] / "outside"
PACKAGES = {"method": "methods", "benchmark": "benchmarks", "family": "harness.families"}


def package(seam: str) -> str:
    """Where a seam's own implementations lie."""
    return PACKAGES.get(seam, f"harness.{seam}s")


def outside(seam: str) -> list[str]:
    """Implementations as a user would give them: the paths of single files."""
    return [str(file) for file in sorted((OUTSIDE / seam).glob("*.py"))]


def found(seam: str) -> list[str]:
    """All of them, by the names that `plugins.plugin(package(seam), name, ...)` takes."""
    return [*plugins.installed(package(seam)), *outside(seam)]


def worlds() -> list[TestbedKind]:
    """What stands behind each kind of testbed, a folder's being an empty word."""
    data = {name: plugins.plugin(TESTBEDS, name, TestbedKind).word for name in plugins.installed(TESTBEDS)}
    return [behind(word) for word in (*data.values(), *outside("testbed"))]
