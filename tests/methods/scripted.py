"""A round without a model: everybody says what the test has them say."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from harness.contracts.judge import Ask
from harness.contracts.method import Role
from harness.contracts.records import Dropped, Example, Image, Prompt, Record, Response, Rollout, Turn, Unscored

PICTURE = Image("a.png", "0" * 64)
OTHER = Image("b.png", "1" * 64)
DETAIL = "Please describe this image in detail."
EXAMPLES = [
    Example("one", "llava150k", PICTURE, (Turn(DETAIL, "A red cup."),)),
    Example("two", "llava150k", OTHER, (Turn("What is there?", "Two dogs."), Turn("Where?", "In a park."))),
    Example("three", "ocrvqa", PICTURE, (Turn("Who wrote this book?", "Baker"),)),
]
TURNS = [{"question": "Is there a cat?", "answer": "No, there is no cat."}]


def written(turns: list[dict[str, str]] = TURNS) -> str:
    return json.dumps({"errors": [], "turns": turns})


@dataclass
class Scripted:
    """`says` answers a prompt (greedy and clean unless told), `replies` an ask; `seen` keeps what was asked."""

    says: Callable[..., str] = lambda prompt, **how: "A blue cat."
    replies: Callable[[Ask], str | Unscored] = lambda ask: written() if "nsft" in ask.purpose else "[[1]]"
    sentences: Callable[[Prompt], list[tuple[str, float, bool]]] = lambda prompt: [("A cat.", -1.0, True)]
    cosines: Callable[[Image, str], float] = lambda image, text: 0.2
    figures: Callable[[Record, Role], tuple[float, ...]] | None = None
    number: int = 0
    seed: int = 0
    name: str = "scripted"
    asked: list[Ask] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)

    @property
    def writer(self) -> "Scripted":
        return self

    def reply(self, ask: Ask) -> str | Unscored:
        self.asked.append(ask)
        return self.replies(ask)

    def respond(
        self,
        prompts: Sequence[Prompt],
        temperature: float = 0.0,
        top_p: float = 1.0,
        noise_step: int = 0,
        max_new_tokens: int | None = None,
    ) -> list[Response]:
        self.prompts += prompts
        said = [self.says(p, temperature=temperature, top_p=top_p, noise_step=noise_step) for p in prompts]
        return [Response(p.id, text, 3, 5, (11, 12, 2), True) for p, text in zip(prompts, said, strict=True)]

    def candidates(
        self, prompts: Sequence[Prompt], count: int, penalty: float, stop: str, max_new_tokens: int
    ) -> list[list[Response]]:
        made = [[Response(p.id, t, 1, 5, (), end, logp) for t, logp, end in self.sentences(p)] for p in prompts]
        assert all(len(each) <= count for each in made)
        return made

    def similarity(self, pairs: Sequence[tuple[Image, str]]) -> list[float]:
        return [self.cosines(image, text) for image, text in pairs]

    def measure(self, records: Sequence[Record], role: Role) -> list[tuple[float, ...] | Dropped]:
        if self.figures:
            return [self.figures(record, role) for record in records]
        return [
            (-0.5,) * sum(map(len, record.responses)) if isinstance(record, Rollout) else (0.25,) for record in records
        ]
