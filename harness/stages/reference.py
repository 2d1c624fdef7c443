"""The reference's log-probs."""

from harness.images import resolved
from harness.reference import reference_logps
from harness.stages.policy import base_shelf, policy
from harness.stages.work import Work
from harness.types import Record, dumps, read_jsonl


def reference(work: Work) -> None:
    """The reference's per-token log-probs of every record, once."""
    stored = read_jsonl(Record, work.folder("build") / "records.jsonl")
    records = [resolved(record, work.places) for record in stored]
    file, what = work.out / "logps.safetensors", work.what
    profile = reference_logps(
        policy(work),
        records,
        work.runtime,
        file,
        work.tick,
        what["dtype"],
        what["columns"],
        base_shelf(work),
        what["max_length"],
    )
    (work.out / "profile.json").write_text(dumps(profile), encoding="utf-8")
