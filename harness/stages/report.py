"""Tables and rows from stored units."""

from harness.benchmark import benchmark_of
from harness.stages.work import Work
from harness.types import dumps
from reports.files import write_report
from reports.outcomes import Outcome, read_judged, read_second, read_units
from reports.table import Setting


def report(work: Work) -> None:
    """Tables and rows from stored units: pure, no model, no judge."""
    what, step, store = work.what, work.step, work.store
    outcomes = []
    reads = {name: stage for name, stage in step.reads.items() if stage.kind == "score"}
    for name, stage in reads.items():
        row, seed, benchmark = name.rsplit("/", 2)
        units, unscored = read_units(store.sound(stage.name) / "units.json")
        check = step.reads.get(f"lmms-eval/{name}")
        second = read_second(store.sound(check.name) / "crosscheck.jsonl") if check else {}
        runs, judge = read_judged(store.sound(stage.name) / "judge.json")
        label = what["rows"][row]
        outcomes.append(Outcome(row, label, int(seed), benchmark, units, unscored, stage.key, runs, second, judge))
    benchmarks = {stage.identity["benchmark"]: benchmark_of(stage.identity) for stage in reads.values()}
    models = {seed: dumps(model) for seed, model in what["models"].items()}
    setting = Setting(what["testbed"], what["protocol"], what["synthetic"], models)
    write_report(work.out, outcomes, benchmarks, list(what["rows"]), setting)
