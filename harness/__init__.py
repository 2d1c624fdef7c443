"""The instrument: one comparison of alignment methods, from split to table.

`methods`, `benchmarks` and `reports` are names that others give their folders too. Once this package is imported they
are ours, whatever else lies on the path.
"""

import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

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
