"""Turns a request into ordered steps: methods x data x seeds x benchmarks. Pure; what --dry-run prints."""

from collections.abc import Sequence

from harness.comparison.planner import Planner
from harness.comparison.shown import tabled
from harness.contracts.row import Row, resolved
from harness.contracts.settings import Runtime, Testbed
from harness.contracts.steps import Plan, Request, Step
from harness.stages.build import Build
from harness.stages.respond import Respond

USUAL = Runtime()


def plan(request: Request, testbed: Testbed, runtime: Runtime = USUAL, rows: Sequence[Row] | None = None) -> Plan:
    """The plan of a request that passed `check`.

    `runtime`: what steps take, and how references are had; `rows`: the request's, as `check` has resolved them.
    """
    rows = resolved(request, testbed) if rows is None else rows
    planner = Planner(request, testbed, runtime, rows)
    seeds = range(request.first_seed, request.first_seed + request.seeds)
    trained = dict.fromkeys(((row.id, seed) for seed in seeds for row in rows), tuple[Step, ...]())
    chains = sorted(rows, key=lambda row: len(row.lessons), reverse=True)  # what takes longest begins first
    for seed in seeds:
        after: tuple[str, ...] = ()
        for row in chains:
            alone = len(row.lessons) > 1  # whose rounds wait for each other waits for nobody else
            made = planner.policy(row, seed, () if alone else after)
            trained[row.id, seed] = made
            ask = [step.key for step in made if step.stage.kind in (Respond.kind(), Build.kind())]
            after = after if alone else tuple(ask[:1])  # rows share own responses: one behind the other finds them
    same = planner.parity(request.first_seed)
    cells = [
        planner.cell(shown, seed, name, trained[shown.id, seed][-1] if shown.row else None)
        for seed in seeds
        for shown in tabled(request, rows, planner.models)
        for name in request.benchmarks
    ]
    lenses = {
        (row.id, seed): planner.lens(row, seed, trained[row.id, seed][-1])
        for seed in seeds
        for row in rows
        if testbed.lens and trained[row.id, seed]
    }
    report = planner.report(cells)
    splits = tuple(planner.split(seed) for seed in seeds) if rows else ()
    by_id, steps = {row.id: row for row in rows}, tuple(planner.steps.values())
    return Plan(request, testbed, by_id, steps, tuple(cells), splits, trained, lenses, report, same)
