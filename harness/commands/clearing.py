"""What the comparisons that are kept need of a store, and what may go.

A stage is needed that a run's manifest names, that a needed one was made from, or that holds responses of a policy of
such a run. So a killed comparison goes on from where it was, and a finished one is there when its command comes again.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.commands.folders import Listed, listed, size
from harness.comparison.run_folder import lock_of
from harness.contracts.prepared import KIND as PREPARED
from harness.store.digest import file_digest
from harness.store.manifest import STAGE
from harness.store.store import MANIFEST, Store
from harness.system.errors import HarnessError, UsageError
from harness.system.machine import explained
from reports.manifest import Manifest

ASIDE = {".work": "begun stages of no run", ".staging": "left by killed processes"}


@dataclass(frozen=True)
class Clearing:
    """What is kept and what may go, in bytes by stage (`kind/key`), and what else may go by path.

    `strangers`: folders of runs that used the store and were not found.
    """

    runs: int
    kept: Mapping[str, int]
    stages: Mapping[str, int]
    rests: Mapping[Path, int]
    strangers: int

    @property
    def kinds(self) -> dict[str, tuple[int, int]]:
        """What may go: its number and bytes, by kind."""
        sorted_out: dict[str, list[int]] = {}
        for name, count in self.stages.items():
            sorted_out.setdefault(name.partition("/")[0], []).append(count)
        for path, count in self.rests.items():
            sorted_out.setdefault(ASIDE[path.parent.name], []).append(count)
        return {kind: (len(counts), sum(counts)) for kind, counts in sorted_out.items()}


def plan_clearing(store: Store, folders: Sequence[Path]) -> Clearing:
    """What may go, if the runs under the folders are all that are wanted; the caller has the store to itself.

    UsageError where a run cannot be read, for nobody knows then what it needs, and where there is none.
    """
    runs = [one for folder in folders for one in listed(folder)]
    for one in runs:
        if one.why:
            raise UsageError(
                f"{one.folder}: what it needs cannot be told, so nothing is removed: {one.why} If it is not wanted, "
                "delete its folder first."
            )
    mine = [one for one in runs if any(_same(place, store.root) for place in one.stores)]
    if not mine:
        raise UsageError(
            f"no run of {store.root} is under {' or '.join(map(str, folders))}, so nothing says what is needed: say "
            "with --runs where they are. Where none is wanted any more, delete the store's folder by hand."
        )
    needed = needs(store, [(folder, told) for one in runs for folder, told in one.parts.items()])
    there = sorted(name for path in store.root.glob("[!.]*/*") if STAGE.fullmatch(name := _name(path)))
    begun = {name.replace("/", "-") for name in needed}
    rests = [path for aside in ASIDE for path in (store.root / aside).glob("*")]
    return Clearing(
        len(mine),
        {name: size(store.root / name) for name in there if name in needed},
        {name: size(store.root / name) for name in there if name not in needed},
        {path: size(path) for path in rests if path.parent.name == ".staging" or _begun(path) not in begun},
        strangers(store, runs),
    )


def clear(store: Store, clearing: Clearing) -> None:
    """Remove what may go."""
    for name in clearing.stages:
        store.discard(name)
    with explained(store.root):
        for path in clearing.rests:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def needs(store: Store, runs: Sequence[tuple[Path, Manifest]]) -> set[str]:
    """The names of the stages, there or not, that runs (folder, manifest) need."""
    needed = behind(store, {name for _, told in runs for name in named(told)})
    policies = {name.partition("/")[2] for name in needed}
    policies |= {str(model) for _, told in runs for model in told.models.values()}
    manifests = {file_digest(folder / MANIFEST) for folder, _ in runs}
    for name in store.finished():
        if name.startswith(f"{PREPARED}/"):  # sources that were read ahead, for whoever compares next
            needed.add(name)
        identity = _identity(store, name)
        if identity.get("policy") in policies or identity.get(MANIFEST) in manifests:  # own responses; a run's pages
            needed |= behind(store, {name})
    return needed


def named(told: Manifest) -> Iterator[str]:
    """The stages that a run's manifest names."""
    yield from told.stages
    for made in told.trained:
        yield from made.stages
    for cell in told.cells:
        yield from filter(None, (cell.score, cell.responses, cell.items, cell.crosscheck))
    yield f"report/{told.report}"


def behind(store: Store, names: Iterable[str]) -> set[str]:
    """These stages and all that they were made from, as far as they are finished; HarnessError for a damaged one."""
    todo, reached = list(names), set[str]()
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            if STAGE.fullmatch(name) and (store.root / name / MANIFEST).is_file():
                todo += store.manifest_of(name)["inputs"].values()
    return reached


def strangers(store: Store, runs: Sequence[Listed]) -> int:
    """How many folders used the store that are none of these runs': removed, renamed, or elsewhere."""
    known = {lock_of(folder, store).name for one in runs for folder in (one.folder, *one.parts)}
    used = {path.name for path in (store.root / ".locks").glob("out-*")}
    return len(used - known)


def _identity(store: Store, name: str) -> Mapping[str, Any]:
    """What made a stage; nothing is known of one whose manifest is damaged."""
    try:
        identity: Mapping[str, Any] = store.manifest_of(name)["identity"]
    except HarnessError:
        return {}
    return identity


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}" if path.is_dir() else ""


def _begun(path: Path) -> str:
    """KIND-KEY of a begun stage's folder, which may have a lease's name in front."""
    return path.name.rpartition(".")[2]


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)
