"""What base and policy say to examples, and how likely each finds chosen and rejected: what a lens looks through."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from harness import families
from harness.contracts.method import Lesson
from harness.contracts.records import Pair, Prompt
from harness.contracts.stage import Kind, Work
from harness.models.folder import family_of
from harness.stages._examples import locked_examples
from harness.stages._model import Trained
from harness.stages._responding import Responding
from harness.store.closure import code
from harness.store.store import Stage
from harness.system.jsonl import dumps, read_jsonl, write_jsonl
from harness.training import lens as looking
from harness.training.rounds import NoWriter

Sums = list[tuple[float, float]]  # of log-probs of chosen and rejected, pair by pair


class Probe(Responding):
    """What base and policy say to the split's first examples, and how likely each finds chosen and rejected.

    examples: how many
    """

    examples: int

    @dataclass(frozen=True, kw_only=True)
    class Reads(Kind.Reads):
        """The examples, and the training that is looked at."""

        split: Stage
        policy: Stage

    def fill(self, work: Work) -> None:
        """Write `said.jsonl`, the two responses to each example, and `profile.json`, what became of log-probs."""
        reads, size = self.Reads.of(work.step), work.runtime.read_batch_size
        examples = locked_examples(work, reads.split)[: self.examples]
        trained = self.own_round(work, Lesson(), NoWriter(), Trained(policy=reads.policy))
        base = replace(trained, policy=trained.base, policy_key=self.model)
        prompts = [Prompt(e.id, e.image, e.turns[0].question) for e in examples]
        sequences = partial(looking.sequences, dtype=self.dtype, batch_size=size, tick=work.tick, shelf=trained.shelf)
        before = [response.text.strip() for response in base.respond(prompts)]
        pairs = looking.probes(examples, before)
        first = self.of_base(work, pairs, partial(sequences, base.policy)) if pairs else []
        after = [response.text.strip() for response in trained.respond(prompts)]
        write_jsonl(work.out / "said.jsonl", zip(before, after, strict=True))
        figures: dict[str, float] = {"examples": len(examples)}
        figures |= looking.ratios(first, sequences(trained.policy, pairs)) if first else {}
        (work.out / "profile.json").write_text(dumps(figures), encoding="utf-8")

    def of_base(self, work: Work, pairs: Sequence[Pair], make: Callable[[Sequence[Pair]], Sums]) -> Sums:
        """What `make` gives of the base, made once: every row of a split is held against it."""
        asked = [dumps(replace(pair, image=replace(pair.image, path="") if pair.image else None)) for pair in pairs]
        what = {"policy": self.model, "pairs": hashlib.sha256("\n".join(asked).encode()).hexdigest()}
        files = families.file_of(family_of(self.base(work))), "harness.training.lens"
        stage = Stage("probed", {**what, "dtype": self.dtype, **code(*files)})

        def fill(out: Path) -> None:
            write_jsonl(out / "sums.jsonl", make(pairs))

        folder = work.store.run(stage, fill)
        return list(read_jsonl(tuple[float, float], folder / "sums.jsonl"))
