"""The row whose method a step is made by."""

from harness.contracts.row import Row
from harness.contracts.stage import Work


def row_of(work: Work) -> Row:
    """The row of a step that was planned for one."""
    assert work.row is not None, f"{work.step.title} was planned for no row"
    return work.row
