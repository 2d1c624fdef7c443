"""A policy's responses to a benchmark."""

from harness.images import resolved
from harness.model import kept
from harness.profile import measure
from harness.sampler import Sampling, respond
from harness.stages.policy import base_shelf, policy
from harness.stages.work import Work
from harness.types import Item, Prompt, dumps, read_jsonl, write_jsonl


def generate(work: Work) -> None:
    """The policy's responses to a benchmark's items."""
    what, out = work.what, work.out
    items = list(read_jsonl(Item, work.folder("items") / "items.jsonl"))
    prompts = [Prompt(item.id, resolved(item, work.places).image, item.prompt) for item in items]
    sampling = Sampling.model_validate(what["sampling"])
    size = what.get("batch_size", work.runtime.generate_batch_size)
    with measure() as used:
        loaded = kept(policy(work), sampling.dtype)
        before, folder = loaded.features.flops, base_shelf(work)
        responses = respond(policy(work), prompts, sampling, size, work.tick, what["blank"], shelf=folder)
    write_jsonl(out / "responses.jsonl", responses)
    layouts = [loaded.eyes.layout(prompt.image) if prompt.image else None for prompt in prompts]
    blanks = {layout for layout in layouts if layout} if what["blank"] else ()
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
