"""A policy's responses to a benchmark."""

from dataclasses import dataclass, replace
from typing import Any

from harness import backends
from harness.contracts.backend import Running, Sampling
from harness.contracts.images import resolved
from harness.contracts.records import Item, Prompt
from harness.contracts.stage import Kind, Plugins, Work
from harness.stages._model import Answering
from harness.store.closure import Entry
from harness.store.store import Stage
from harness.system.jsonl import dumps, read_jsonl, write_jsonl
from harness.system.profile import measure


class Generate(Answering):
    """The policy's responses to a benchmark's items.

    backend: who makes the policy respond, and how
    sampling: how responses are taken
    blank: whether the model is shown blank images
    batch_size: of how many items a batch is, where that is what is looked at (the noise floor)
    """

    backend: dict[str, Any]
    sampling: Sampling
    blank: bool
    batch_size: int = 0

    def loads(self, known: Plugins) -> tuple[Entry | None, ...]:
        """The model's family, and who makes it respond."""
        return known.family, known.backend

    @dataclass(frozen=True, kw_only=True)
    class Reads(Kind.Reads):
        """What is asked, and the training of the policy that responds; None: the base model does."""

        items: Stage
        policy: Stage | None = None

    def fill(self, work: Work) -> None:
        """Write `responses.jsonl`, and what it took."""
        reads, out = self.Reads.of(work.step), work.out
        items = list(read_jsonl(Item, work.folder(reads.items) / "items.jsonl"))
        prompts = [Prompt(item.id, resolved(item, work.places).image, item.prompt) for item in items]
        size = self.batch_size or work.runtime.answered_at_once
        running = Running(size, work.tick, self.shelf(work))
        backend = backends.responder(work.testbed.generation, work.runtime)
        model = backends.taken(backend, self.policy(work, reads.policy), work.store)
        with measure() as used:
            made = backend.respond(model, prompts, self.sampling, running, self.blank)
        backends.insist(getattr(made, "responses", made), prompts)
        used.peak_host_gib, used.peak_device_gib = map(max, made.peaks, (used.peak_host_gib, used.peak_device_gib))
        write_jsonl(out / "responses.jsonl", (replace(response, ids=()) for response in made.responses))
        profile = used() | {
            "items": len(items),
            "batch_size": size,
            "generated_tokens": sum(response.tokens for response in made.responses),
            "forward_tokens": sum(response.prompt_tokens + response.tokens for response in made.responses),
            **({} if made.flops is None else {"flops": made.flops}),
        }
        (out / "profile.json").write_text(dumps(profile), encoding="utf-8")
