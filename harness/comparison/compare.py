"""One comparison from request to table: plan, run what is missing, hand over the files."""

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from harness.comparison import parity, run_folder
from harness.comparison.bill import check_access, check_budget
from harness.comparison.mending import outdated, take_out
from harness.comparison.plan import plan
from harness.comparison.preflight import check
from harness.comparison.provenance import profile, provenance
from harness.comparison.worker import Bodies
from harness.contracts import plugins
from harness.contracts.behind import behind
from harness.contracts.benchmark import folder_of
from harness.contracts.executor import Failure, Watcher
from harness.contracts.records import Dropped
from harness.contracts.schedule import execute, insist, pending
from harness.contracts.settings import Runtime, Testbed
from harness.contracts.steps import Plan, Request, Step
from harness.scoring.verdicts import unanswered
from harness.stages.build import Build
from harness.stages.score import Score
from harness.stages.train import Train
from harness.store.closure import code
from harness.store.contents import CONTENTS
from harness.store.digest import file_digest
from harness.store.store import MANIFEST, Stage, Store
from harness.system.jsonl import read_jsonl
from harness.system.machine import seldom_collected
from reports import cards
from reports.facts import StageFacts
from reports.findings import Findings
from reports.manifest import Failed
from reports.report import pages, tables
from reports.runs import opened


@dataclass(frozen=True)
class Finished:
    """What a comparison gave: the folder with its files, how many stages had to run, what was left out of the data.

    `unanswered`: cells whose judge gave some questions no reply; `failed`: what could not be made, and why, with the
    exit `status` that means; `mended`: which finished stages were not as they had been stored, and were made again;
    `preferences`: what became of the data's rejected answers; `moved`: where another comparison's folder went;
    `parity`: how far another backend agrees with transformers; `seconds`: how long it took; `table`: its
    table, where its page was made now.
    """

    plan: Plan
    out: Path
    ran: int
    left_out: tuple[str, ...]
    unanswered: tuple[str, ...] = ()
    failed: tuple[Failed, ...] = ()
    status: int = 0
    mended: tuple[str, ...] = ()
    preferences: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    parity: tuple[str, ...] = ()
    seconds: float = 0.0
    table: Findings | None = None

    @property
    def told(self) -> tuple[str, ...]:
        """What must be said of it beside its table."""
        return (*self.moved, *self.mended, *self.parity, *self.preferences, *self.left_out, *self.unanswered)


def prepare(request: Request, testbed: Testbed, runtime: Runtime, store: Store) -> Plan:
    """The checked plan of a request; digests of its files are remembered in the store."""
    CONTENTS.keep(store.root)
    return plan(request, testbed, runtime, check(request, testbed))


def compare(
    request: Request, testbed: Testbed, runtime: Runtime, store: Store, out: Path, watcher: Watcher, page: bool = True
) -> Finished:
    """Run what is not in the store yet and write the comparison's files to `out`; with `page` report.html as well.

    A row that fails does not end the others. Raises its error where nothing at all was scored.
    """
    began, planned = time.monotonic(), prepare(request, testbed, runtime, store)
    with store.used():
        CONTENTS.keep(store.root)  # it is there now, and others need not hash anew what the plan has hashed
        made = _compare(planned, runtime, store, out, watcher, page)
    return replace(made, seconds=time.monotonic() - began)


def _compare(planned: Plan, runtime: Runtime, store: Store, out: Path, watcher: Watcher, page: bool) -> Finished:
    request, testbed = planned.request, planned.testbed
    damaged = take_out(planned, store)
    reopen(planned, store)
    todo = pending((*planned.goals, *(each.step for each in damaged)), store, planned.steps)
    check_budget(planned, todo, store, runtime)
    try_outside(planned, todo)
    check_access(planned, todo, store, runtime)
    whose, moved = run_folder.identity(request, testbed), list[Path | None]()
    with run_folder.held(out, store):
        moved.append(run_folder.aside(out, whose, store))
        if todo:  # of an interrupted run, `harness report` shows what there is
            run_folder.begin(out, provenance(planned, store, out))
    bodies = Bodies(str(store.root), testbed, request, runtime)
    if planned.parity:
        insist(execute(pending([planned.parity], store, planned.steps), bodies, store, runtime, watcher))
        parity.insist(parity.found(planned.parity, store))
        todo = [step for step in todo if not store.done(step.stage)]
    lost = execute(todo, bodies, store, runtime, watcher)
    again = [step for step in outdated(planned, store, damaged) if step.key not in lost]
    lost = {**lost, **execute(again, bodies, store, runtime, watcher)}
    if lost and not any(store.done(cell.score.stage) for cell in planned.cells):
        raise next(iter(lost.values())).error
    failed = tuple(failures(planned, lost))
    with run_folder.held(out, store):
        moved.append(run_folder.aside(out, whose, store))  # where one was begun meanwhile
        with seldom_collected():
            table = run_folder.install(out, partial(fill, planned, store, out, failed, page, runtime.workers > 1))
    unanswered = tuple(silence(planned, store))
    status = max([3] * bool(unanswered) + [max(3, failure.error.exit_status) for failure in lost.values()], default=0)
    ran, mended = sum(step.key not in lost for step in (*todo, *again)), tuple(map(str, damaged))
    dropped, rejected = (tuple(find(planned, store)) for find in (left_out, preferences))
    moves = tuple(f"{out} held another comparison, which is in {place} now" for place in moved if place)
    agreed = parity.of(planned, store)
    same = (cards.agreement(agreed), *cards.flips(agreed)) if agreed else ()
    return Finished(planned, out, ran, dropped, unanswered, failed, status, mended, rejected, moves, same, table=table)


def try_outside(planned: Plan, todo: Sequence[Step]) -> None:
    """Try the user's own methods and benchmarks before anything is built, as `harness check` does."""
    testbed, columns = planned.testbed, {score.benchmark for _, score in Score.among(todo)}
    for name in sorted(columns - set(plugins.installed("benchmarks"))):
        from harness.checking.benchmark import check_benchmark

        list(check_benchmark(name, testbed.benchmarks.get(name, {}), folder_of(name, behind(testbed.data).home)))
    made = {build.method for _, build in Build.among(todo)} | {train.method for _, train in Train.among(todo)}
    for row in planned.rows.values():
        if row.spec.name.endswith(".py") and row.spec.stem in made:
            from harness.checking.method import check_method  # imports torch

            list(check_method(row.spec.stem, row.method, row.spec.options))


def fill(
    planned: Plan, store: Store, out: Path, failed: Sequence[Failed], page: bool, beside: bool, part: Path
) -> Findings | None:
    """Write a comparison's files to `part`, from where they go to `out`; its table, where `publish` gives that.

    The tables of one that is not complete are made from what there is, and are kept in no store.
    """
    provenance(planned, store, out, failed).write(part / MANIFEST)
    (part / "profile.json").write_text(json.dumps(profile(planned, store), indent=1) + "\n", encoding="utf-8")
    if store.done(planned.report.stage):
        for file in sorted(store.path(planned.report.stage).iterdir()):
            if file.name != MANIFEST:
                shutil.copyfile(file, part / file.name)
    else:
        tables(part, store)
    return publish(part, store, beside) if page else None


def publish(out: Path, store: Store, beside: bool) -> Findings | None:
    """`pages` of the comparison in `out`, made once for what its manifest and profile say, and kept in the store; what
    they gave, where they were made now.
    """
    made = list[Findings]()
    known = {name: file_digest(out / name) for name in (MANIFEST, "profile.json")}
    with opened([out], store.root) as (run,):
        stage = Stage("pages", {**known, **code("reports.report")})
        kept = store.run(stage, lambda folder: made.append(pages(run, folder, beside=beside)))
    for file in kept.iterdir():
        if file.name != MANIFEST:
            shutil.copyfile(file, out / file.name)
    return made[0] if made else None


def failures(planned: Plan, lost: Mapping[str, Failure]) -> Iterator[Failed]:
    """Every cell and figure that was not made, with the step that failed and its reason."""
    labels = {cell.row: cell.label for cell in planned.cells}

    def made(row: str, seed: int, what: str, failure: Failure) -> Failed:
        why = str(failure.error)
        return Failed(row=row, label=labels[row], seed=seed, benchmark=what, stage=failure.title, why=why)

    for cell in planned.cells:
        if failure := lost.get(cell.score.key):
            yield made(cell.row, cell.seed, cell.benchmark, failure)
        elif cell.crosscheck and (failure := lost.get(cell.crosscheck.key)):
            yield made(cell.row, cell.seed, f"lmms-eval on {cell.benchmark}", failure)
    for (row, seed), steps in planned.lenses.items():
        failure = lost.get(steps[-1].key)
        if failure and failure.title in [step.title for step in steps]:
            yield made(row, seed, "lens", failure)
    if (failure := lost.get(planned.report.key)) and failure.title == planned.report.title:
        raise failure.error


def silence(planned: Plan, store: Store) -> Iterator[str]:
    """One sentence per scored cell or lens that asked questions which have no answer."""
    for step in [cell.score for cell in planned.cells] + [steps[-1] for steps in planned.lenses.values()]:
        lost = unanswered(store.path(step.stage))
        if lost:
            yield f"{step.title}: {len(lost)} questions without an answer ({lost[0]}); the same command asks again"


def reopen(planned: Plan, store: Store) -> None:
    """Take what has unanswered questions out of the store, and the report with it: only those are asked again."""
    asking = [(cell.score, cell.crosscheck) for cell in planned.cells]
    asking += [(steps[-1], None) for steps in planned.lenses.values()]
    made = [one.stage for steps in asking if unanswered(store.path(steps[0].stage)) for one in steps if one]
    for stage in [planned.report.stage, *made] if made else ():
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


def preferences(planned: Plan, store: Store) -> Iterator[str]:
    """A sentence per row whose data have rejected answers: whether its method reads them; one where rows learn unlike
    data together with theirs.
    """
    found: dict[str, dict[int, tuple[int, str]]] = {}
    for (row, seed), steps in planned.trained.items():
        builds = [StageFacts(store.path(step.stage)) for step in steps if step.stage.kind == Build.kind()]
        if builds:
            found.setdefault(row, {})[seed] = builds[0].rejected
    for row, told in found.items():
        yield from cards.preferences(row, told)
    yield from cards.apart({row.label: row.joint for row in planned.rows.values() if row.training})
