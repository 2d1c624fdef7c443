"""Commands with a file each; `harness.cli` registers them."""

from pathlib import Path

RUNS = Path("runs")  # where comparisons lie unless they were told otherwise
