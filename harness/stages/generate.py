"""A policy's responses to a benchmark."""

from dataclasses import dataclass

from harness.config import Fixed
from harness.contracts.stage import Kind, Work
from harness.images import resolved
from harness.model import Dtype, kept
from harness.profile import measure
from harness.sampler import Sampling, respond
from harness.stages._model import Modelled
from harness.store import Stage
from harness.types import Item, Prompt, dumps, read_jsonl, write_jsonl


class Decoding(Fixed):
    """How a response is taken from the model; temperature 0 is greedy."""

    max_new_tokens: int
    temperature: float
    dtype: Dtype


class Generate(Modelled):
    """The policy's responses to a benchmark's items.

    sampling: how responses are taken
    blank: whether the model is shown blank images
    batch_size: of how many items a batch is, where that is what is looked at (the noise floor)
    """

    sampling: Decoding
    blank: bool
    batch_size: int = 0

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
        sampling = Sampling.model_validate(self.sampling.model_dump())
        size = self.batch_size or work.runtime.generate_batch_size
        with measure() as used:
            model, shelf = self.policy(work, reads.policy), self.shelf(work)
            loaded = kept(model, sampling.dtype)
            before = loaded.features.flops
            responses = respond(model, prompts, sampling, size, work.tick, self.blank, shelf=shelf)
        write_jsonl(out / "responses.jsonl", responses)
        layouts = [loaded.eyes.layout(prompt.image) if prompt.image else None for prompt in prompts]
        blanks = {layout for layout in layouts if layout} if self.blank else ()
        profile = used() | {
            "items": len(items),
            "batch_size": size,
            "generated_tokens": sum(response.tokens for response in responses),
            "forward_tokens": sum(response.prompt_tokens + response.tokens for response in responses),
            "flops": loaded.features.flops
            - before
            + sum(map(loaded.flops.tower, blanks))
            + sum(
                loaded.flops.respond(response.prompt_tokens, response.tokens, layout)
                for layout, response in zip(layouts, responses, strict=True)
                if not response.unanswered
            ),
        }
        (out / "profile.json").write_text(dumps(profile), encoding="utf-8")
