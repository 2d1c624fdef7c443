"""Whether another backend is the model that transformers is: the same prompts through both."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, Self

from harness import backends
from harness.backends.transformers import Transformers
from harness.contracts.backend import Running, Sampling
from harness.contracts.images import resolved
from harness.contracts.records import Item, Prompt, Response
from harness.contracts.settings import Dtype
from harness.contracts.stage import Plugins, Work
from harness.contracts.steps import Step
from harness.stages._model import Modelled
from harness.store.closure import Entry
from harness.store.store import Stage
from harness.system.errors import HarnessError
from harness.system.jsonl import dumps, read_jsonl


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two backends agree: of `prompts` greedy responses, how many are the same token by token; the prompt and
    the place of the first token that is another; the largest difference, in nats, between the log-probs that they give
    to a token of transformers' responses, of which there are `tokens`; and by benchmark, how many responses have other
    words, of how many.
    """

    prompts: int
    same: int
    first: str
    tokens: int
    largest: float
    flips: dict[str, list[int]] = field(default_factory=dict)


class Parity(Modelled):
    """The base model's responses to the first items of benchmarks by two backends, and both backends' log-probs.

    backend: who makes models respond, and how
    prompts: how many items of each are asked
    tokens: how many tokens a response may have
    dtype: in which the model responds
    """

    backend: dict[str, Any]
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
        sampling = Sampling(max_new_tokens=self.tokens, dtype=self.dtype)
        model, running = self.base(work), Running(0, work.tick, self.shelf(work))
        ours, said, theirs = list[tuple[float, ...]](), list[list[Response]](), list[tuple[float, ...]]()
        for one, logps in zip(both, (ours, theirs), strict=True):  # each model is loaded once
            said.append(one.respond(model, prompts, sampling, running).responses)
            backends.insist(said[-1], prompts)
            heard = [(prompt, tuple(r.ids)) for prompt, r in zip(prompts, said[0], strict=True) if r.ids]
            logps += one.logps(model, [p for p, _ in heard], [ids for _, ids in heard], self.dtype, running)
        made = agreement(said[0], said[1], ours, theirs)
        (work.out / "parity.json").write_text(dumps(asdict(made)), encoding="utf-8")


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
    pairs = [
        pair
        for mine, its in zip(our_logps, their_logps, strict=True)
        for pair in zip(mine, its, strict=True)
    ]  # fmt: skip
    if not all(math.isfinite(one) for pair in pairs for one in pair):
        raise HarnessError("a backend gives a log-prob that is no number to a token of a response.")
    largest = max((abs(one - other) for one, other in pairs), default=0.0)
    return Agreement(len(ours), sum(at is None for _, at in apart), first, len(pairs), largest, flips(ours, theirs))


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
