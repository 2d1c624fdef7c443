"""A method's records."""

from collections import Counter
from typing import Any

from harness.images import movable
from harness.judge import Writer, answered
from harness.method import Method
from harness.model import kept
from harness.panel import insist, keep_replies
from harness.rounds import NoWriter, refuse_malformed, trainable
from harness.rows import resolve
from harness.stages.asked import asked
from harness.stages.examples import locked_examples
from harness.stages.own_round import own_round
from harness.stages.policy import policy, spec
from harness.stages.work import Work
from harness.types import Conversation, Dropped, HarnessError, Record, dumps, write_jsonl


def build(work: Work) -> None:
    """A method's records; `dropped.jsonl` names every example that gave none."""
    what, out = work.what, work.out
    method: Method = resolve(spec(work))
    writer = asked(work, "writer", work.step.reads["split"]) if method.needs_writer else NoWriter()
    lesson = method.lesson(what["round"])
    examples = locked_examples(work)[lesson.part[0] :: lesson.part[1]]

    def build_with(writer: Writer) -> tuple[list[Record | Dropped], dict[str, int]]:
        round = own_round(work, lesson, writer)
        return list(method.build(examples, round)), round.spent

    built, spent = answered(writer, build_with)
    insist(writer)
    loaded = kept(policy(work), what["dtype"])
    made = [trainable(record, loaded, what["max_length"]) for record in built]
    refuse_malformed(built, made)
    if [record.id for record in made] != [example.id for example in examples]:
        raise HarnessError(f"{what['method']} must build one record per example, in order, or a Dropped.")
    records = (movable(record, work.places) for record in made if not isinstance(record, Dropped))
    write_jsonl(out / "records.jsonl", records)
    write_jsonl(out / "dropped.jsonl", (record for record in made if isinstance(record, Dropped)))
    profile: dict[str, Any] = {"examples": len(examples), "parts": lesson.part[1]}
    profile["records"] = sum(not isinstance(record, Dropped) for record in made)
    errors = Counter(e.type for record in made if isinstance(record, Conversation) for e in record.errors)
    profile |= {"errors": errors} if errors else {}
    if worse := sum(example.rejected is not None for example in examples):
        profile |= {"rejected": {"examples": worse, "use": method.preferences}}
    if account := keep_replies(out, writer):
        profile |= {"writer": account}
    (out / "profile.json").write_text(dumps(profile | spent), encoding="utf-8")
