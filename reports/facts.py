"""What the stages of a run measured: data, tokens, calls, time, memory, learning curves; read from its store.

Whatever a stage did not measure, or a store does not have, is not there: a dash in a table, never a zero.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.contracts.row_names import BASELINE
from harness.store.store import MANIFEST, Store
from harness.system import untrusted
from harness.system.errors import HarnessError, UsageError
from reports.runs import Run, named

MEASURED = ("profile.json", "summary.json")


@dataclass(frozen=True)
class StageFacts:
    """One finished stage, or one that is not there: then everything is empty."""

    folder: Path

    @property
    def kind(self) -> str:
        """build, reference, train, generate, score, ..."""
        return self.folder.parent.name

    @cached_property
    def manifest(self) -> Mapping[str, Any]:
        """Identity, inputs, seconds; empty where the stage is not in the store or is damaged."""
        if not (self.folder / MANIFEST).is_file():
            return {}
        try:
            return Store(self.folder.parents[1]).manifest_of(f"{self.kind}/{self.folder.name}")
        except HarnessError:
            return {}

    @cached_property
    def measured(self) -> Mapping[str, float]:
        """Every number it measured, by name, and its "seconds"."""
        found: dict[str, Any] = {name: self.manifest[name] for name in ("seconds",) if name in self.manifest}
        for name in MEASURED:
            found |= _object(self.file(name))
        if self.manifest and self.kind == "score":
            found["judge_calls"] = self._judge_calls
        return {name: value for name, value in found.items() if type(value) in (int, float)}

    @cached_property
    def dropped(self) -> Counter[str]:
        """Reason -> how many examples a build or split made no record of."""
        return Counter(str(line["reason"]) for line in self._lines("dropped.jsonl") if "reason" in line)

    @cached_property
    def errors(self) -> Counter[str]:
        """Type by the codebook -> how many errors of own responses a build's writer named."""
        found = _object(self.file("profile.json")).get("errors")
        counts = found.items() if isinstance(found, dict) else ()
        return Counter({kind: count for kind, count in counts if type(count) is int})

    @cached_property
    def rejected(self) -> tuple[int, str]:
        """How many examples of a build have a rejected answer in the data, and what its method did with it."""
        told = _object(self.folder / "profile.json").get("rejected") if self.manifest else None
        told = told if isinstance(told, dict) else {}
        count, use = told.get("examples"), told.get("use")
        return (count, use) if type(count) is int and isinstance(use, str) else (0, "")

    @property
    def _judge_calls(self) -> float:
        """How many questions a score stage put to a judge, repeats counted."""
        if not self.manifest.get("identity", {}).get("judge"):
            return 0.0
        told = _object(self.file("judge.json"))
        return float(told.get("items", math.nan)) * float(told.get("runs", math.nan))

    @cached_property
    def roles(self) -> Mapping[str, str]:
        """How a training realised each role, where it says so."""
        said = _object(self.file("summary.json")).get("roles", {})
        return {str(role): str(how) for role, how in said.items()} if isinstance(said, dict) else {}

    @property
    def joint(self) -> str:
        """The source that a training learnt together with its records; "" for none."""
        training = self.manifest.get("identity", {}).get("training")
        told = training.get("joint") if isinstance(training, dict) else None
        return str(told.get("data", "")) if isinstance(told, dict) else ""

    def file(self, name: str) -> Path | None:
        """One of its files; None where the stage is not there or the file is not what was stored."""
        try:
            return (
                Store(self.folder.parents[1]).file(f"{self.kind}/{self.folder.name}", name) if self.manifest else None
            )
        except HarnessError:
            return None

    def reads(self, name: str) -> "StageFacts | None":
        """One of the stages it read."""
        given = self.manifest.get("inputs", {}).get(name)
        return StageFacts(self.folder.parents[1] / given) if given else None

    @cached_property
    def log(self) -> list[dict[str, float]]:
        """The lines of a training's log, under TRL's names; lines that are none are left out."""
        return self._lines("log.jsonl")

    def _lines(self, name: str) -> list[dict[str, Any]]:
        file = self.file(name)
        lines = untrusted.text(file).split("\n") if file else []
        return [line for text in lines if isinstance(line := _parsed(text), dict)]


@dataclass(frozen=True)
class RowFacts:
    """One row and seed of a run: the stages that made its policy and those that tried it."""

    row: str
    label: str
    seed: int
    made: tuple[StageFacts, ...]
    tried: tuple[StageFacts, ...]

    def of(self, kind: str) -> tuple[StageFacts, ...]:
        """Its stages of one kind, in order."""
        return tuple(stage for stage in (*self.made, *self.tried) if stage.kind == kind)

    def total(self, kinds: Sequence[str], name: str) -> float | None:
        """The sum of a figure over its stages of these kinds; None where one of them does not have it."""
        values = [stage.measured.get(name) for kind in kinds for stage in self.of(kind)]
        known = [value for value in values if value is not None]
        return sum(known) if values and len(known) == len(values) else None

    def peak(self, kinds: Sequence[str], name: str) -> float | None:
        """The largest of a figure over its stages of these kinds."""
        values = [stage.measured.get(name) for kind in kinds for stage in self.of(kind)]
        return max((value for value in values if value is not None), default=None)

    @property
    def lock(self) -> tuple[str, int] | None:
        """Digest and number of the examples its first round was built from, by `split.lock`."""
        split = self.made[0].reads("split") if self.made else None
        lock = _object(split.file("split.lock")) if split else {}
        return (str(lock["digest"]), len(lock["examples"])) if {"digest", "examples"} <= lock.keys() else None

    @property
    def consumed(self) -> float | None:
        """Examples in a pass over the split, mean over all passes; None where a build is not there.

        A round that shares the split with n - 1 others is an n-th of a pass; a pass begun is one.
        """
        passes = sum(1 / build.measured.get("parts", 1) for build in self.of("build"))
        examples = self.total(("build",), "examples")
        return None if examples is None else examples / math.ceil(passes - 1e-6)

    @property
    def method(self) -> str:
        """The name of the method file that made it."""
        return str(self._identity.get("method", BASELINE))

    @property
    def options(self) -> Mapping[str, Any]:
        """The method's options that were given, without those that name a file."""
        return dict(self._identity.get("options", {}))

    @property
    def _identity(self) -> Mapping[str, Any]:
        known = (stage.manifest.get("identity", {}) for stage in self.made)
        return next((identity for identity in known if "method" in identity), {})


def row_facts(run: Run) -> list[RowFacts]:
    """Every row and seed of a run, or of the runs joined in it; a policy that several runs have comes once, with all
    that tried it.
    """
    found: dict[tuple[str, int], RowFacts] = {}
    parts = run.parts or (run,)
    for part, names in zip(parts, named(parts), strict=True):
        for facts in _of_one(part):
            row, label = names[facts.row]
            known = found.get((row, facts.seed))
            found[row, facts.seed] = _together(known, facts) if known else replace(facts, row=row, label=label)
    return list(found.values())


def _together(one: RowFacts, other: RowFacts) -> RowFacts:
    """One policy of two runs: what tried it in either, from the store that has it."""
    tried = {stage.folder.name: stage for stage in one.tried}
    for stage in other.tried:
        if not ((known := tried.get(stage.folder.name)) and known.manifest):
            tried[stage.folder.name] = stage
    return replace(one, made=one.made or other.made, tried=tuple(tried.values()))


def _of_one(run: Run) -> Iterator[RowFacts]:
    store = run.cells[0].store if run.cells else run.folder
    trained = {(made.row, made.seed): made.stages for made in run.manifest.trained}
    for row, seed in dict.fromkeys((cell.row, cell.seed) for cell in run.cells):
        cells = [cell for cell in run.cells if (cell.row, cell.seed) == (row, seed)]
        made = tuple(StageFacts(store / name) for name in trained.get((row, seed), ()))
        tried = tuple(StageFacts(store / name) for cell in cells for name in (cell.responses, cell.score))
        yield RowFacts(row, cells[0].label, seed, made, tried)


def _object(file: Path | None) -> dict[str, Any]:
    found = _parsed(untrusted.text(file, limit=untrusted.SETTINGS)) if file else {}
    return found if isinstance(found, dict) else {}


def _parsed(text: str) -> Any:
    try:
        return untrusted.parse_json(text, "a stage's file")
    except UsageError:
        return None
