"""What a method is handed to build one round's records, and what becomes of records that cannot be trained on.

What costs generation is kept in the store under what was asked, so that methods share it and a killed run goes on.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import backends, families
from harness.contracts.backend import Backend, Model, Running, Sampling, Search
from harness.contracts.judge import Ask, Writer, reply_of
from harness.contracts.judge_kind import Hired
from harness.contracts.method import Lesson, Role
from harness.contracts.records import Dropped, Image, Pair, Prompt, Record, Response, Unscored
from harness.contracts.settings import Dtype, Runtime, Testbed, Training
from harness.models.folder import family_of
from harness.models.load import Loaded, Words, kept, revision
from harness.store.closure import code
from harness.store.shelves import shelf
from harness.store.store import Stage, Store
from harness.system.errors import HarnessError
from harness.system.jsonl import dumps, read_jsonl, write_jsonl
from harness.system.profile import Tick
from harness.training.split import MALFORMED_LIMIT

if TYPE_CHECKING:
    from harness.models.tree import Tree

SPENT = ("writer_calls", "generated_tokens", "forward_tokens")
TOO_LONG = "too long"  # how the reasons of `harness.models.tree.TooLong` begin
PREFIX = 250  # what is generated is kept by so many prompts, so that a longer split finds that of its prefix


class NoWriter(Hired):
    """Stands in where a method has not said that it needs a writer."""

    name = "none"

    def reply(self, ask: Ask) -> str | Unscored:
        """Refuses, with the cure."""
        raise HarnessError(f"a method asked its writer about {ask.id} without declaring needs_writer = True.")


@dataclass
class OwnRound:
    """`harness.contracts.method.Round` of one build step.

    `policy` is the model that responds and `policy_key` its identity; `base` is the base model's folder, `shelf` that
    of its images' features. `response_tokens` and `dtype` are how it responds, `max_length` is how many tokens of a
    record are looked at; `trained` are the trainings of the roles that it goes on from, the first of which was by
    `training`.
    """

    number: int
    seed: int
    asked: Writer
    store: Store
    testbed: Testbed
    runtime: Runtime
    lesson: Lesson
    response_tokens: int
    dtype: Dtype
    policy: Model
    policy_key: str
    base: Path
    shelf: Path
    tick: Tick
    max_length: int | None = None
    trained: Mapping[Role, Stage] = field(default_factory=dict)
    training: Training | None = None
    spent: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPENT, 0))

    @property
    def name(self) -> str:
        """The writer's name."""
        return self.asked.name

    @property
    def backend(self) -> Backend:
        """Who makes the policy respond."""
        return backends.responder(self.testbed.generation, self.runtime)

    @property
    def model(self) -> Model:
        """The policy, as the backend takes it."""
        return backends.taken(self.backend, self.policy, self.store)

    @property
    def running(self) -> Running:
        """How that is laid on the machine."""
        return Running(self.runtime.answered_at_once, self.tick, self.shelf)

    @property
    def writer(self) -> Writer:
        """The testbed's writer; its calls are counted for the fairness card."""
        return self

    def reply(self, ask: Ask) -> str | Unscored:
        """Ask the writer, and count."""
        self.spent["writer_calls"] += 1
        return reply_of(self.asked, ask)

    def respond(
        self,
        prompts: Sequence[Prompt],
        temperature: float = 0.0,
        top_p: float = 1.0,
        noise_step: int = 0,
        max_new_tokens: int | None = None,
    ) -> list[Response]:
        """The policy's own responses, computed once per comparison whoever asks."""
        most = self.response_tokens
        sampling = Sampling(
            max_new_tokens=min(most, max_new_tokens or most),
            temperature=temperature,
            top_p=top_p,
            noise_step=noise_step,
            seed=self.seed,
            dtype=self.dtype,
        )

        def made(part: Sequence[Prompt]) -> list[Response]:
            """The backend's responses, one to each prompt; HarnessError where it gave others."""
            said = self.backend.respond(self.model, part, sampling, self.running)
            backends.insist(getattr(said, "responses", said), part)
            return said.responses

        return self.kept("responses", prompts, sampling.model_dump(), made)

    def candidates(
        self, prompts: Sequence[Prompt], count: int, penalty: float, stop: str, max_new_tokens: int
    ) -> list[list[Response]]:
        """Diverse continuations by the policy, computed once."""
        search = Search(count=count, penalty=penalty, stop=stop, max_new_tokens=max_new_tokens, dtype=self.dtype)

        def made(part: Sequence[Prompt]) -> list[Response]:
            """The backend's candidates, a prompt's behind each other; HarnessError where there are not `count`."""
            found = self.backend.candidates(self.model, part, search, self.running)
            flat = [response for each in found for response in each]
            backends.insist(flat, part, count)
            return flat

        flat = self.kept("candidates", prompts, search.model_dump(), made)
        return [flat[at : at + count] for at in range(0, len(flat), count)]

    def kept(
        self,
        kind: str,
        prompts: Sequence[Prompt],
        how: dict[str, Any],
        make: Callable[[Sequence[Prompt]], list[Response]],
    ) -> list[Response]:
        """What `make` gives for the prompts, from the store where it was made before; tokens are counted either way."""
        found: list[Response] = []
        for start in range(0, len(prompts), PREFIX):
            part = prompts[start : start + PREFIX]
            asked = [dumps(replace(p, image=replace(p.image, path="") if p.image else None)) for p in part]
            digest = hashlib.sha256("\n".join(asked).encode()).hexdigest()
            files = backends.file_of(self.testbed.generation), families.file_of(family_of(self.base))
            what = {"policy": self.policy_key, "prompts": digest, "sampling": how, **code(*files)}
            what["backend"] = backends.identity(self.testbed.generation)
            folder = self.store.run(Stage(kind, what), partial(_write, make=make, prompts=part))
            found += read_jsonl(Response, folder / "responses.jsonl")
        self.spent["generated_tokens"] += sum(response.tokens for response in found)
        self.spent["forward_tokens"] += sum(response.prompt_tokens + response.tokens for response in found)
        return found

    def similarity(self, pairs: Sequence[tuple[Image, str]]) -> list[float]:
        """Cosine of each image and text under the testbed's CLIP."""
        from harness.models.clip import similarity

        folder = Path(self.testbed.clip)
        kept = shelf(self.store, revision(folder), "harness.models.clip")
        return similarity(folder, pairs, self.runtime.answered_at_once or 128, self.tick, kept)

    def measure(self, records: Sequence[Record], role: Role) -> list[tuple[float, ...] | Dropped]:
        """A role's figures for each record, without a gradient; Dropped for one that the role cannot read: it is too
        long for the model, or what was sampled holds the token of a picture's places.

        Made in the dtype that the roles were trained in, so that a training that goes on from them begins with ratios
        of 1.
        """
        from harness.models import reference
        from harness.models.roles import HEADED, assemble, bare

        headed = role in HEADED
        base = self.policy if role is Role.POLICY else self.base if headed or self.lesson.continues else self.policy
        dtype = self.training.dtype if self.training else self.dtype
        loaded = kept(base, dtype)
        loaded.features.folder = self.shelf
        lora = self.training.lora if self.training and headed else None
        trunk = [Role.POLICY] if role is Role.CRITIC and self.lesson.shared_trunk else []
        folders = {r: self.store.sound(stage.name) / "adapters" / r for r, stage in self.trained.items()}
        lesson = replace(self.lesson, trains=(), shared_trunk=bool(trunk))
        roles = assemble(loaded.model, lora, self.seed, lesson, folders, [role, *trunk])
        column = {Role.REWARD: "reward", Role.CRITIC: "value"}.get(role, "policy")
        size = self.runtime.read_batch_size
        read = [readable(record, loaded, role, self.max_length) for record in records]
        forest = [one for one in read if not isinstance(one, Dropped)]
        self.spent["forward_tokens"] += sum(tree.tokens for tree in forest)
        with bare(roles):
            found = reference.figures(roles, loaded, forest, size, [column], self.tick)
        return [one if isinstance(one, Dropped) else tuple(found[one.id][column].tolist()) for one in read]


def _write(out: Path, make: Callable[[Sequence[Prompt]], list[Response]], prompts: Sequence[Prompt]) -> None:
    write_jsonl(out / "responses.jsonl", make(prompts))


def readable(record: Record, loaded: Loaded, role: Role, max_length: int | None = None) -> "Tree | Dropped":
    """The record as a tree, or why the role cannot read it."""
    from harness.models.tree import TooLong, tree

    try:
        return tree(record, loaded, max_length)
    except TooLong:
        return Dropped(record.id, f"{TOO_LONG} for the {role} to read")
    except ValueError as error:
        return Dropped(record.id, str(error))


def trainable(record: Record | Dropped, loaded: Loaded | Words, max_length: int | None = None) -> Record | Dropped:
    """The record, or why it cannot be learnt from: equal sides, text that spells control tokens, too many tokens."""
    from harness.models.tree import tree

    if isinstance(record, Dropped):
        return record
    if isinstance(record, Pair) and record.chosen == record.rejected:
        return Dropped(record.id, "chosen and rejected are the same")
    try:
        tree(record, loaded, max_length)
    except ValueError as error:
        return Dropped(record.id, str(error))
    return record


def refuse_malformed(built: Sequence[Record | Dropped], made: Sequence[Record | Dropped]) -> None:
    """Stop where more than 1 % of what a method built cannot be trained on; its own filters and lengths only count.

    Of fewer than 100 records one would be more than 1 %: they are dropped with their reasons, as everywhere.
    """
    changed = (after for before, after in zip(built, made, strict=True) if before is not after)
    bad = [after for after in changed if not (isinstance(after, Dropped) and after.reason.startswith(TOO_LONG))]
    if len(bad) > MALFORMED_LIMIT * len(built) and len(built) >= 100:
        first = bad[0]
        raise HarnessError(
            f"{len(bad)} of {len(built)} records are malformed, the first {first.id}"
            f"{f': {first.reason}' if isinstance(first, Dropped) else ''}; mend the data or the method before training."
        )
