"""What a row said to benchmarks, in files that other tools read: official answers, or lmms-eval's samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from harness.contracts import plugins
from harness.contracts.benchmark import Benchmark
from harness.contracts.records import Item, Response, Score, Unscored
from harness.store.store import MANIFEST
from harness.system.errors import UsageError
from harness.system.jsonl import read_jsonl
from reports.runs import StoredCell

OLD = (KeyError, TypeError, AttributeError, ValueError)  # what facts of another version make of code of this one


def _another_version(cell: StoredCell) -> UsageError:
    return UsageError(
        f"{cell.benchmark}: its items or responses are not what this version writes; run the comparison again, or name "
        "others with --benchmarks."
    )


@dataclass(frozen=True)
class Answers:
    """What was said in one cell: `items` are those that could be asked, of `asked` in all."""

    cell: StoredCell
    benchmark: Benchmark
    items: Sequence[Item]
    asked: int
    said: dict[str, Response]

    @classmethod
    def of(cls, cell: StoredCell, benchmark: Benchmark) -> "Answers | None":
        """None where the store has no responses; UsageError where they are not what this version writes."""
        if not (cell.store / cell.responses / MANIFEST).is_file():
            return None
        try:
            said = {one.id: one for one in read_jsonl(Response, cell.file(cell.responses, "responses.jsonl"))}
            asked = list(read_jsonl(Item, cell.file(cell.items, "items.jsonl")))
            return cls(cell, benchmark, [item for item in asked if not said[item.id].unanswered], len(asked), said)
        except OLD:
            raise _another_version(cell) from None

    @property
    def scores(self) -> dict[str, Score | Unscored]:
        """By item; unscored where nobody has scored it yet."""
        file = self.cell.store / self.cell.score / "scores.jsonl"
        there = read_jsonl(Score | Unscored, self.cell.file(self.cell.score, file.name)) if file.is_file() else ()
        return {item.id: Unscored(item.id, "not scored") for item in self.items} | {one.id: one for one in there}

    @property
    def lost(self) -> str:
        """How many items were not asked, for a line about the others."""
        lost = self.asked - len(self.items)
        return f", {lost:,} could not be asked" if lost else ""


def official(out: Path, given: Sequence[Answers]) -> list[str]:
    """A folder per benchmark with its official answer files; a line about each. UsageError for old versions' items."""
    told = list[str]()
    for one in given:
        try:
            files = one.benchmark.answers(one.items, {item.id: one.said[item.id].text for item in one.items})
        except OLD:
            raise _another_version(one.cell) from None
        folder = out / one.cell.benchmark.replace(":", "-")  # which not every disk takes
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_text(content, encoding="utf-8")
        told.append(f"{one.cell.benchmark}: {', '.join(files)}, {len(one.items):,} responses{one.lost}")
    return told


def samples(out: Path, given: Sequence[Answers], model: str, now: datetime) -> list[str]:
    """`MODEL/DATE_samples_TASK.jsonl` and `MODEL/DATE_results.json`, as `lmms-eval --log_samples` has them.

    A line about each benchmark. UsageError where lmms-eval is not installed, or has no task for any of them.
    """
    if not plugins.lmms_eval():
        raise UsageError(
            "--format lmms-eval is written by lmms-eval, which is not installed: pip install "
            "'vlm-alignment-harness[lmms]' and pip install --no-deps lmms-eval==0.7.3."
        )
    from benchmarks._lmms_samples import Answered, write_samples

    found = [Answered(one.cell.benchmark, one.benchmark, one.items, one.said, one.scores) for one in given]
    told = write_samples(out, model, now.strftime("%Y%m%d_%H%M%S"), found)
    if not list(out.glob("*/*.jsonl")):
        raise UsageError(f"nothing of it can be written as lmms-eval's samples ({'; '.join(told)}).")
    return [f"{line}{one.lost}" for line, one in zip(told, given, strict=True)]
