"""Writes a comparison's files: every format of the table, and the rows for machines."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from harness.benchmark import Benchmark
from harness.types import write_jsonl
from reports import render
from reports.outcomes import Failed, Outcome
from reports.results import results_rows
from reports.table import Setting
from reports.tabulate import build

WIDTH = 120


def write_report(
    out: Path,
    outcomes: Sequence[Outcome],
    benchmarks: Mapping[str, Benchmark],
    methods: Sequence[str],
    setting: Setting,
    failed: Sequence[Failed] = (),
) -> None:
    """table.md, .csv, .tex, .txt (plain), .ansi (coloured), .svg (a picture of it) and results.jsonl in `out`."""
    table = build(outcomes, benchmarks, methods, setting, failed=failed)
    with (out / "table.txt").open("w", encoding="utf-8") as file:
        console = Console(record=True, width=WIDTH, file=file, force_terminal=False)
        console.print(render.terminal(table, WIDTH))
    console.save_svg(str(out / "table.svg"), title="harness compare", unique_id="table", clear=False)
    (out / "table.ansi").write_text(console.export_text(styles=True), encoding="utf-8")
    for ending, text in (("md", render.markdown), ("csv", render.comma_separated), ("tex", render.latex)):
        (out / f"table.{ending}").write_text(text(table), encoding="utf-8", newline="\n")
    write_jsonl(out / "results.jsonl", results_rows(outcomes, benchmarks, setting, failed=failed))
