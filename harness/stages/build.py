"""A method's records."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from harness.contracts.images import movable
from harness.contracts.judge import Writer, answered
from harness.contracts.records import Conversation, Dropped, Example, Record
from harness.contracts.stage import Plugins, Work
from harness.models.load import revision, words
from harness.scoring.verdicts import insist, keep_replies
from harness.stages._asked import asked
from harness.stages._drawn import changed
from harness.stages._examples import locked_examples
from harness.stages._model import Trained
from harness.stages._responding import Responding
from harness.stages._row import row_of
from harness.store.closure import Entry
from harness.store.store import Stage
from harness.system.errors import HarnessError
from harness.system.jsonl import dumps, write_jsonl
from harness.training.rounds import NoWriter, refuse_malformed, trainable


class Build(Responding):
    """The records of one round of a method, and the reasons for every example that gave none.

    method: the method's name
    options: those of its options that its records depend on, without paths of files that it reads
    files: digest of these files
    clip: revision of the testbed's CLIP; "" for a method that needs none
    max_length: a record that is cut to so many tokens; None: one beyond the model's positions is left out
    """

    method: str
    options: dict[str, Any]
    files: str
    clip: str
    max_length: int | None

    @dataclass(frozen=True, kw_only=True)
    class Reads(Trained):
        """The examples, the roles as the rounds before have left them, and what made the own responses ahead."""

        derived: ClassVar[frozenset[str]] = frozenset({"responded"})
        split: Stage
        responded: Stage | None = None

    def loads(self, known: Plugins) -> tuple[Entry | None, ...]:
        """The method, the model's family, and who makes it respond."""
        return known.method, known.family, known.backend

    def fill(self, work: Work) -> None:
        """Write `records.jsonl`, `dropped.jsonl` and what it took."""
        reads, row = self.Reads.of(work.step), row_of(work, self.files)
        if self.clip and revision(work.testbed.clip) != self.clip:
            raise changed(Path(work.testbed.clip))
        writer = asked(work, "writer", reads.split) if row.method.needs_writer else NoWriter()
        lesson = row.builder.lesson(self.round)
        examples = locked_examples(work, reads.split)[lesson.part[0] :: lesson.part[1]]

        def build_with(writer: Writer) -> tuple[list[Record | Dropped], dict[str, int]]:
            """What the method builds when it asks `writer`, and what that took."""
            round = self.own_round(work, lesson, writer, reads, row.trained(self.round), self.max_length)
            return list(row.builder.build(examples, round)), round.spent

        built, spent = answered(writer, build_with)
        insist(writer)
        known = words(self.policy(work, reads.policy))
        made = [trainable(record, known, self.max_length) for record in built]
        refuse_malformed(built, made)
        if [record.id for record in made] != [example.id for example in examples]:
            raise HarnessError(f"{self.method} must build one record per example, in order, or a Dropped.")
        records = (movable(record, work.places) for record in made if not isinstance(record, Dropped))
        write_jsonl(work.out / "records.jsonl", records)
        write_jsonl(work.out / "dropped.jsonl", (record for record in made if isinstance(record, Dropped)))
        profile = counted(examples, made) | {"parts": lesson.part[1]}
        if "rejected" in profile:
            profile["rejected"]["use"] = row.method.preferences
        if account := keep_replies(work.out, writer):
            profile |= {"writer": account}
        (work.out / "profile.json").write_text(dumps(profile | spent), encoding="utf-8")


def counted(examples: Sequence[Example], made: Sequence[Record | Dropped]) -> dict[str, Any]:
    """How many examples and records there are, how many errors of each type, how many answers were rejected."""
    profile: dict[str, Any] = {"examples": len(examples)}
    profile["records"] = sum(not isinstance(record, Dropped) for record in made)
    errors = Counter(e.type for record in made if isinstance(record, Conversation) for e in record.errors)
    profile |= {"errors": errors} if errors else {}
    worse = sum(example.rejected is not None for example in examples)
    return profile | ({"rejected": {"examples": worse}} if worse else {})
