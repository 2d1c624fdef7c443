"""What a method asks its model before it asks a slow writer, so that no GPU is held while that is waited for."""

from dataclasses import dataclass
from typing import Any, ClassVar

from harness.contracts.judge import Ask
from harness.contracts.judge_kind import Hired
from harness.contracts.stage import Plugins, Work
from harness.stages._examples import locked_examples
from harness.stages._model import Trained
from harness.stages._responding import Responding
from harness.stages._row import row_of
from harness.store.closure import Entry
from harness.store.store import Stage
from harness.system.jsonl import dumps


class Asked(BaseException):
    """The writer was asked. No method takes it for a failure of its own."""


class Listening(Hired):
    """Stands in for the writer, and ends a build with its first question."""

    name = "none yet"

    def reply(self, ask: Ask) -> str:
        """None."""
        raise Asked


class Respond(Responding):
    """The model's own responses that one round of a method asks for ahead of its writer, kept in the store.

    method: the method's name
    options: those of its options that its records depend on, without paths of files that it reads
    files: digest of these files
    """

    also: ClassVar[tuple[str, ...]] = ()

    method: str
    options: dict[str, Any]
    files: str

    @dataclass(frozen=True, kw_only=True)
    class Reads(Trained):
        """The examples, and the roles as the rounds before have left them."""

        split: Stage

    def loads(self, known: Plugins) -> tuple[Entry | None, ...]:
        """The method, the model's family, and who makes it respond."""
        return known.method, known.family, known.backend

    def fill(self, work: Work) -> None:
        """Write `profile.json`: what it took. The responses lie where the build looks for them."""
        reads, row = self.Reads.of(work.step), row_of(work, self.files)
        lesson = row.builder.lesson(self.round)
        examples = locked_examples(work, reads.split)[lesson.part[0] :: lesson.part[1]]
        round = self.own_round(work, lesson, Listening(), reads, row.trained(self.round))
        try:
            for _ in row.builder.build(examples, round):
                pass
        except Asked:
            pass
        (work.out / "profile.json").write_text(dumps({"examples": len(examples)}), encoding="utf-8")
