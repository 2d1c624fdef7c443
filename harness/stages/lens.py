"""What training did to chosen and rejected responses and to errors."""

from dataclasses import dataclass, replace
from functools import partial

from harness.contracts.judge import answered
from harness.contracts.method import Lesson
from harness.contracts.records import Prompt
from harness.contracts.stage import Kind, Work
from harness.judging.codebook import Codebook
from harness.judging.hire import kind_for
from harness.scoring.verdicts import JUDGE, keep_replies
from harness.stages._asked import asked
from harness.stages._drawn import Drawn
from harness.stages._examples import locked_examples
from harness.stages._model import Trained
from harness.stages._responding import Responding
from harness.store.store import Stage
from harness.system.jsonl import dumps
from harness.training import lens as looking
from harness.training.rounds import NoWriter


class Lens(Responding):
    """What training did to chosen and rejected responses and to errors, on the split's first examples.

    examples: on how many
    codebook: the errors that are looked for
    """

    examples: int
    codebook: Codebook

    @dataclass(frozen=True, kw_only=True)
    class Reads(Kind.Reads):
        """The examples, and the training that is looked at."""

        split: Stage
        policy: Stage

    def fill(self, work: Work) -> None:
        """Let base and policy respond, compare, and ask the writer for the errors of both."""
        reads, size = self.Reads.of(work.step), work.runtime.read_batch_size
        examples = locked_examples(work, reads.split)[: self.examples]
        trained = self.own_round(work, Lesson(), NoWriter(), Trained(policy=reads.policy))
        base = replace(trained, policy=trained.base, policy_key=self.model)
        prompts = [Prompt(e.id, e.image, e.turns[0].question) for e in examples]
        figures: dict[str, float] = {"examples": len(examples)}
        sequences = partial(looking.sequences, dtype=self.dtype, batch_size=size, tick=work.tick, shelf=trained.shelf)
        said, sums = [], []
        for one in (base, trained):  # all that is wanted of a model while it is loaded
            said.append([response.text.strip() for response in one.respond(prompts)])
            pairs = looking.probes(examples, said[0])
            sums.append(sequences(one.policy, pairs) if pairs else [])
        before, after = said
        figures |= looking.ratios(*sums) if all(sums) else {}
        if Drawn.of(reads.split).data or not kind_for("writer", work.testbed).drawn_only:
            writer = asked(work, "writer", reads.split)
            figures |= answered(writer, lambda who: looking.corrected(examples, before, after, who, self.codebook))
            if account := keep_replies(work.out, writer):
                (work.out / JUDGE).write_text(dumps(account), encoding="utf-8")
        (work.out / "profile.json").write_text(dumps(figures), encoding="utf-8")
