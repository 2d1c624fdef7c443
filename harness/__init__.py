"""Compare alignment methods for vision-language models: one split, one loop, one scorer, one table.

    done = harness.compare("nsft,dpo", data="llava150k")
    done.table()

`compare` runs a comparison, `load` opens a finished one; both give a `Comparison`. Importing this imports no torch.

`methods`, `benchmarks` and `reports` are names that others give their folders too. Once this package is imported they
are ours, whatever else lies on the path.
"""

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.comparison.face import Comparison, compare, load

__all__ = ["Comparison", "compare", "load"]

__version__ = "0.1.0"

ROOMS = ("methods", "benchmarks", "reports")
_inside = Path(__file__).parent / "_rooms"  # where a wheel has them, so that none is installed under its bare name
HOME = _inside if _inside.is_dir() else Path(__file__).parents[1]


class _Ours:
    """Finds the packages of `ROOMS` where ours are, before anybody else is asked for them."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The package of ours; None for any other name."""
        return PathFinder.find_spec(name, [str(HOME)]) if name in ROOMS else None


for _there in filter(None, map(sys.modules.get, ROOMS)):
    if not any(Path(place).resolve().parent == HOME.resolve() for place in getattr(_there, "__path__", ())):
        raise ImportError(f"{_there} has the name of a package of ours; import harness before it.")
sys.meta_path.insert(0, _Ours)


def __getattr__(name: str) -> Any:
    """The public face, imported when it is asked for."""
    if name not in __all__:
        raise AttributeError(f"module harness has no attribute {name}")
    return getattr(import_module("harness.comparison.face"), name)
