"""How much a method asks of the policy for one example, by trying: prompts, answers, and tokens of each."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from harness.comparison.bill import Taken
from harness.contracts.method import Method
from harness.contracts.records import Example, Image, Prompt, Response, Turn

ANSWER, SENTENCE = 100, 20  # tokens of an answer, and of a sentence of it


class Asked(NamedTuple):
    """So many prompts are read, and so many answers given, of so many tokens each.

    most: tokens for which each is given room; 0: as many as any response may have
    """

    prompts: int
    answers: int
    tokens: int = ANSWER
    most: int = 0


def asked_of_policy(method: Method, number: int, seed: int) -> list[Asked]:
    """What a method asks in its round `number`; one answer where it takes no made-up example."""
    turn = Turn("What is in the image?", "A cup.")
    round = _Asking(number, seed)
    try:
        list(method.build([Example("", "", Image("", ""), (turn,))], round))
    except Exception:  # it came to figures that only a model gives, or a file of the user's knows its own data alone
        round.asked.extend([] if round.asked else [Asked(1, 1)])
    return [one for one in round.asked if one.answers]


@dataclass(frozen=True)
class _Asking(Taken):
    """A round that notes what it is asked for. A search sentence by sentence ends where an answer would."""

    asked: list[Asked] = field(default_factory=list)

    def respond(
        self, prompts: Sequence[Prompt], *how: Any, max_new_tokens: int | None = None, **named: Any
    ) -> list[Response]:
        """Counts the prompts; texts that nobody said, no two alike."""
        self.asked.append(Asked(len(prompts), len(prompts), min(ANSWER, max_new_tokens or ANSWER), max_new_tokens or 0))
        said = super().respond(prompts, *how, max_new_tokens=max_new_tokens, **named)
        return [replace(one, text=f"{one.text} {len(self.asked)}") for one in said]  # no two of them are alike

    def candidates(
        self, prompts: Sequence[Prompt], count: int, penalty: float, stop: str, max_new_tokens: int
    ) -> list[list[Response]]:
        """Counts `count` candidates of a sentence to each prompt; the last ones end once an answer is full."""
        tokens = min(SENTENCE, max_new_tokens)
        self.asked.append(Asked(len(prompts), count * len(prompts), tokens, max_new_tokens))
        over = (sum(one.tokens for one in self.asked)) >= ANSWER
        return [
            [Response(p.id, f"{at} of {len(self.asked)}{stop}", tokens, ended=over, logp=-1.0) for at in range(count)]
            for p in prompts
        ]

    def similarity(self, pairs: Sequence[tuple[Image, str]]) -> list[float]:
        """The same cosine for every pair."""
        return [0.2] * len(pairs)
