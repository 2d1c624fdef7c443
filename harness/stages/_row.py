"""The row whose method a step is made by."""

from harness.contracts.row import Row
from harness.contracts.stage import Work
from harness.stages._drawn import changed
from harness.store.digest import source_digest


def row_of(work: Work, files: str) -> Row:
    """The row of a step that was planned for one; HarnessError where its method's files have another digest."""
    assert work.row is not None, f"{work.step.title} was planned for no row"
    if source_digest(*work.row.method.sources) != files:
        raise changed(*work.row.method.sources)
    return work.row
