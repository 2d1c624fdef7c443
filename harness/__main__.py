"""`python -m harness`, as the installed command: a `random.py` in the current folder is no module of anybody's here."""

import sys
from pathlib import Path

if not sys.flags.safe_path and Path(sys.path[0]).resolve() != Path(__file__).resolve().parents[1]:
    del sys.path[0]  # where -m has the current folder; a checkout of ours is found there

from harness.cli import main

if __name__ == "__main__":
    main()
