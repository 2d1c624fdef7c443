"""The rows of a comparison's table, trained or not."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from harness.contracts.method import Baseline
from harness.contracts.row import Row
from harness.contracts.row_names import BASELINE, BLANK, NOISE, PUBLISHED
from harness.contracts.steps import Request


class Shown(NamedTuple):
    """A row of the table: the row of the request, None where no method made it, and changes to how it responds.

    `who`: the words of somebody else who answers.
    """

    row: Row | None
    id: str
    label: str
    changes: Mapping[str, Any] = MappingProxyType({})
    who: str = ""


def tabled(request: Request, rows: Sequence[Row], models: Mapping[str, str]) -> Iterator[Shown]:
    """The rows of the table, baseline first; `models` are the revisions of published folders."""
    yield Shown(None, BASELINE, Baseline.label)
    if request.blank:
        yield Shown(None, BLANK, "baseline, blank image", {"blank": True})
    if request.noise_batch:
        yield Shown(None, NOISE, "noise floor", {"batch_size": request.noise_batch})
    for name, folder in request.published:
        yield Shown(None, name, f"{name}{PUBLISHED}", {"model": models[folder]})
    for name, who in request.answered:
        yield Shown(None, name, f"{name}{PUBLISHED}", who=who)
    for row in rows:
        yield Shown(row, row.id, row.label)
