"""Writes a comparison's files: every format of the table, and the rows for machines."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from harness.contracts.benchmark import Benchmark
from harness.system.files import put
from harness.system.jsonl import dumps
from reports import latex, markdown, spreadsheet, terminal
from reports.findings import Findings, Setting
from reports.manifest import Failed
from reports.outcomes import Outcome
from reports.results import results_rows
from reports.sheet import sheet
from reports.tabulate import build

WIDTH = 120
COMPARISON: dict[str, Callable[[Findings], str]] = {
    "md": lambda findings: markdown.comparison(sheet(findings)),
    "csv": spreadsheet.comparison,
    "tex": lambda findings: latex.comparison(sheet(findings)),
}


def write_report(
    out: Path,
    outcomes: Sequence[Outcome],
    benchmarks: Mapping[str, Benchmark],
    methods: Sequence[str],
    setting: Setting,
    failed: Sequence[Failed] = (),
) -> None:
    """table.md, .csv, .tex, .txt (plain), .ansi (coloured), .svg (a picture of it) and results.jsonl in `out`."""
    findings = build(outcomes, benchmarks, methods, setting, failed=failed)
    file = io.StringIO()
    console = Console(record=True, width=WIDTH, file=file, force_terminal=False)
    console.print(terminal.comparison(sheet(findings, brief=True), WIDTH))
    put(out / "table.txt", re.sub(r" +$", "", file.getvalue(), flags=re.MULTILINE))
    put(out / "table.svg", console.export_svg(title="harness compare", unique_id="table", clear=False))
    put(out / "table.ansi", console.export_text(styles=True))
    for ending, text in COMPARISON.items():
        put(out / f"table.{ending}", text(findings))
    rows = results_rows(outcomes, benchmarks, setting, failed=failed)
    put(out / "results.jsonl", "".join(dumps(row) + "\n" for row in rows))
