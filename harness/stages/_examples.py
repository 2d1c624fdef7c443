"""The examples that a method builds from."""

from harness.contracts.images import resolved
from harness.contracts.records import Example
from harness.contracts.stage import Work
from harness.store.store import Stage
from harness.system.jsonl import read_jsonl
from harness.training.split import EXAMPLES, LOCK, check_lock


def locked_examples(work: Work, split: Stage) -> list[Example]:
    """The split's examples, as locked, their images where they lie now."""
    folder = work.folder(split)
    locked = list(read_jsonl(Example, folder / EXAMPLES))
    check_lock(folder / LOCK, locked)
    return [resolved(example, work.places) for example in locked]
