"""The card beside an accepted run: what was accepted, when, and which scores, as text that a person can review.

`accepted.zip` is what later runs are paired with, and nobody can read it in a pull request; `accepted.yaml` beside it
is written with it and names its digest, so that neither can be changed without the other.
"""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import yaml
from pydantic import Field, ValidationError, field_validator

from harness.contracts.settings import Fixed, first_error
from harness.store.digest import file_digest
from harness.system.errors import UsageError
from harness.system.files import put
from harness.system.yamls import yaml_file
from reports.estimates import estimate
from reports.numerals import numeral
from reports.runs import Run

HEAD = """# Written by `harness gate --accept`. Review it: later runs are held to these scores, on the same items.
# The runs' units are in {file}; a gate refuses them where they are not those of this card.
"""


class Card(Fixed):
    """What the file beside an accepted run says. `scores`: row -> metric id -> the value and its interval."""

    accepted: str
    sha256: str
    harness: str = ""
    source: str = ""
    scores: dict[str, dict[str, str]] = Field({})

    @field_validator("accepted")
    @classmethod
    def _a_day(cls, given: str) -> str:
        return date.fromisoformat(given).isoformat()

    def age(self, today: date) -> int:
        """Days since it was accepted; 0 for a clock that is behind."""
        return max(0, (today - date.fromisoformat(self.accepted)).days)

    def told(self, today: date) -> str:
        """When, and of which source."""
        days, source = self.age(today), self.source[:12]
        when = "today" if not days else "yesterday" if days == 1 else f"{days} days ago"
        return f"accepted {self.accepted}, {when}" + (f", at commit {source}" if source else "")


def place(file: Path) -> Path:
    """Where the card of an accepted file lies."""
    return file.with_suffix(".yaml")


def write_card(file: Path, run: Run, today: date) -> Path:
    """The card of a run that was just accepted as `file`; returns where it lies."""
    card = Card(
        accepted=today.isoformat(),
        sha256=file_digest(file),
        harness=run.manifest.harness,
        source=str(run.manifest.source.get("commit", "")),
        scores={row: dict(_scores(run, row)) for row in run.rows},
    )
    text = yaml.safe_dump(card.model_dump(), sort_keys=False, allow_unicode=True, width=120)
    put(place(file), HEAD.format(file=file.name) + text)
    return place(file)


def _scores(run: Run, row: str) -> Iterator[tuple[str, str]]:
    """A row's values, each with the interval of its own."""
    outcomes = [outcome for outcome in run.outcomes() if outcome.method == row]
    for name, benchmark in run.benchmarks().items():
        metric = benchmark.metrics[0]
        for found in estimate(benchmark, [one for one in outcomes if one.benchmark == name]).values():
            of = found[metric.id]
            if of.value != of.value:
                continue
            ends = ", ".join(numeral(end, metric.digits) for end in (of.low, of.high))
            value = numeral(of.value, metric.digits) + (f" [{ends}]" if of.low == of.low else "")
            yield metric.id, f"{value}, n = {of.n:,}"


def read_card(file: Path) -> Card | None:
    """The card beside an accepted file, None where there is none.

    UsageError where it is none of ours, or where it was written for another file.
    """
    beside = place(file)
    if not file.is_file() or not beside.is_file():
        return None
    try:
        card = Card.model_validate(yaml_file(beside, "accepted card"))
    except ValidationError as error:
        raise UsageError(f"{beside} is not what `harness gate --accept` writes: {first_error(error)}") from None
    if card.sha256 != file_digest(file):
        raise UsageError(
            f"{file} is not the file that {beside} was written for: one of them was changed alone. Take both from the "
            "same commit, or accept a run again."
        )
    return card
