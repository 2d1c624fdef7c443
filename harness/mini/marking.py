"""What the oracle says of responses that it need not hold against a scene: HallusionBench's, Object HalBench's."""

import re

from harness.mini.language import claims

LEAD = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)


def mark(reference: str, response: str) -> str:
    """HallusionBench's verdict on an answer to a yes/no question: unclear where it does not begin with either."""
    truth, said = (LEAD.match(text) for text in (reference, response))
    if not truth or not said:
        return "unclear"
    return "correct" if truth[1].lower() == said[1].lower() else "incorrect"


def seen_in(response: str) -> list[str]:
    """The things that a description says are there, each once; what it denies is none."""
    return [claim.category for claim in claims(response).things]
