"""What a comparison says of itself: `manifest.json`, how it was made, and `profile.json`, what its stages took."""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from harness import __version__, backends
from harness.comparison import parity
from harness.comparison.bed import base_model
from harness.comparison.joining import joints
from harness.comparison.run_folder import identity
from harness.contracts import plugins
from harness.contracts.behind import behind
from harness.contracts.benchmark import folder_of
from harness.contracts.judge_kind import called
from harness.contracts.row_names import BASELINE
from harness.contracts.settings import Testbed
from harness.contracts.steps import Plan, Step
from harness.contracts.testbed_file import setting_of
from harness.models.folder import inspect
from harness.stages.generate import Generate
from harness.stages.score import Score
from harness.store.digest import file_digest
from harness.store.store import Stage, Store
from harness.system.hub import revision_of
from harness.system.jsonl import dumps
from harness.system.secret import redact
from reports.manifest import Asked, Failed, Manifest, ScoredCell, Trained
from reports.shared import shared

PACKAGES = ("torch", "transformers", "deepspeed", "peft", "numpy", "scipy", "pillow")


def provenance(planned: Plan, store: Store, out: Path, failed: Sequence[Failed] = ()) -> Manifest:
    """The manifest of a comparison whose folder is `out`; `failed` says what could not be made.

    It can be written before the run as well, for a report of what is there: the locks are those that are.
    """
    request, testbed = planned.request, planned.testbed
    judged = {cell.benchmark: Score.of(cell.score).judge for cell in planned.cells}
    rows = {spec.id: json.loads(dumps(spec.model_dump())) for spec in request.methods}

    def finished(stage: Stage) -> Path | None:
        return store.path(stage) if store.done(stage) else None

    return Manifest(
        harness=__version__,
        source=checkout(),
        python=platform.python_version(),
        platform=platform.platform(),
        packages={name: metadata.version(name) for name in PACKAGES},
        command=["harness", *(redact(word) for word in sys.argv[1:])],
        store=os.path.relpath(store.root, out.absolute()),
        request=identity(request, testbed),
        finished=store.done(planned.report.stage) and not failed,
        failed=list(failed),
        testbed=testbed.name,
        synthetic=testbed.synthetic,
        protocol=testbed.protocol,
        judge=called(testbed.judge),
        writer=called(testbed.writer),
        judging=testbed.judging.model_dump(),
        writing=testbed.writing.model_dump(),
        data=str(request.data),
        folder=testbed.data if behind(testbed.data).home else "",
        seeds=list(range(request.first_seed, request.first_seed + request.seeds)),
        rows={row: Asked.model_validate(spec) for row, spec in rows.items()},
        benchmarks={name: testbed.benchmarks.get(name, {}) for name in request.benchmarks},
        own={
            name: file_digest(file)
            for (_, name), file in plugins.adopted().items()
            if name in request.benchmarks and plugins.outside("benchmarks", name)
        },
        judges={name: judge for name, judge in judged.items() if judge},
        setting=setting(testbed),
        architectures=architectures(planned),
        models={str(cell.seed): Generate.of(cell.responses).model for cell in planned.cells if cell.row == BASELINE},
        bases={str(cell.seed): base_model(testbed, cell.seed) for cell in planned.cells},
        published={
            name: next(Generate.of(cell.responses).model for cell in planned.cells if cell.row == name)
            for name, _ in request.published
        }
        | {name: called(words) for name, words in request.answered},
        split_lock=dict(locks(planned, store)),
        fetched=fetched(planned),
        parity=parity.of(planned, store),
        shared=shared((cell.score.stage for cell in planned.cells), finished),
        report=planned.report.key,
        cells=list(cells(planned)),
        trained=list(trained(planned)),
        stages=[step.stage.name for step in planned.steps],
    )


def setting(testbed: Testbed) -> dict[str, Any]:
    """Everything of the testbed that can change a result."""
    told = setting_of(testbed)
    return told | {"generation": told["generation"] | {"options": backends.keyed(testbed.generation)}}


def locks(planned: Plan, store: Store) -> Iterator[tuple[str, str]]:
    """Title and digest of every split that is made."""
    for step in planned.splits:
        file = store.path(step.stage) / "split.lock"
        if file.is_file():
            yield step.title, json.loads(file.read_text(encoding="utf-8"))["digest"]


def fetched(planned: Plan) -> dict[str, str]:
    """Source or benchmark -> the commit of the hub that its files were fetched at, where they were."""
    request, home = planned.request, behind(planned.testbed.data).home
    homes = {part.name: part.home for part in request.data.parts}
    homes |= {joint.name: joint.home for joint in joints(planned.rows.values(), planned.testbed)}
    homes |= {name: folder_of(name, home, request.data) for name in request.benchmarks} if home else {}
    return {name: of for name, folder in homes.items() if (of := revision_of(folder))}


def cells(planned: Plan) -> Iterator[ScoredCell]:
    """The table's cells with the stages behind them."""
    for cell in planned.cells:
        yield ScoredCell(
            row=cell.row,
            label=cell.label,
            seed=cell.seed,
            benchmark=cell.benchmark,
            score=cell.score.stage.name,
            responses=cell.responses.stage.name,
            items=cell.items.stage.name,
            crosscheck=cell.crosscheck.stage.name if cell.crosscheck else "",
        )


def trained(planned: Plan) -> Iterator[Trained]:
    """What made each policy, and its lens."""
    for (row, seed), made in planned.trained.items():
        if made:
            steps = *made, *planned.lenses.get((row, seed), ())
            yield Trained(row=row, seed=seed, stages=[step.stage.name for step in steps])


def architectures(planned: Plan) -> dict[str, dict[str, int]]:
    """Seed -> what its base model's weights look like."""
    folders = {str(cell.seed): Path(base_model(planned.testbed, cell.seed)) for cell in planned.cells}
    known = {folder: inspect(folder).architecture for folder in set(folders.values())}
    return {seed: known[folder] for seed, folder in folders.items()}


def checkout() -> dict[str, Any]:
    """The git commit of this source and whether files differ from it; empty where it is no checkout."""
    home, git = Path(__file__).parents[2], shutil.which("git")
    if git is None or not (home / ".git").exists():
        return {}

    def said(*arguments: str) -> str:
        done = subprocess.run([git, "-C", str(home), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    return {"commit": said("rev-parse", "HEAD"), "changed": bool(said("status", "--porcelain", "--untracked-files=no"))}


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
        for stage in (cell.responses.stage, cell.score.stage):
            rows.setdefault(cell.row, {}).setdefault(stage.kind, 0.0)
            rows[cell.row][stage.kind] += seconds.get(stage.key, 0.0)
    return {"testbed": planned.testbed.name, "seconds_by_row": rows, "stages": stages}
