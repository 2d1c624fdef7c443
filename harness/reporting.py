"""`harness report`: tables, figures and pages of finished comparisons. No model, no judge, no torch.

What a run folder and its store do not have is a dash with a note, never an error; what cannot stand in one table is
refused with the field that differs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from harness import plugins
from harness.benchmark import Benchmark
from harness.types import UsageError
from reports import figures, plots, render
from reports.facts import row_facts
from reports.grid import Grid
from reports.layouts import LAYOUTS
from reports.outcomes import Outcome
from reports.page import report_page, side_page, table_page
from reports.paper import Part, paper_table
from reports.runs import Run, join, opened
from reports.table import Table, build

Format = Literal["terminal", "md", "tex", "csv", "html"]
FORMATS: dict[str, Callable[[Grid], str]] = {
    "md": render.grid_markdown,
    "tex": render.grid_latex,
    "csv": render.grid_csv,
    "html": lambda grid: table_page([grid]),
}
FIGURES = ("2", "4", "5", "6", "lens", "intervals", "curves")
FOLDER = Path("runs/report")


@dataclass(frozen=True)
class Measured:
    """A run with its comparison table and what it was made of."""

    run: Run
    table: Table
    outcomes: Sequence[Outcome]
    benchmarks: Mapping[str, Benchmark]

    @classmethod
    def of(cls, run: Run) -> "Measured":
        """Computed anew from the stored units."""
        outcomes, benchmarks = run.outcomes(), run.benchmarks()
        return cls(run, build(outcomes, benchmarks, list(run.rows), run.setting), outcomes, benchmarks)

    @property
    def part(self) -> Part:
        """The run as a part of a paper's table."""
        specs: dict[str, Any] = {
            row: spec for part in self.run.parts or (self.run,) for row, spec in part.manifest["rows"].items()
        }
        methods = {row: (plugins.stem(spec["name"]), spec["options"]) for row, spec in specs.items()}
        return Part(self.run.name, self.run.manifest["data"], self.table, self.outcomes, self.benchmarks, methods)


def table(given: Sequence[Path], number: int, paper: bool, store: Path | None = None) -> Grid:
    """Table `number` of the paper from run folders and bundles; without any, the paper's own."""
    if number not in LAYOUTS:
        raise UsageError(f"the paper has no table {number}; it has {', '.join(map(str, LAYOUTS))}.")
    if not given and not paper:
        raise UsageError("name the folder of a finished comparison, or --paper for the paper's own numbers.")
    with opened(given, store) as runs:
        by = {"data": "data", "base": "testbed", "": ""}[LAYOUTS[number].by]
        blocks: dict[str, list[Run]] = {}
        for run in runs:
            blocks.setdefault(run.manifest[by] if by else "", []).append(run)
        return paper_table(number, [Measured.of(join(block)).part for block in blocks.values()], paper)


def show(grid: Grid, form: Format, out: Path | None) -> str:
    """What to print; with `out` every format is written there as well."""
    if out:
        out.mkdir(parents=True, exist_ok=True)
        name = grid.title.partition(":")[0].lower().replace(" ", "")
        for ending, text in FORMATS.items():
            (out / f"{name}.{ending}").write_text(text(grid), encoding="utf-8", newline="\n")
    if form != "terminal":
        return FORMATS[form](grid)
    console = Console()
    with console.capture() as captured:
        console.print(render.grid_terminal(grid, console.width))
    return captured.get()


def figure(given: Sequence[Path], name: str, out: Path | None, store: Path | None = None) -> list[Path]:
    """Draw a figure of the runs into `out` (the run's own folder by default); the files written."""
    if name not in FIGURES:
        raise UsageError(f'no figure "{name}"; there are {", ".join(FIGURES)}.')
    if not given:
        raise UsageError("name the folder of a finished comparison.")
    with opened(given, store) as runs:
        folder = out or (given[0] if given[0].is_dir() else FOLDER)
        if name == "4":
            return draw(
                folder, "figure4", plots.scaling([scale(run) for run in runs]), "a total at some number of examples"
            )
        run = join(runs)
        if name == "5":
            file = folder / "figure5.html"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(side_page(run, min(c.seed for c in run.cells), 6), encoding="utf-8", newline="\n")
            return [file]
        return draw(folder, f"figure{name}" if name.isdigit() else name, *drawing(Measured.of(run), name))


def drawing(measured: Measured, name: str) -> tuple[plots.Draw, str]:
    """The drawing of a figure of one run, and what it needs."""
    facts = row_facts(measured.run)
    if name == "2":
        return plots.cost(facts), "a trained method"
    if name == "6":
        return plots.distribution(measured.outcomes, measured.benchmarks), "a judged benchmark"
    if name == "lens":
        return plots.lens(facts), "a method that trains on pairs"
    if name == "curves":
        return plots.curves(facts), "a training's log"
    return plots.intervals(measured.table), "a difference to the baseline"


def scale(run: Run) -> tuple[int, str, Table, Sequence[Outcome], Mapping[str, Benchmark]]:
    """One run as a point of Figure 4: how many examples it trained on, its data, and its table."""
    measured = Measured.of(run)
    sizes = {facts.lock[1] for facts in row_facts(run) if facts.lock}
    if len(sizes) != 1:
        raise UsageError(
            f"{run.name} has no split.lock in its store, or several sizes: Figure 4 needs one number of examples."
        )
    return sizes.pop(), run.manifest["data"], measured.table, measured.outcomes, measured.benchmarks


def draw(folder: Path, name: str, drawn: plots.Draw, needs: str) -> list[Path]:
    """A drawing as SVG and PNG."""
    if drawn is None:
        raise UsageError(f"{name} needs {needs}, and these runs have none.")
    folder.mkdir(parents=True, exist_ok=True)
    files = {folder / f"{name}.svg": figures.svg(drawn), folder / f"{name}.png": figures.png(drawn)}
    for file, data in files.items():
        file.write_bytes(data)
    return list(files)


def pages(run: Run, out: Path) -> None:
    """`report.html`, `cards.md` and every figure there is something for, into `out`."""
    measured = Measured.of(run)
    (out / "report.html").write_text(report_page(run, measured.table), encoding="utf-8", newline="\n")
    for name, stem in {"2": "figure2", "6": "figure6"}.items() | {(n, n) for n in ("lens", "intervals", "curves")}:
        drawn, needs = drawing(measured, name)
        if drawn:
            draw(out, stem, drawn, needs)
