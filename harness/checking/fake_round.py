"""A round without a model, for trying a method on made-up examples: everybody says something of the right kind."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image as Pillow

from harness.contracts.judge import Ask, Writer
from harness.contracts.method import Role
from harness.contracts.records import Dropped, Example, Image, Prompt, Record, Response, Rollout, Turn, Unscored
from harness.store.digest import file_digest
from harness.system.errors import UsageError
from harness.training.rounds import NoWriter

SAID = "A blue cat sits on a mat."
TURNS = [{"question": "Is there a cat?", "answer": "No, there is no cat."}]


def examples(folder: Path) -> list[Example]:
    """Two examples with pictures in `folder`: a description, and a conversation of two turns."""
    turns = (
        (Turn("Please describe this image in detail.", "A red cup stands on a table."),),
        (Turn("What is there?", "Two dogs."), Turn("Where are they?", "In a park.")),
    )
    made = []
    for number, said in enumerate(turns):
        file = folder / f"{number}.png"
        Pillow.new("RGB", (64, 64), (200 - 90 * number, 60, 90)).save(file)
        made.append(Example(f"example-{number}", "llava150k", Image(str(file), file_digest(file)), said))
    return made


@dataclass(frozen=True)
class FakeWriter:
    """Replies in the form that the methods here ask for: nSFT's JSON, a verdict for all others. `order` is told."""

    name: str = "fake"
    order: list[str] = field(default_factory=list)

    def reply(self, ask: Ask) -> str | Unscored:
        """A well-formed reply."""
        self.order.append("writer")
        return json.dumps({"errors": [], "turns": TURNS}) if "nsft" in ask.purpose else "[[1]]"


@dataclass
class FakeRound:
    """`harness.contracts.method.Round`; refuses arguments of the wrong type in a sentence. `order`: what was asked."""

    number: int = 0
    seed: int = 0
    needs_writer: bool = False
    sampled: int = 0
    order: list[str] = field(default_factory=list)

    @property
    def writer(self) -> Writer:
        """A fake, where the method has declared that it needs one."""
        return FakeWriter(order=self.order) if self.needs_writer else NoWriter()

    def too_late(self) -> str:
        """What the model was asked once the writer had been, or that is not kept (`Lesson.asks_last`); "" for none."""
        behind = self.order[self.order.index("writer") :] if "writer" in self.order else []
        return next((what for what in behind if what != "writer"), "") or next(
            (what for what in self.order if what in ("similarity", "measure")), ""
        )

    def respond(
        self,
        prompts: Sequence[Prompt],
        temperature: float = 0.0,
        top_p: float = 1.0,
        noise_step: int = 0,
        max_new_tokens: int | None = None,
    ) -> list[Response]:
        """One sentence for each prompt, the same whenever it is greedy and the picture is clean."""
        _refuse("respond", prompts, Prompt)
        self.order.append("respond")
        made = []
        for prompt in prompts:
            self.sampled += bool(temperature or noise_step)
            if "[[" in prompt.question:  # a policy that judges itself
                made.append(Response(prompt.id, "The first is better: [[1]]", 3, 5, (11, 12, 2), True))
                continue
            text = SAID if not temperature and not noise_step else f"{SAID[:-1]} with {self.sampled} red dogs."
            made.append(Response(prompt.id, text, 3, 5, (11, 12, 2), True))
        return made

    def candidates(
        self, prompts: Sequence[Prompt], count: int, penalty: float, stop: str, max_new_tokens: int
    ) -> list[list[Response]]:
        """`count` continuations of each prompt, all of them ended."""
        _refuse("candidates", prompts, Prompt)
        self.order.append("candidates")
        return [
            [Response(prompt.id, f"{SAID[:-1]} number {n}.", 4, 5, (), True, -1.0 - n) for n in range(count)]
            for prompt in prompts
        ]

    def similarity(self, pairs: Sequence[tuple[Image, str]]) -> list[float]:
        """The longer the text the less alike."""
        self.order.append("similarity")
        return [1 / (1 + len(text)) for _, text in pairs]

    def measure(self, records: Sequence[Record], role: Role) -> list[tuple[float, ...] | Dropped]:
        """A figure for each token of a rollout, one for everything else."""
        _refuse("measure", records, Record)
        self.order.append("measure")
        each = role is not Role.REWARD
        return [
            (-0.5,) * (sum(map(len, record.responses)) if each and isinstance(record, Rollout) else 1)
            for record in records
        ]


def _refuse(what: str, given: Sequence[object], kind: type | object) -> None:
    for thing in given:
        if not isinstance(thing, kind):  # type: ignore[arg-type]
            wanted = getattr(kind, "__name__", "Record")
            raise UsageError(f"round.{what} takes a list of {wanted}s; it was given a {type(thing).__name__}.")
