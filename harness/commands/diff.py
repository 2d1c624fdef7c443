"""`harness diff`: how two runs, or two rows, differ in what was asked, in their scores, and item by item."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands import RUNS
from harness.commands.options import Own, StoreOf
from harness.system.console import console, say_json, visible
from harness.system.errors import UsageError

if TYPE_CHECKING:
    from reports.changes import Changes, Side
    from reports.findings import Row
    from reports.runs import Run

FIRST = 3  # ids that are named
MOST = 20  # settings that are named
SHOWN = {"baseline": "the baseline"}  # by a name of its own, for here it is compared as any other row is
# What of a manifest makes a difference, or tells who made the run.
SETTINGS = "harness source python packages testbed synthetic protocol data models setting benchmarks judges split_lock"


def diff(
    one: Annotated[str, typer.Argument(metavar="A", help="A run (name, folder or bundle), or RUN:ROW.")],
    other: Annotated[str, typer.Argument(metavar="B", help="Another, or another row.")],
    root: Annotated[Path, typer.Option("--in", help="The folder that holds the runs.")] = RUNS,
    store: StoreOf = None,
    own: Own = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Tell how two runs, or two rows of runs, differ: settings, scores on the same items, and which items changed.

    Of runs, the rows that both have are compared. Nothing is claimed that their own tables would not claim.
    """
    from harness.contracts.plugins import adopt_files
    from harness.contracts.row_names import CONTROLS
    from reports.changes import Side, changes

    adopt_files("benchmarks", own)
    with ExitStack() as open_runs:
        (first, row), (second, its) = (side(open_runs, word, root, store) for word in (one, other))
        if bool(row) != bool(its):
            raise UsageError(f"{one} and {other}: give a row of both, or of neither.")
        if row != its and {row, its} & {*CONTROLS}:
            raise UsageError(f"{one} and {other}: {' and '.join(CONTROLS)} are controls and no other row's rivals.")
        rows = {f"{row} -> {its}": (row, its)} if row and row != its else {row: (row, its)} if row else {}
        rows = rows or {SHOWN.get(name, name): (name, name) for name in first.rows if name in second.rows}
        if not rows:
            raise UsageError(f"{one} and {other} have no row in common: {told(first)}; {told(second)}. Give RUN:ROW.")
        pairs = {label: (Side(first, a), Side(second, b)) for label, (a, b) in rows.items()}
        differ = [*settings(first, second), *(text for label in pairs for text in of_rows(label, *pairs[label]))]
        both = first.rows.keys() & second.rows.keys()
        only = [f"{run.name}: {told(run, both)}" for run in (first, second) if not row and told(run, both)]
        found = changes(pairs)
    if as_json:
        say_json({"a": one, "b": other, "settings": differ, "only": only, **plain(found)})
        return
    show(one, other, differ, only, found)


def side(stack: ExitStack, word: str, root: Path, store: Path | None) -> tuple["Run", str]:
    """The run that a word names, open as long as the stack is, and the row, if the word names one."""
    from harness.commands.folders import found
    from harness.comparison.run_folder import SIZES
    from harness.contracts import borrowed, plugins
    from reports.report import without
    from reports.runs import opened

    places = [len(word), *(at for at, sign in enumerate(word) if sign == ":")]  # a row's name may have colons too
    at = next((at for at in places if at and any((base / word[:at]).exists() for base in (root, Path()))), len(word))
    path, row = found(word[:at], root), word[at + 1 :]
    if (path / SIZES).is_file():
        raise UsageError(f"{path} has a comparison for each of its sizes; name one of them, e.g. {word[:at]}/250.")
    runs = stack.enter_context(opened([path], store))
    if len(runs) != 1:
        raise UsageError(f"{path} holds {len(runs)} runs; two are compared one with one.")
    foreign = plugins.foreign("benchmarks", runs[0].manifest.benchmarks)
    if foreign:
        typer.echo(f"harness: {runs[0].name}: {borrowed.absent(foreign)}", err=True)
    run = without(runs[0], foreign)
    if row and row not in run.rows:
        raise plugins.unknown(f"row of {word[:at]}", row, list(run.rows))
    return run, row


def told(run: "Run", but: Collection[str] = ()) -> str:
    """The run's rows, without those that are compared."""
    return ", ".join(row for row in run.rows if row not in but)


def settings(one: "Run", other: "Run") -> list[str]:
    """What differs in what the runs were asked and made by, field by field with both values."""
    from reports.runs import other_items

    told = [
        {name: value for top in SETTINGS.split() for name, value in fields(told.get(top), top)}
        for told in (one.manifest.plain(), other.manifest.plain())
    ]
    return [*by_field(*told), *other_items(one, other)]


def of_rows(label: str, one: "Side", other: "Side") -> Iterator[str]:
    """What differs between two rows: their methods, options and training, and what made their policies."""
    from reports.runs import UNNAMED, other_policies

    told = [
        {name: value for name, value in fields(spec, label) if value != ""}
        for each in (one, other)
        for spec in [each.run.manifest.plain()["rows"].get(each.row, {"name": each.row})]
    ]
    yield from (differ := by_field(*told))
    mine, theirs = (called(each, one.row) for each in (one, other))
    yield from (text for text in other_policies(mine, theirs) if not (differ and text.endswith(UNNAMED)))


def called(side: "Side", row: str) -> "Run":
    """The run with the policies of the side's row alone, under another row's name."""
    mine = [made.model_copy(update={"row": row}) for made in side.run.manifest.trained if made.row == side.row]
    return replace(side.run, manifest=side.run.manifest.model_copy(update={"trained": mine}))


def by_field(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """`reports.runs.differences` of flat fields; what only one has is not set in the other."""
    from reports.runs import differences

    names = list(dict.fromkeys([*one, *other]))
    mine, theirs = ({**dict.fromkeys(names, "not set"), **known} for known in (one, other))
    return differences(mine, theirs, names, ())


def fields(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The leaves of nested fields by dotted name."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from fields(inner, f"{name}.{key}")
    else:
        yield name, value


def plain(found: "Changes") -> dict[str, Any]:
    """Every figure, for machines; null where there is none."""
    findings, rows = found.findings, []
    for row in findings.rows:
        for column, cell in zip(findings.columns, row.cells, strict=True):
            figures = {"a": found.before.get((row.method, column.metric)), "b": cell.value, "difference": cell.delta}
            figures |= {"low": cell.low, "high": cell.high, "p_holm": cell.p_holm}
            known: dict[str, Any] = {"row": row.label, "benchmark": column.benchmark, "metric": column.metric}
            known |= {name: None if value is None or value != value else value for name, value in figures.items()}
            known |= {"resolved": cell.resolved, "n": cell.n, "why": found.why.get((row.method, column.benchmark), "")}
            if not column.beside and (moved := found.moved.get((row.method, column.benchmark))):
                known |= {"better": list(moved.better), "worse": list(moved.worse), "right_or_wrong": moved.right}
            rows.append(known)
    setting = {"testbed": findings.setting.testbed, "synthetic": findings.setting.synthetic}
    return {**setting, "changes": rows, "notes": list(findings.notes)}


def show(one: str, other: str, differ: Sequence[str], only: Sequence[str], found: "Changes") -> None:
    """Print what differs: settings first, then each row's figures and items."""
    typer.echo(f"A  {visible(one)}\nB  {visible(other)}\n\nsettings" + ("" if differ else ": no difference found"))
    for text in differ[:MOST]:
        typer.echo(f"  {visible(text)}")
    if len(differ) > MOST:
        typer.echo(f"  and {len(differ) - MOST} more: --json has them all")
    for text in only:
        typer.echo(f"rows of one alone, not compared: {visible(text)}")
    typer.echo("")
    shown = console()
    for part in (*grids(found), *(verdict(found) if any(row.seeds for row in found.findings.rows) else ())):
        shown.print(part, highlight=False)


def grids(found: "Changes") -> Iterator[Any]:
    """A table of figures and a list of items for each row, made for the terminal's width."""
    from rich.text import Text

    from reports.grid import Entry, Grid, Head, Line
    from reports.terminal import table

    width = console().width
    for row in found.findings.rows:
        lines, items = [], list[str]()
        if said := in_one_line(row, found):
            yield Text(f"{visible(row.label)}: {said}\n")
            continue
        for column, cell in zip(found.findings.columns, row.cells, strict=True):
            at = row.method, column.benchmark
            name = f"  {column.label}" if column.beside else column.label + " ↓" * column.lower
            if at in found.why:
                items += [f"{column.label} is not compared: {found.why[at]}"] * (not column.beside)
                continue
            mark = column.outcome(cell)
            entry = Entry(cell.value, column.digits, delta=cell.delta, low=cell.low, high=cell.high, mark=mark)
            before = Entry(found.before[row.method, column.metric], column.digits)
            lines.append(Line((name,), (before, entry, Entry(text=cell.verdict or "not tested"))))
            if not column.beside:
                items.append(f"{column.label}: {changed(found.moved[at])}")
        heads = (Head("A"), Head("B, B - A"), Head("verdict"))
        yield table(Grid(row.label, ("",), heads, tuple(lines), tuple(items), spans="beside"), width)
        yield ""


def in_one_line(row: "Row", found: "Changes") -> str:
    """What there is to say of a row that needs no table; empty where it needs one."""
    whys = {why for (of, _), why in found.why.items() if of == row.method}
    if not row.seeds:
        return visible(f"not compared: {'; '.join(sorted(whys))}")
    stirred = any(moved.better or moved.worse for (of, _), moved in found.moved.items() if of == row.method)
    same = not whys and not stirred and not any(cell.delta for cell in row.cells)
    return "the same scores on every item that both have" if same else ""


def changed(moved: Any) -> str:
    """How many items came out otherwise, and the first ids."""
    words = ("flipped to right", "flipped to wrong") if moved.right else ("better", "worse")
    said = []
    for word, ids in zip(words, (moved.better, moved.worse), strict=True):
        named = ", ".join(ids[:FIRST]) + (", ..." if ids[FIRST:] else "")
        said.append(f"{len(ids)} {word}" + (f" ({named})" if ids else ""))
    return "; ".join(said)


def verdict(found: "Changes") -> Iterator[str]:
    """What each row's differences come to, how far to trust them, and the notes of the table."""
    from reports.verdict import trust, verdicts

    told = {row.method for row in found.findings.rows if not in_one_line(row, found)}
    for one in verdicts(found.findings):
        if one.method in told:
            yield f"{one.label}, B against A: {'; '.join(words for _, words in one.parts)}"
    for number, sentence in enumerate(trust(found.findings)):
        yield f"{'trust: ' if not number else '       '}{sentence}"
    yield ""
    yield from found.findings.notes
