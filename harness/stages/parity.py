"""Whether another backend is the model that transformers is: the same prompts through both."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Self

from harness import backends
from harness.backends.transformers import Transformers
from harness.contracts.backend import Adapted, Backend, Model, Running, Sampling
from harness.contracts.images import resolved
from harness.contracts.records import Item, Prompt, Response
from harness.contracts.settings import Dtype, Lora
from harness.contracts.stage import Plugins, Work
from harness.contracts.steps import Step
from harness.models.adapters import write_random
from harness.models.load import kept
from harness.stages._model import Modelled
from harness.store.closure import Entry
from harness.store.store import Stage
from harness.system.errors import HarnessError
from harness.system.jsonl import dumps, read_jsonl


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two backends agree: of `prompts` greedy responses, how many are the same token by token; the prompt and
    the place of the first token that is another; the largest difference, in nats, between the log-probs that they give
    to a token of transformers' responses, of which there are `tokens`; by benchmark, how many responses have other
    words, of how many; and by how many nats at most a random adapter moves a log-prob, None where there was none.
    """

    prompts: int
    same: int
    first: str
    tokens: int
    largest: float
    flips: dict[str, list[int]] = field(default_factory=dict)
    adapted: float | None = None


class Parity(Modelled):
    """The base model's responses to the first items of benchmarks by two backends, and both backends' log-probs; and
    the same of the base with a random adapter, where the other backend is handed adapters as they are.

    backend: who makes models respond, and how
    lora: what adapters are like; None where there are none, or they are merged for it
    prompts: how many items of each are asked
    tokens: how many tokens a response may have
    dtype: in which the model responds
    """

    backend: dict[str, Any]
    lora: Lora | None = None
    prompts: int
    tokens: int
    dtype: Dtype

    def loads(self, known: Plugins) -> tuple[Entry | None, ...]:
        """The model's family, and who makes it respond."""
        return known.family, known.backend

    @dataclass(frozen=True, kw_only=True)
    class Reads(Modelled.Reads):
        """What is asked, by the names of benchmarks."""

        items: Mapping[str, Stage]

        @classmethod
        def of(cls, made: Step | Stage) -> Self:
            """The items of as many benchmarks as there are."""
            return cls(items=made.reads if isinstance(made, Step) else made.inputs)

        def named(self) -> dict[str, Stage]:
            """All of them by name."""
            return {**self.items}

    def fill(self, work: Work) -> None:
        """Write `parity.json`."""
        prompts = [
            Prompt(f"{name}/{item.id}", resolved(item, work.places).image, item.prompt)
            for name, stage in self.Reads.of(work.step).items.items()
            for item in islice(read_jsonl(Item, work.folder(stage) / "items.jsonl"), self.prompts)
        ]
        both = Transformers(), backends.chosen(work.testbed.generation)
        base, running = self.base(work), Running(0, work.tick, self.shelf(work))
        with TemporaryDirectory() as place:
            models = {"": base} | ({", adapted": self.adapted(base, Path(place))} if self.lora else {})
            asked = [(model, [replace(p, id=p.id + how) for p in prompts]) for how, model in models.items()]
            ours = [self.heard(both[0], *each, running) for each in asked]  # each model is loaded once
            moved = self.logps(both[0], asked[1][0], prompts, ours[0].said, running) if self.lora else None
            theirs = [self.heard(both[1], *each, running, mine.said) for each, mine in zip(asked, ours, strict=True)]
        one, other = ([part for each in heard for part in each.said] for heard in (ours, theirs))
        made = agreement(one, other, *([row for each in heard for row in each.logps] for heard in (ours, theirs)))
        if moved is not None:
            made = replace(made, adapted=_largest(ours[0].logps, moved))
        (work.out / "parity.json").write_text(dumps(asdict(made)), encoding="utf-8")

    def adapted(self, base: Path, folder: Path) -> Adapted:
        """The base with a random adapter, which lies in `folder`; the base stays loaded."""
        assert self.lora is not None
        loaded = kept(base, self.dtype)
        write_random(loaded.model, loaded.family, self.lora, folder)
        return Adapted(base, (folder,))

    def heard(
        self, one: Backend, model: Model, prompts: Sequence[Prompt], running: Running, said: Sequence[Response] = ()
    ) -> "Heard":
        """A backend's responses, and its log-probs of these tokens; of its own where none are given."""
        sampling = Sampling(max_new_tokens=self.tokens, dtype=self.dtype)
        own = one.respond(model, prompts, sampling, running).responses
        backends.insist(own, prompts)
        return Heard(own, self.logps(one, model, prompts, said or own, running))

    def logps(
        self, one: Backend, model: Model, prompts: Sequence[Prompt], said: Sequence[Response], running: Running
    ) -> list[tuple[float, ...]]:
        """A backend's log-probs of the tokens of responses, as far as there are some."""
        heard = [(prompt, tuple(r.ids)) for prompt, r in zip(prompts, said, strict=True) if r.ids]
        return one.logps(model, [p for p, _ in heard], [ids for _, ids in heard], self.dtype, running)


class Heard(NamedTuple):
    """What a backend says to each prompt, and the log-probs that it gives to tokens."""

    said: list[Response]
    logps: list[tuple[float, ...]]


def agreement(
    ours: Sequence[Response],
    theirs: Sequence[Response],
    our_logps: Sequence[Sequence[float]],
    their_logps: Sequence[Sequence[float]],
) -> Agreement:
    """How far responses to the same prompts agree, and log-probs of the same tokens; HarnessError where
    one is no number.
    """
    apart = [(one.id, _parting(one.ids, other.ids)) for one, other in zip(ours, theirs, strict=True)]
    first = next((f"token {at + 1} of {id}" for id, at in apart if at is not None), "")
    largest, tokens = _largest(our_logps, their_logps), sum(map(len, our_logps))
    return Agreement(len(ours), sum(at is None for _, at in apart), first, tokens, largest, flips(ours, theirs))


def _largest(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> float:
    """The largest difference between log-probs; HarnessError where one is no number."""
    pairs = [pair for both in zip(ours, theirs, strict=True) for pair in zip(*both, strict=True)]
    if not all(math.isfinite(one) for pair in pairs for one in pair):
        raise HarnessError("a backend gives a log-prob that is no number to a token of a response.")
    return max((abs(one - other) for one, other in pairs), default=0.0)


def flips(ours: Sequence[Response], theirs: Sequence[Response]) -> dict[str, list[int]]:
    """By benchmark, with whose name ids begin, how many responses have other words, of how many."""
    found: dict[str, list[int]] = {}
    for one, other in zip(ours, theirs, strict=True):
        others, asked = found.get(name := one.id.partition("/")[0], [0, 0])
        found[name] = [others + (one.text != other.text), asked + 1]
    return found


def _parting(one: Sequence[int], other: Sequence[int]) -> int | None:
    """The place of the first token that two have not in common; None where there is none."""
    if one == other:
        return None
    same = (at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1])
    return next(same, min(len(one), len(other)))
