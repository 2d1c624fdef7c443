"""`harness report`: tables, figures and pages of finished comparisons. No model, no judge, no torch.

What a run folder and its store do not have is a dash with a note, never an error; what cannot stand in one table is
refused with the field that differs.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich.console import RenderableType

from harness.contracts import plugins
from harness.contracts.benchmark import Benchmark
from harness.store.store import Store
from harness.system.console import console
from harness.system.errors import UsageError
from harness.system.files import put
from harness.system.machine import seldom_collected
from reports import cards, figures, latex, markdown, plots, spreadsheet, terminal
from reports.artist import artist
from reports.bundle import write_bundle
from reports.crosscheck import crosscheck
from reports.earned import Ran
from reports.facts import row_facts
from reports.files import COMPARISON, write_report
from reports.findings import Findings
from reports.grid import Grid
from reports.layouts import LAYOUTS
from reports.manifest import Asked
from reports.outcomes import Outcome
from reports.page import report_page, side_page, table_page
from reports.paper import Part, paper_table
from reports.runs import Run, join, opened
from reports.sheet import sheet
from reports.tabulate import build

FORMATS: dict[str, Callable[[Grid], str]] = {
    "md": markdown.table,
    "tex": latex.table,
    "csv": spreadsheet.table,
    "html": lambda grid: table_page([grid]),
}
ON_PAGE = {"intervals": "intervals", "2": "cost", "curves": "curves", "lens": "lens", "6": "distribution"}
LARGE = ("intervals", "curves")  # places of the figures with most panels: half of all drawing
FILES = {"2": "figure2", "4": "figure4", "6": "figure6"}
FIGURES = ("2", "4", "5", "6", "lens", "intervals", "curves")
FOLDER = Path("runs/report")


@dataclass(frozen=True)
class Measured:
    """A run with its comparison table and what it was made of; `own` is the table as the comparison itself has it."""

    run: Run
    own: Findings
    findings: Findings
    outcomes: Sequence[Outcome]
    benchmarks: Mapping[str, Benchmark]

    @classmethod
    def of(cls, run: Run) -> "Measured":
        """Computed anew from the stored units; what is not there, or stands there twice, is said in a note."""
        names = {name for part in run.parts or (run,) for name in part.manifest.benchmarks}
        foreign = plugins.foreign("benchmarks", names)
        run = without(run, foreign)
        outcomes, benchmarks = run.outcomes(), run.benchmarks()
        own = build(outcomes, benchmarks, list(run.rows), run.setting, failed=run.failed)
        made = replace(own, rows=tuple(replace(row, label=run.rows.get(row.method, row.label)) for row in own.rows))
        notes = [*run.notes, *gaps(run, made)]
        same = [told for part in run.parts or (run,) if (told := part.manifest.parity)]
        notes += [line for told in same for line in (cards.agreement(told), *cards.flips(told))]
        if any(not part.manifest.finished for part in run.parts or (run,)):
            notes.append("unfinished: not all that was asked is here; the comparison's own command goes on from here")
        notes += [f"not installed here, so left out: {', '.join(sorted(foreign))}"] if foreign else []
        return cls(run, own, replace(made, notes=(*made.notes, *notes)), outcomes, benchmarks)

    @property
    def part(self) -> Part:
        """The run as a part of a paper's table."""
        parts = self.run.parts or (self.run,)
        specs = {row: spec for part in reversed(parts) for row, spec in part.manifest.rows.items()}  # of the first run
        methods = {row: (plugins.stem(spec.name), spec.options) for row, spec in specs.items()}
        ran = [ran_of(part) for part in parts]
        own = {row for row, spec in specs.items() if spec.name.endswith(".py") or retrained(spec, ran)}
        own |= {row for part in parts for row in part.manifest.published}  # whoever trained those, and on what
        data = self.run.manifest.data
        return Part(self.run.name, data, self.findings, self.outcomes, self.benchmarks, methods, ran, own)


def ran_of(run: Run) -> Ran:
    """What one comparison ran, from its manifest and its splits' locks."""
    told = run.manifest
    examples = {facts.lock[1] for facts in row_facts(run) if facts.lock}
    return Ran(told.data, told.architectures, told.setting, told.benchmarks, examples)


def retrained(spec: Asked, ran: Sequence[Ran]) -> bool:
    """Whether a row has training arguments that are not its testbed's."""
    usual = [one.setting.get("methods", {}).get(spec.name, {}) for one in ran if one.setting]
    return any(value != given.get(name) for given in usual for name, value in spec.training.items())


def report(
    given: Sequence[Path], number: int | None, name: str, paper: bool, form: str, out: Path | None, store: Path | None
) -> str:
    """The command: a table, or a figure's files, or without either the comparison's cards; what to print."""
    if form not in ("terminal", *FORMATS):
        raise UsageError(f'no format "{form}"; there are terminal, {", ".join(FORMATS)}.')
    if name:
        return "\n".join(str(file) for file in figure(given, name, out, store))
    if number is not None or not given:
        return show(table(given, number or 1, paper, store), form, out)
    with opened(given, store) as runs:
        measured = Measured.of(join(runs))
        if out:
            out.mkdir(parents=True, exist_ok=True)
            rows = list(measured.run.rows)
            write_report(out, measured.outcomes, measured.benchmarks, rows, measured.run.setting, measured.run.failed)
            pages(measured.run, out, local=False)
        return whole(measured, form)


def bundle(given: Sequence[Path], file: Path, store: Path | None) -> str:
    """Write runs to one archive, from which `report` makes the same tables; what to say."""
    if not given:
        raise UsageError("name the folders of the finished comparisons that go into the bundle.")
    with opened(given, store) as runs:
        write_bundle(file, runs)
        missing = sum(len(run.missing) for run in runs)
    return f"{file}: {len(runs)} runs{f', {missing} cells not scored yet' if missing else ''}"


def second_figures(given: Sequence[Path], store: Path | None) -> str:
    """`--crosscheck`: what lmms-eval's stock tasks make of the same responses, beside our figures."""
    if not given:
        raise UsageError("--crosscheck needs the folder of a comparison: harness report runs/NAME --crosscheck")
    with opened(given, store) as runs:
        run = join(runs)
        return crosscheck(run.outcomes(), run.benchmarks())


def whole(measured: Measured, form: str) -> str:
    """A comparison's own table and its cards, in one format."""
    facts = row_facts(measured.run)
    cards_of = [cards.fairness(facts), cards.profile(facts)]
    if form == "html":
        return table_page([*sheet(measured.findings).grids, *cards_of])
    if form == "terminal":
        first = printed(partial(terminal.comparison, sheet(measured.findings, brief=True)))
    else:
        first = COMPARISON[form](measured.findings)
    return "\n".join([first, *(show(grid, form, None) for grid in cards_of)])


def fitted_table(folder: Path, store: Path, verbose: bool = False, made: Findings | None = None) -> str:
    """The table of a comparison's `table.txt` for the terminal's width; `verbose`: with every note.

    `made`: its table, if it is known already.
    """
    if made is None:
        with seldom_collected(), opened([folder], store) as (run,):
            made = build(run.outcomes(), run.benchmarks(), list(run.rows), run.setting, failed=run.failed)
    return printed(partial(terminal.comparison, sheet(made, brief=not verbose)))


def without(run: Run, names: Collection[str]) -> Run:
    """The run without these benchmarks."""
    kept = {name: given for name, given in run.manifest.benchmarks.items() if name not in names}
    manifest = run.manifest.model_copy(update={"benchmarks": kept})
    cells = tuple(cell for cell in run.cells if cell.benchmark not in names)
    return replace(run, manifest=manifest, cells=cells, parts=tuple(without(part, names) for part in run.parts))


def gaps(run: Run, made: Findings) -> Iterator[str]:
    """Why there are dashes: cells that no run scored yet, and scores that are not defined."""
    told = {(one.row, one.seed, one.benchmark) for one in run.failed}
    missing = {(c.row, c.benchmark) for c in run.missing if (c.row, c.seed, c.benchmark) not in told}
    for row, label in run.rows.items():
        names = sorted(benchmark for of, benchmark in missing if of == row)
        if names:
            yield f"– not scored yet, in one seed at least: {label} on {', '.join(names)}"
    for one in made.rows:
        undefined = [
            column.label
            for column, cell in zip(made.columns, one.cells, strict=True)
            if math.isnan(cell.value) and not cell.withheld and not cell.failed and column.metric != "total"
            if (one.method, column.benchmark) not in missing
        ]
        if undefined:
            yield f"– not defined on these items: {one.label}, {', '.join(undefined)}"


def table(given: Sequence[Path], number: int, paper: bool, store: Path | None = None) -> Grid:
    """Table `number` of the paper from run folders and bundles; without any, the paper's own."""
    if number not in LAYOUTS:
        raise UsageError(f"the paper has no table {number}; it has {', '.join(map(str, LAYOUTS))}.")
    if not given and not paper:
        raise UsageError("name the folder of a finished comparison, or --paper for the paper's own numbers.")
    with opened(given, store) as runs:
        by, blocks = LAYOUTS[number].by, dict[str, list[Run]]()
        for run in runs:
            block = {"data": run.manifest.data, "base": run.manifest.testbed, "": ""}[by]
            blocks.setdefault(block, []).append(run)
        return paper_table(number, [Measured.of(join(block)).part for block in blocks.values()], paper)


def show(grid: Grid, form: str, out: Path | None) -> str:
    """What to print; with `out` every format is written there as well."""
    if out:
        out.mkdir(parents=True, exist_ok=True)
        name = grid.title.partition(":")[0].lower().replace(" ", "")
        for ending, text in FORMATS.items():
            put(out / f"{name}.{ending}", text(grid))
    if form != "terminal":
        return FORMATS[form](grid)
    return printed(lambda width: terminal.table(grid, width))


def printed(text: Callable[[int], RenderableType]) -> str:
    """What a terminal shows of something made for its width; plain elsewhere."""
    shown = console()
    with shown.capture() as captured:
        shown.print(text(shown.width))
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
            drawn = plots.scaling([scale(run) for run in runs])
            beds = ", ".join(dict.fromkeys(run.setting.testbed_in_words for run in runs))
            return draw(folder, FILES[name], drawn, "a group of three benchmarks", beds)
        run = join(runs)
        if name == "5":
            file = folder / "figure5.html"
            file.parent.mkdir(parents=True, exist_ok=True)
            put(file, side_page(run, min(c.seed for c in run.cells), 6))
            return [file]
        return draw(folder, FILES.get(name, name), *drawing(Measured.of(run), name), run.setting.testbed_in_words)


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
    return plots.intervals(measured.findings), "a difference to the baseline"


def scale(run: Run) -> tuple[int, str, Findings, Sequence[Outcome], Mapping[str, Benchmark]]:
    """One run as a point of Figure 4: how many examples it trained on, its data, and its table."""
    measured = Measured.of(run)
    sizes = {facts.lock[1] for facts in row_facts(run) if facts.lock}
    if len(sizes) != 1:
        raise UsageError(
            f"{run.name} has no split.lock in its store, or several sizes: Figure 4 needs one number of examples."
        )
    return sizes.pop(), run.manifest.data, measured.findings, measured.outcomes, measured.benchmarks


def scaling_table(given: Sequence[Path], store: Path | None = None) -> Grid:
    """The numbers of Figure 4: a total per method and number of examples."""
    with opened(given, store) as runs:
        points = sorted((scale(run) for run in runs), key=lambda point: (point[1], point[0]))
    return cards.scaling([(size, data, findings) for size, data, findings, *_ in points])


def draw(folder: Path, name: str, drawn: plots.Draw, needs: str, testbed: str) -> list[Path]:
    """A drawing as SVG, PNG and PDF."""
    if drawn is None:
        raise UsageError(f"{name} needs {needs}, and these runs have none.")
    return save(folder, name, figures.picture(drawn, testbed))


def save(folder: Path, name: str, picture: figures.Picture) -> list[Path]:
    """Write a picture's files."""
    folder.mkdir(parents=True, exist_ok=True)
    forms = {"svg": picture.svg, "png": picture.png, "pdf": picture.pdf}
    files = {folder / f"{name}.{ending}": data for ending, data in forms.items()}
    for file, data in files.items():
        put(file, data)
    return list(files)


def pages(run: Run, out: Path, local: bool = True, beside: bool = False) -> Findings:
    """`report.html`, the cards, and every figure there is something for, into `out`; the run's own table.

    `local`: these files come to lie in the run's own folder, from where the page may point at its store. `beside`: the
    `LARGE` figures are drawn in a process beside this one.
    """
    with artist() if beside else nullcontext() as begun:
        measured, testbed = Measured.of(run), run.setting.testbed_in_words
        shown = {place: (name, draw) for name, place in ON_PAGE.items() if (draw := drawing(measured, name)[0])}
        its = [place for place in LARGE if begun and place in shown]
        later = dict(zip(its, begun([shown[place][1] for place in its], testbed), strict=True)) if begun else {}
        made = {place: figures.picture(draw, testbed) for place, (_, draw) in shown.items() if place not in later}

        def drawn(place: str) -> figures.Picture:
            if place not in made:
                made[place] = later[place]()
            return made[place]

        names = {place: FILES.get(name, name) for place, (name, _) in shown.items()}
        pictures = {place: partial(drawn, place) for place in shown}
        text = report_page(run, measured.findings, measured.outcomes, pictures, [*names.values()], local)
        for place, name in names.items():
            save(out, name, drawn(place))
    put(out / "report.html", text)
    facts = row_facts(run)
    text = "\n".join(markdown.table(grid) for grid in (cards.fairness(facts), cards.profile(facts)))
    put(out / "cards.md", text)
    return measured.own


def tables(out: Path, store: Store) -> None:
    """The tables of a comparison that is not complete, from its manifest and what is in the store."""
    with opened([out], store.root) as (run,):
        write_report(out, run.outcomes(), run.benchmarks(), list(run.rows), run.setting, run.failed)
