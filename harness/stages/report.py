"""Tables and rows from stored units."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from harness.contracts.benchmark import benchmark_of
from harness.contracts.stage import Kind, Work
from harness.contracts.steps import Step
from harness.stages._benchmarked import Benchmarked
from harness.store.store import Stage
from harness.system.jsonl import dumps

SECOND = "lmms-eval/"  # how the names of second opinions begin


class Report(Kind):
    """Tables and rows from stored units: pure, no model, no judge.

    testbed: its name
    synthetic: whether its world is made up, which tables say
    protocol: in which way models are asked
    data: the source of the examples
    models: seed -> revision of its base model
    rows: row -> its label, in the table's order
    """

    testbed: str
    synthetic: bool
    protocol: str
    data: str
    models: dict[str, str]
    rows: dict[str, str]

    @dataclass(frozen=True, kw_only=True)
    class Reads(Kind.Reads):
        """The scores of every cell, by "row/seed/benchmark", and second opinions by the same name."""

        scores: Mapping[str, Stage]
        checks: Mapping[str, Stage]

        @classmethod
        def of(cls, made: Step | Stage) -> Self:
            """What a report reads: as many as its table has cells."""
            reads = made.reads if isinstance(made, Step) else made.inputs
            scores = {name: stage for name, stage in reads.items() if stage.kind == "score"}
            checks = {name.removeprefix(SECOND): stage for name, stage in reads.items() if name not in scores}
            return cls(scores=scores, checks=checks)

        def named(self) -> dict[str, Stage]:
            """All of them by name."""
            return {**self.scores, **{f"{SECOND}{name}": stage for name, stage in self.checks.items()}}

    def fill(self, work: Work) -> None:
        """Write the comparison's files."""
        from reports.files import write_report
        from reports.findings import Setting
        from reports.outcomes import Outcome, read_judged, read_second, read_units
        from reports.shared import shared

        reads = self.Reads.of(work.step)
        outcomes = []
        for name, stage in reads.scores.items():
            row, seed, benchmark = name.rsplit("/", 2)
            folder, check = work.folder(stage), reads.checks.get(name)
            units, unscored = read_units(folder / "units.json")
            second = read_second(work.folder(check) / "crosscheck.jsonl") if check else {}
            runs, judge = read_judged(folder / "judge.json")
            cell = (row, self.rows[row], int(seed), benchmark)
            outcomes.append(Outcome(*cell, units, unscored, stage.key, runs, second, judge))
        scored = [Benchmarked.part(stage) for stage in reads.scores.values()]
        benchmarks = {each.benchmark: benchmark_of(each) for each in scored}
        models = {seed: dumps(model) for seed, model in self.models.items()}
        trained_on = shared(reads.scores.values(), work.folder)
        setting = Setting(self.testbed, self.protocol, self.synthetic, models, trained_on)
        write_report(work.out, outcomes, benchmarks, list(self.rows), setting)
