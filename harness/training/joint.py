"""Examples of another source that are learnt together with a row's records, each as the conversation that it is.

The paper's Table 2 trains nSFT so: its 15k records and LLaVA's 665k in one order, under one token cross-entropy.
"""

from collections.abc import Sequence

from harness.contracts.records import Conversation, Example, Record
from harness.system.errors import HarnessError
from harness.training.split import FEW, MALFORMED_LIMIT


def said(example: Example) -> Record:
    """An example as a record, whose id begins with its source's name."""
    return Conversation(f"{example.source}:{example.id}", example.image, (example.turns,))


def refuse_malformed(malformed: Sequence[str], count: int) -> None:
    """HarnessError where more of `count` examples are malformed than records may be; `malformed` says how, each."""
    if len(malformed) > MALFORMED_LIMIT * count and count >= FEW:
        raise HarnessError(
            f"{len(malformed):,} of {count:,} examples of training.joint are malformed, the first {malformed[0]}; mend "
            "the data, or leave them out: --set training.joint=null."
        )
