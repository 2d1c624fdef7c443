"""What training did to chosen and rejected responses and to errors."""

from dataclasses import replace
from functools import partial

from harness import lens as looking
from harness.hire import kind_for
from harness.judge import answered
from harness.method import Lesson
from harness.panel import JUDGE, keep_replies
from harness.rounds import NoWriter
from harness.stages.asked import asked
from harness.stages.examples import locked_examples
from harness.stages.own_round import own_round
from harness.stages.work import Work
from harness.types import Prompt, dumps


def lens(work: Work) -> None:
    """What training did to chosen and rejected responses and to errors, on the split's first examples."""
    what, size = work.what, work.runtime.per_device_train_batch_size
    examples = locked_examples(work)[: what["examples"]]
    trained = own_round(work, Lesson(), NoWriter())
    base = replace(trained, policy=trained.base, policy_key=what["model"])
    prompts = [Prompt(e.id, e.image, e.turns[0].question) for e in examples]
    before, after = ([response.text.strip() for response in one.respond(prompts)] for one in (base, trained))
    found: dict[str, float] = {"examples": len(examples)}
    sequences = partial(looking.sequences, dtype=what["dtype"], batch_size=size, tick=work.tick, shelf=trained.shelf)
    if pairs := looking.probes(examples, before):
        sums = [sequences(one.policy, pairs) for one in (base, trained)]
        found |= looking.ratios(*sums) if all(sums) else {}
    if "data" in work.step.reads["split"].inputs or not kind_for("writer", work.testbed).drawn_only:
        writer = asked(work, "writer", work.step.reads["split"])
        found |= answered(writer, lambda who: looking.corrected(examples, before, after, who, what["codebook"]))
        if account := keep_replies(work.out, writer):
            (work.out / JUDGE).write_text(dumps(account), encoding="utf-8")
    (work.out / "profile.json").write_text(dumps(found), encoding="utf-8")
