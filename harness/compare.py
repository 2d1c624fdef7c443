"""One comparison from request to table: plan, run what is missing, hand over the files."""

import json
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from harness import __version__
from harness.asking import redact
from harness.config import Runtime, Testbed
from harness.costs import check_budget
from harness.panel import unanswered
from harness.plan import Plan, Request, Step, check, plan
from harness.schedule import Watcher, execute, pending
from harness.stages import Bodies
from harness.store import Store
from harness.types import Dropped, dumps, read_jsonl

PACKAGES = ("torch", "transformers", "deepspeed", "peft", "numpy", "scipy", "pillow")


@dataclass(frozen=True)
class Finished:
    """What a comparison gave: the folder with its files, how many stages had to run, what was left out of the data."""

    plan: Plan
    out: Path
    ran: int
    left_out: tuple[str, ...]
    unanswered: tuple[str, ...] = ()


def prepare(request: Request, testbed: Testbed, runtime: Runtime) -> Plan:
    """The checked plan of a request."""
    check(request, testbed)
    return plan(request, testbed, runtime.reference)


def compare(
    request: Request, testbed: Testbed, runtime: Runtime, store: Store, out: Path, watcher: Watcher
) -> Finished:
    """Run what is not in the store yet and write the comparison's files to `out`."""
    planned = prepare(request, testbed, runtime)
    reopen(planned, store)
    todo = pending(planned.report, store, planned.steps)
    check_budget(planned, todo, store, runtime.budget)
    execute(todo, Bodies(str(store.root), testbed, request, runtime), runtime.workers, watcher)
    out.mkdir(parents=True, exist_ok=True)
    for file in sorted(store.path(planned.report.stage).iterdir()):
        if file.name != "manifest.json":
            shutil.copyfile(file, out / file.name)
    (out / "profile.json").write_text(json.dumps(profile(planned, store), indent=1) + "\n", encoding="utf-8")
    (out / "manifest.json").write_text(json.dumps(provenance(planned, store), indent=1) + "\n", encoding="utf-8")
    return Finished(planned, out, len(todo), tuple(left_out(planned, store)), tuple(silence(planned, store)))


def silence(planned: Plan, store: Store) -> Iterator[str]:
    """One sentence per scored cell whose judge gave some questions no reply at all."""
    for cell in planned.cells:
        lost = unanswered(store.path(cell.score.stage))
        if lost:
            yield f"{cell.score.title}: {len(lost)} questions without a reply ({lost[0]}); the same command asks again"


def reopen(planned: Plan, store: Store) -> None:
    """Take cells with unanswered questions out of the store, and the report with them: only those are asked again."""
    incomplete = [cell.score.stage for cell in planned.cells if unanswered(store.path(cell.score.stage))]
    for stage in [planned.report.stage, *incomplete] if incomplete else ():
        if store.done(stage):
            store.discard(stage.name)


def left_out(planned: Plan, store: Store) -> Iterator[str]:
    """One sentence per split or build that passed records over: how many, the first reasons, where the list is."""
    for step in planned.steps:
        file = store.path(step.stage) / "dropped.jsonl"
        dropped = list(read_jsonl(Dropped, file)) if file.is_file() else []
        if dropped:
            named = "; ".join(f"{drop.id}: {drop.reason}" for drop in dropped[:3])
            yield f"{step.title}: {len(dropped)} records left out ({named}{'; ...' if dropped[3:] else ''}); see {file}"


def measured(step: Step, store: Store) -> dict[str, Any]:
    """Time, memory, tokens and FLOPs of one finished stage, as far as it measured them."""
    folder = store.path(step.stage)
    row: dict[str, Any] = {"stage": step.stage.kind, "title": step.title, "key": step.key}
    row["seconds"] = store.manifest(step.stage)["seconds"]
    for name in ("profile.json", "summary.json"):
        if (folder / name).is_file():
            row |= json.loads((folder / name).read_text(encoding="utf-8"))
    return row


def profile(planned: Plan, store: Store) -> dict[str, Any]:
    """`profile.json`: every stage of the plan that is in the store, and sums per row of the table."""
    stages = [measured(step, store) for step in planned.steps if store.done(step.stage)]
    seconds = {row["key"]: row["seconds"] for row in stages}
    rows: dict[str, dict[str, float]] = {}
    for (name, _), steps in planned.trained.items():
        for step in steps:
            rows.setdefault(name, {}).setdefault(step.stage.kind, 0.0)
            rows[name][step.stage.kind] += seconds.get(step.key, 0.0)
    for cell in planned.cells:
        for stage in (cell.score.reads["responses"], cell.score.stage):
            rows.setdefault(cell.row, {}).setdefault(stage.kind, 0.0)
            rows[cell.row][stage.kind] += seconds.get(stage.key, 0.0)
    return {"testbed": planned.testbed.name, "seconds_by_row": rows, "stages": stages}


def provenance(planned: Plan, store: Store) -> dict[str, Any]:
    """`manifest.json`: what must be known to repeat the run."""
    locks = {}
    for step in planned.splits:
        file = store.path(step.stage) / "split.lock"
        if file.is_file():
            locks[step.title] = json.loads(file.read_text(encoding="utf-8"))["digest"]
    return {
        "harness": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "command": [redact(word) for word in sys.argv],
        "testbed": planned.testbed.name,
        "synthetic": planned.testbed.synthetic,
        "protocol": planned.testbed.protocol,
        "judge": planned.testbed.judge,
        "writer": planned.testbed.writer,
        "judging": planned.testbed.judging.model_dump(),
        "writing": planned.testbed.writing.model_dump(),
        "data": planned.request.data,
        "seeds": list(range(planned.request.first_seed, planned.request.first_seed + planned.request.seeds)),
        "rows": {spec.id: json.loads(dumps(spec.model_dump())) for spec in planned.request.methods},
        "benchmarks": list(planned.request.benchmarks),
        "models": {cell.seed: cell.score.reads["responses"].identity["model"] for cell in planned.cells},
        "split_lock": locks,
        "report": planned.report.key,
    }
