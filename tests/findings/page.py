"""docs/findings.md: the five answers with their pictures, between words that are written by hand."""

from pathlib import Path

from harness.contracts.steps import ALL_BENCHMARKS
from harness.system.errors import UsageError
from harness.system.files import put
from reports.facts import row_facts
from reports.figures import picture
from tests.findings import length, ranking, signs, supervision, traps
from tests.findings.known import Known
from tests.findings.runs import ROWS
from tests.findings.stored import Stored
from tests.findings.wording import Section
from tests.made_page import filled

PAGE = Path(__file__).parents[2] / "docs" / "findings.md"
BEGIN, END = "<!-- computed by make findings -->", "<!-- end -->"
QUESTIONS = (supervision, signs, length, ranking, traps)


def written(stored: Stored, page: Path = PAGE, **options: int) -> None:
    """The answers into the page, in place of those before, and their pictures beside it.

    UsageError, and the page as it was, where a row or benchmark is not there that a question asks about.
    """
    lacking = [name for name in (*ROWS, *ALL_BENCHMARKS) if name not in {*stored.rows, *stored.benchmarks}]
    if lacking:
        raise UsageError(
            f"these comparisons have no {', '.join(lacking)}; compare every row of docs/findings.md on the nine."
        )
    known, parts, pictures = Known(stored, **options), [made_of(stored)], dict[str, str]()
    for question in QUESTIONS:
        section = question.answer(known)
        assert section.draw is not None, "every answer has a picture"
        pictures[section.name] = picture(section.draw, stored.testbed).svg
        parts.append(text(section, stored.runs[0].setting.synthetic))
    whole = filled(page, BEGIN, END, "\n\n".join(parts))
    for name, svg in pictures.items():
        put(page.with_name(f"findings-{name}.svg"), svg)
    put(page, whole)


def text(section: Section, synthetic: bool) -> str:
    """An answer; what is synthetic says so in every sentence."""
    said = [f"{sentence}{' (synthetic)' if synthetic else ''}." for sentence in section.sentences]
    picture = f"![{section.question}](findings-{section.name}.svg)"
    notes = "\n".join(f"- {note}." for note in section.notes)
    return "\n\n".join([f"## {section.question}", " ".join(said), picture, section.table, notes])


def made_of(stored: Stored) -> str:
    """What was run."""
    first = stored.runs[0].manifest
    counts = sorted({facts.lock[1] for run in stored.runs for facts in row_facts(run) if facts.lock})
    batch = first.setting.get("training", {}).get("train_batch_size", "unknown size")
    units = ", ".join(f"{benchmark.label} {len(next(iter(stored.units[name].values())))}"
                      for name, benchmark in stored.benchmarks.items())  # fmt: skip
    commit = str(first.source.get("commit", "not known"))[:12]
    changed = ", with files changed since" if first.source.get("changed") else ""
    return (
        f"Made on {stored.testbed}: {len(stored.by_base)} bases × {len(first.seeds)} splits × {len(stored.rows)} "
        f"rows and the baseline, each row trained on {' or '.join(map(str, counts))} examples of {first.data} in "
        f"batches of {batch}, by the code of commit {commit}{changed}. Units that a training is scored on: {units}."
    )
