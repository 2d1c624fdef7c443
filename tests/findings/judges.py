"""Judges that count words: no model, no picture, no meaning. They show what a ranking owes to its judge. Synthetic."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from harness.contracts.judge import Ask
from harness.contracts.records import Unscored

LONG = 20  # words from which a response is as long as can be


def share(reference: str, response: str) -> float:
    """The share of the reference's words that a response has; of <AND> the mean, of <OR> the best."""
    said, found = _words(response), list[float]()
    for element in reference.split("<AND>"):
        wanted = [_words(one) for one in element.split("<OR>")]
        found.append(max(len(one & said) / len(one) if one else 0.0 for one in wanted))
    return sum(found) / len(found)


def strict(reference: str, response: str) -> float:
    """All of the reference's words, or nothing."""
    return float(share(reference, response) == 1)


def length(reference: str, response: str) -> float:
    """How long a response is, whatever it says."""
    return min(1.0, len(response.split()) / LONG)


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", text.lower()))


@dataclass(frozen=True)
class Counting:
    """A judge that grades by one of the rules above, in the form that each benchmark asks for."""

    rule: Callable[[str, str], float]

    @property
    def name(self) -> str:
        """The rule's."""
        return self.rule.__name__

    def reply(self, ask: Ask) -> str | Unscored:
        """MM-Vet's grade, or MMHal's rating."""
        grade = self.rule(ask.facts["reference"], ask.facts["response"])
        if ask.purpose == "mmvet":
            return f"{grade:.1f}"
        return (
            f"Rating: {round(6 * grade)}" if ask.purpose == "mmhal" else Unscored(ask.id, f"no rule for {ask.purpose}")
        )


JUDGES = (Counting(share), Counting(strict), Counting(length))
