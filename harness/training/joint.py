"""Examples of another source that are learnt together with a row's records, each as the conversation that it is.

The paper's Table 2 trains nSFT so: its 15k records and LLaVA's 665k in one order, under one token cross-entropy.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from harness.contracts.images import resolved
from harness.contracts.records import Conversation, Example
from harness.models.load import Loaded
from harness.models.tree import TooLong, Tree, tree
from harness.system.errors import HarnessError
from harness.system.jsonl import read_jsonl
from harness.training.job import Job
from harness.training.split import FEW, MALFORMED_LIMIT


class Joined(NamedTuple):
    """Trees of the examples, whose ids begin with their source's name, and how many examples have none."""

    trees: Sequence[Tree]
    dropped: int

    @property
    def tokens(self) -> int:
        """Supervised ones."""
        return sum(one.supervised for one in self.trees)


def joined(job: Job, loaded: Loaded) -> Joined:
    """Those of a job. Examples too long for the model are left out, and as many malformed ones as records may be."""
    made, malformed, count = list[Tree](), list[str](), 0
    for example in read_jsonl(Example, Path(job.joint)) if job.joint else ():
        count += 1
        said = Conversation(f"{example.source}:{example.id}", example.image, (example.turns,))
        try:
            made.append(tree(resolved(said, job.places) if job.places else said, loaded, job.training.max_length))
        except TooLong:
            continue
        except ValueError as error:
            malformed.append(f"{example.id}: {error}")
    if len(malformed) > MALFORMED_LIMIT * count and count >= FEW:
        raise HarnessError(
            f"{len(malformed):,} of {count:,} examples of training.joint are malformed, the first {malformed[0]}; mend "
            "the data, or leave them out: --set training.joint=null."
        )
    return Joined(made, count - len(made))
