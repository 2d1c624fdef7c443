"""Finished comparisons as reports read them: a folder of `harness compare`, or a bundle; one by one, or joined.

A run is its manifest and, in a store, the stages that the manifest names. What is not in the store is a missing cell,
never an error; what is there is read only if its digest is the one that its stage's manifest has.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness.contracts import borrowed, plugins
from harness.contracts.benchmark import Benchmark
from harness.contracts.row_names import BASELINE
from harness.store.digest import file_digest
from harness.store.store import MANIFEST, Store
from harness.system.errors import UsageError
from harness.system.jsonl import dumps
from harness.system.untrusted import json_object
from reports.archive import is_bundle, unpack
from reports.findings import Setting
from reports.manifest import PROFILE, Failed, Manifest, Shared, checked
from reports.outcomes import Outcome, read_judged, read_second, read_units

UNITS, SECOND, JUDGE = "units.json", "crosscheck.jsonl", "judge.json"
SHARED = ("testbed", "synthetic", "protocol", "data")  # fields of a manifest that runs in one table have in common
UNNAMED = "its stages"  # differ, and what made them does not tell how
BY_NAME = ("split_lock", "models", "judges", "benchmarks")  # the same, by split, seed or benchmark, where both have it


@dataclass(frozen=True, slots=True)
class StoredCell:
    """One cell of a table and where its stages lie; stages are `kind/key` in `store`, "" where there is none."""

    row: str
    label: str
    seed: int
    benchmark: str
    score: str
    responses: str
    items: str
    store: Path
    crosscheck: str = ""
    data: Path | None = None
    """The folder of the testbed's official files, where its pictures lie."""

    @property
    def done(self) -> bool:
        """Whether its scores are in the store."""
        return (self.store / self.score / MANIFEST).is_file()

    def outcome(self) -> Outcome:
        """Its scores; HarnessError where they are not those that were stored."""
        units, unscored = read_units(self.file(self.score, UNITS))
        second = self.file(self.crosscheck, SECOND) if self.crosscheck else Path()
        opinions = read_second(second) if second.is_file() else {}  # a bundle of units alone has no such file
        runs, judge = read_judged(self.file(self.score, JUDGE))
        key = Path(self.score).name
        return Outcome(self.row, self.label, self.seed, self.benchmark, units, unscored, key, runs, opinions, judge)

    def file(self, stage: str, name: str) -> Path:
        """A stage's file, if there is one; HarnessError where it is not what was stored."""
        path = self.store / stage / name
        return Store(self.store).file(stage, name) if path.is_file() else path


@dataclass(frozen=True)
class Run:
    """One comparison, or several joined: `parts`. `manifest` is the first one's, `notes` must stand under a table."""

    name: str
    folder: Path
    store: Path
    manifest: Manifest
    cells: tuple[StoredCell, ...]
    notes: tuple[str, ...] = ()
    parts: "tuple[Run, ...]" = ()

    @property
    def rows(self) -> dict[str, str]:
        """Row -> label, the baseline first, in the order of the command."""
        return {cell.row: cell.label for cell in self.cells}

    @property
    def setting(self) -> Setting:
        """What all rows share."""
        parts = self.parts or (self,)
        models = {seed: dumps(model) for part in parts for seed, model in part.manifest.models.items()}
        silent = [part for part in parts if part.manifest.trained and "shared" not in part.manifest.model_fields_set]
        shared = dict[str, Shared]()
        for name, one in (told for part in parts for told in part.manifest.shared.items()):
            if one.found or not silent:  # an earlier version's run does not know that there are none
                shared[name] = max(shared.get(name, one), one, key=lambda one: one.found)  # more seeds share more
        return Setting(self.manifest.testbed, self.manifest.protocol, self.manifest.synthetic, models, shared)

    @property
    def failed(self) -> list[Failed]:
        """What failed when the run ended, as far as it is not scored now."""
        parts = self.parts or (self,)
        told = [
            one.model_copy(update=dict(zip(("row", "label"), names.get(one.row, (one.row, one.label)), strict=True)))
            for part, names in zip(parts, named(parts), strict=True)
            for one in part.manifest.failed
        ]
        missing = {(cell.row, cell.seed, cell.benchmark) for cell in self.missing}
        cells = {(cell.row, cell.seed, cell.benchmark) for cell in self.cells}
        return [one for one in told if (at := (one.row, one.seed, one.benchmark)) in missing or at not in cells]

    @property
    def missing(self) -> list[StoredCell]:
        """The cells whose scores are not in the store."""
        return [cell for cell in self.cells if not cell.done]

    def profile(self) -> dict[str, Any]:
        """What its stages took; without stages where the run did not finish."""
        file = self.folder / "profile.json"
        found: dict[str, Any] = checked(PROFILE, json_object(file), file) if os.path.lexists(file) else {}
        return {"stages": [], **found}

    def outcomes(self) -> list[Outcome]:
        """What was scored, cell by cell."""
        return [cell.outcome() for cell in self.cells if cell.done]

    def benchmarks(self) -> dict[str, Benchmark]:
        """The benchmarks by name, with the options they had; only installed ones, for a bundle may come from anyone.

        UsageError for one that is not, and for a file of the user's that is not the one whose scores these are.
        """
        parts = self.parts or (self,)
        options = {name: given for part in parts for name, given in part.manifest.benchmarks.items()}
        own = {name: digest for part in parts for name, digest in part.manifest.own.items()}
        foreign = plugins.foreign("benchmarks", options)
        for name in options:
            if name in foreign and name in own:
                raise UsageError(f"{self.name} has the benchmark {name} of a file; name it, --benchmarks {name}.py.")
            if name in foreign:
                borrowed.insist("benchmarks", name)
                raise plugins.unknown("benchmark", name, plugins.names("benchmarks"))
            if name in own and file_digest(plugins.source("benchmarks", name)) != own[name]:
                raise UsageError(
                    f"{plugins.source('benchmarks', name)} is not the file that {self.name} was scored by; name that "
                    "one, or give the comparison's command again."
                )
        return {name: plugins.make("benchmarks", name, Benchmark, given) for name, given in options.items()}


@contextmanager
def opened(given: Sequence[Path], store: Path | None = None) -> Iterator[list[Run]]:
    """The runs in folders and bundles, readable while the context is open.

    `store` is for folders; by default the one their manifest names. UsageError for what is neither.
    """
    with TemporaryDirectory(prefix="harness-") as scratch:
        runs: list[Run] = []
        for number, path in enumerate(given):
            if path.is_dir():
                runs.append(_load(path, str(path), store))
            elif is_bundle(path):
                home = Path(scratch) / str(number)
                unpack(path, home)
                runs += [_load(f, f"{path}, {f.name}", home / "store") for f in sorted((home / "runs").iterdir())]
            else:
                raise UsageError(f"{path} is neither a folder of `harness compare` nor a bundle of `harness report`.")
        yield runs


def _load(folder: Path, name: str, store: Path | None) -> Run:
    """A run's folder; UsageError where its manifest is missing or not one."""
    file = folder / MANIFEST
    if not os.path.lexists(file):
        raise UsageError(f"{file}: No such file; is {folder} a folder that `harness compare` wrote?")
    manifest = Manifest.read(file)
    root = store or folder / manifest.store
    home = Path(manifest.folder) if manifest.folder else None
    cells = tuple(StoredCell(**cell.model_dump(), store=root, data=home) for cell in manifest.cells)
    if not root.is_dir():
        raise UsageError(f"{folder}: its store {root} is not there; say with --store where it is.")
    return Run(name, folder, root, manifest, cells)


def join(runs: Sequence[Run]) -> Run:
    """One run with the rows of all. UsageError that says which field differs where they cannot stand in one table.

    A row that several runs have becomes one where they trained the same policy; otherwise the later one is a row of
    its own, with its run in the label and a note.
    """
    first, *others = runs
    if not others:
        return first
    cells = {(cell.row, cell.seed, cell.benchmark): cell for cell in first.cells}
    notes, known, made = list(first.notes), {*first.rows}, [first]
    for run, names in zip(others, named(runs)[1:], strict=True):
        for earlier in made:
            _refuse(earlier, run)
        for row, (name, shown) in names.items():
            if name not in known and name != row:
                notes.append(
                    f"two runs of {run.rows[row]} that differ in options, training, weights or code: {shown} is of "
                    f"{run.name}"
                )
            known.add(name)
            for cell in (cell for cell in run.cells if cell.row == row):
                before = cells.get((name, cell.seed, cell.benchmark))
                if before is None or (cell.done and not before.done):
                    cells[name, cell.seed, cell.benchmark] = replace(cell, row=name, label=shown)
        made.append(run)
    order = {row: None for row, *_ in cells}
    ordered = (cell for row in order for key, cell in cells.items() if key[0] == row)
    name = " + ".join(run.name for run in runs)
    return Run(name, first.folder, first.store, first.manifest, tuple(ordered), tuple(notes), tuple(runs))


def named(runs: Sequence[Run]) -> list[dict[str, tuple[str, str]]]:
    """Of each run its rows with the name and the label that they have where all of these runs are joined."""
    known: dict[str, dict[str, tuple[str, list[dict[str, str]]]]] = {}  # row -> its names -> label, policies
    found = []
    for number, run in enumerate(runs, 1):
        names = dict[str, tuple[str, str]]()
        for row, label in run.rows.items():
            mine, policy = known.setdefault(row, {}), _policy(run, row)
            name = next((name for name, (_, its) in mine.items() if all(_agree(one, policy) for one in its)), "")
            if not name and mine:
                name, label = f"{row}#{number}", f"{label} ({Path(run.name).name})"
                if label in {taken for taken, _ in mine.values()}:
                    label = f"{label[:-1]}, {number})"
            shown, policies = mine.setdefault(name or row, (label, []))
            policies.append(policy)
            names[row] = name or row, shown
        found.append(names)
    return found


def _policy(run: Run, row: str) -> dict[str, str]:
    """What made a row: its options, its weights where others trained it, by seed the last stage of its training."""
    trained = {str(made.seed): made.stages[-1] for made in run.manifest.trained if made.row == row}
    published = run.manifest.published.get(row, "")
    return {"options": dumps(run.manifest.plain()["rows"].get(row)), "published": published, **trained}


def _agree(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one[name] == other[name] for name in one.keys() & other.keys())


def _refuse(one: Run, other: Run) -> None:
    """UsageError where a field that rows of one table share is not the same."""
    found = differences(one.manifest.plain(), other.manifest.plain())
    found = found or list(_seeds(one, other)) or list(_baselines(one, other))
    if found:
        raise UsageError(
            f"{one.name} and {other.name} cannot stand in one table, for they differ in {'; '.join(found[:5])}. "
            "Report them one by one, or compare their methods in one `harness compare`."
        )


def differences(
    one: Mapping[str, Any], other: Mapping[str, Any], whole: Sequence[str] = SHARED, by_name: Sequence[str] = BY_NAME
) -> list[str]:
    """The fields in which two manifests differ, with both values; of a field with names, those that both have."""
    fields = [(name, one.get(name), other.get(name)) for name in whole]
    for name in by_name:
        mine, theirs = one.get(name), other.get(name)
        if isinstance(mine, dict) and isinstance(theirs, dict):
            fields += [(f"{name} ({of})", mine[of], theirs[of]) for of in mine if of in theirs]
        else:
            fields.append((name, mine, theirs))
    return [f"{name}: {_short(mine)} and {_short(theirs)}" for name, mine, theirs in fields if mine != theirs]


def _seeds(one: Run, other: Run) -> Iterator[str]:
    """Where rows would be means over other base models and splits; one method's further seeds are no other row."""
    mine, theirs = (sorted({cell.seed for cell in run.cells}) for run in (one, other))
    if mine != theirs and one.rows.keys() != other.rows.keys():
        yield f"seeds: {mine} and {theirs}"


def _baselines(one: Run, other: Run) -> Iterator[str]:
    """Where two runs' baselines differ: the benchmark and what differs in what made it."""
    theirs = {(cell.seed, cell.benchmark): cell for cell in other.cells if cell.row == BASELINE}
    for cell in one.cells:
        twin = theirs.get((cell.seed, cell.benchmark))
        if cell.row == BASELINE and twin and cell.score != twin.score:
            changed = _changed((one.store, cell.score), (other.store, twin.score))
            yield f"baseline ({cell.benchmark}, seed {cell.seed}): {changed}"


def other_policies(one: Run, other: Run) -> Iterator[str]:
    """Where two runs trained different policies for one row and seed, and what differs in what made them."""
    theirs = {(made.row, made.seed): made.stages[-1] for made in other.manifest.trained}
    for made in one.manifest.trained:
        mine, its = made.stages[-1], theirs.get((made.row, made.seed))
        if its and its != mine:
            changed = _changed((one.store, mine), (other.store, its))
            yield f"policy ({one.rows[made.row]}, seed {made.seed}): {changed}"


def other_items(one: Run, other: Run) -> Iterator[str]:
    """Where two runs asked other items, and what differs in what made them."""
    theirs = {cell.benchmark: cell for cell in other.cells}
    for name, cell in {cell.benchmark: cell for cell in one.cells}.items():
        its = theirs.get(name)
        if its and its.items != cell.items:
            yield f"items ({name}): {_changed((one.store, cell.items), (other.store, its.items))}"


def _changed(mine: tuple[Path, str], its: tuple[Path, str]) -> str:
    """The names of the first facts that differ between what made two stages."""
    there = [(Store(store), name, (store / name / MANIFEST).is_file()) for store, name in (mine, its)]
    facts = [store.facts(name) if done else dict[str, str]() for store, name, done in there]
    both = facts[0].keys() & facts[1].keys()  # a bundle does not hold every stage that a store does
    names = sorted(name for name in both if facts[0][name] != facts[1][name])
    return ", ".join(names[:3]) + (", ..." if names[3:] else "") or UNNAMED


def _short(value: object) -> str:
    text = dumps(value)
    return text if len(text) <= 24 else f"{text[:20]}..."
