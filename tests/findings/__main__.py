"""`make findings`: run what is missing, and write docs/findings.md from what is stored.

With bundles or folders of finished comparisons behind it, nothing is run: the page is made from these.
"""

import argparse
from dataclasses import fields
from pathlib import Path

from harness.system.errors import HarnessError
from reports.bundle import write_bundle
from reports.runs import opened
from tests.findings import page, runs
from tests.findings.stored import Stored


def main() -> None:
    """Run, keep as a bundle, and write."""
    asked = argparse.ArgumentParser(prog="python -m tests.findings", description=__doc__)
    asked.add_argument("runs", nargs="*", type=Path, help="bundles or folders to make the page from")
    asked.add_argument("--out", type=Path, default=Path("runs/findings"), help="where comparisons and their bundle lie")
    asked.add_argument("--workers", type=int, default=2, help="stages that run side by side")
    for size in fields(runs.Size):
        asked.add_argument(f"--{size.name}", type=int, default=size.default, help="see tests/findings/runs.py")
    given = asked.parse_args()
    size = runs.Size(**{size.name: getattr(given, size.name) for size in fields(runs.Size)})
    made = given.runs or runs.run(given.out, size, given.workers)
    with opened(made) as found:
        page.written(Stored(found))
        if not given.runs:
            write_bundle(given.out / "findings.zip", found)


if __name__ == "__main__":
    try:
        main()
    except HarnessError as error:
        raise SystemExit(str(error)) from None
