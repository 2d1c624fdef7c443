"""Sources that are learnt together with rows' records (`training.joint`): which, how many examples, at what cost."""

from collections.abc import Iterable

from harness.contracts import prepared
from harness.contracts.behind import behind
from harness.contracts.row import Row
from harness.contracts.settings import Testbed, Training
from harness.contracts.source import Source
from harness.contracts.steps import Plan
from harness.sources import _chosen
from harness.system.console import duration


def joints(rows: Iterable[Row], testbed: Testbed) -> list[Source]:
    """Those of any row, each once; UsageError for a word that names none."""
    home = behind(testbed.data).home
    return [_chosen.beside(name, home) for name in dict.fromkeys(row.joint for row in rows) if name]


def amount(planned: Plan, training: Training) -> int:
    """How many examples are joined: as many as are asked for, as were prepared, as the source's makers publish, or else
    as the testbed draws of a source.
    """
    if training.joint is None:
        return 0
    source = _chosen.beside(training.joint.data, behind(planned.testbed.data).home)
    made = prepared.found(source, planned.testbed.reading) if source.home and not source.lacks() else None
    there = len(made.about["ids"]) if made else source.published if source.home else 0
    return training.joint.examples or there or planned.testbed.examples


def added(name: str, count: int, own: int, flops: float, seconds: float, disk: int) -> str:
    """What that adds to one training, in words."""
    work, kept = (f"{of:,.0f}" if of >= 10 else f"{of:.2g}" for of in (flops / 1e15, disk / 1e9))
    return (
        f"training.joint adds {count:,} examples of {name} to its {own:,} records: {work} PFLOP, "
        f"{duration(max(seconds, 1))}, and at most {kept} GB of features on disk, which all rows share"
    )
