"""The examples that a method builds from."""

from harness.images import resolved
from harness.split import EXAMPLES, LOCK, check_lock
from harness.stages.work import Work
from harness.types import Example, read_jsonl


def locked_examples(work: Work) -> list[Example]:
    """The split's examples, as locked, their images where they lie now."""
    locked = list(read_jsonl(Example, work.folder("split") / EXAMPLES))
    check_lock(work.folder("split") / LOCK, locked)
    return [resolved(example, work.places) for example in locked]
