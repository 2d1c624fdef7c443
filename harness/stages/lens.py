"""What training did to chosen and rejected responses and to errors. No GPU is held while the writer is waited for."""

from dataclasses import dataclass

from harness.contracts.judge import answered
from harness.contracts.stage import Asked, Kind, Work
from harness.judging.codebook import Codebook
from harness.judging.hire import kind_for
from harness.scoring.verdicts import JUDGE, keep_replies
from harness.stages._asked import asked
from harness.stages._drawn import Drawn
from harness.stages._examples import locked_examples
from harness.store.store import Stage
from harness.system.jsonl import dumps, read_jsonl
from harness.system.untrusted import json_object
from harness.training.lens import corrected


class Lens(Kind):
    """What training did to chosen and rejected responses and to errors, on the split's first examples.

    writer: what identifies the writer
    codebook: the errors that are looked for
    """

    writer: Asked
    codebook: Codebook

    @dataclass(frozen=True, kw_only=True)
    class Reads(Kind.Reads):
        """The examples, and what base and policy make of them."""

        split: Stage
        probe: Stage

    @property
    def asks(self) -> Asked:
        """The writer."""
        return self.writer

    def fill(self, work: Work) -> None:
        """Ask the writer for the errors of base and policy; write `profile.json`, with the probe's figures."""
        reads, found = self.Reads.of(work.step), {}
        probe = work.folder(reads.probe)
        figures = json_object(probe / "profile.json")
        if Drawn.of(reads.split).data or not kind_for("writer", work.testbed).drawn_only:
            said = list(read_jsonl(tuple[str, str], probe / "said.jsonl"))
            examples = locked_examples(work, reads.split)[: len(said)]
            before, after = ([texts[at] for texts in said] for at in (0, 1))
            writer = asked(work, "writer", reads.split)
            found = answered(writer, lambda who: corrected(examples, before, after, who, self.codebook))
            if account := keep_replies(work.out, writer):
                (work.out / JUDGE).write_text(dumps(account), encoding="utf-8")
        (work.out / "profile.json").write_text(dumps(figures | found), encoding="utf-8")
