"""What a call costs: the most that it can, the likely, and what is charged once the server has counted.

A budget holds because a call is reserved at a bound that no server exceeds which counts no more than one token per byte
of the request and its parameters (plus `OVERHEAD_TOKENS` for a template or system prompt of its own, plus the most an
image can have) and keeps to the limit on its reply, reasoning included. A server's own figures are charged where they
can be true, and never less than a token per four bytes of what was really sent and received; where they cannot, the
bound is charged.
"""

import json
from collections.abc import Mapping
from typing import Any

from harness.judging.replies import Usage
from harness.system.errors import UsageError

# USD per million tokens (input, output), OpenAI's list prices; a testbed's `prices` go before these.
PRICES: Mapping[str, tuple[float, float]] = {
    "gpt-3.5-turbo-0125": (0.5, 1.5),
    "gpt-4-0314": (30.0, 60.0),
    "gpt-4-0613": (30.0, 60.0),
    "gpt-4-1106-preview": (10.0, 30.0),
    "gpt-4-turbo-2024-04-09": (10.0, 30.0),
    "gpt-4o-2024-08-06": (2.5, 10.0),
    "gpt-4o-2024-11-20": (2.5, 10.0),
    "gpt-4o-mini-2024-07-18": (0.15, 0.6),
    "gpt-4.1-2025-04-14": (2.0, 8.0),
    "gpt-4.1-mini-2025-04-14": (0.4, 1.6),
}
# The most tokens of one image: 8 tiles (OpenAI), 1,536 patches times 1.62 (4.1-mini); of others 16,384 (Qwen2-VL).
IMAGE_TOKENS = {
    "gpt-4-turbo-2024-04-09": 1_445,
    "gpt-4o-2024-08-06": 1_445,
    "gpt-4o-2024-11-20": 1_445,
    "gpt-4o-mini-2024-07-18": 48_169,
    "gpt-4.1-2025-04-14": 1_445,
    "gpt-4.1-mini-2025-04-14": 2_489,
}
OTHER_IMAGE_TOKENS = 20_000
BATCH_SHARE = 0.5  # of these prices, which questions of a batch cost: OpenAI's, and whoever else's has such an API
OVERHEAD_TOKENS, LIKELY_OVERHEAD_TOKENS = 256, 16
# English has a token in 4 to 5 bytes, no natural text one in more than 8; a paragraph is a likely reply.
LIKELY_BYTES_PER_TOKEN, MOST_BYTES_PER_TOKEN, LIKELY_REPLY_TOKENS = 4, 8, 256
LIMITS = ("max_tokens", "max_completion_tokens")
PLAIN = ("model", "messages", "temperature", "seed", *LIMITS)  # fields of a request that no model reads


def prompt_bytes(body: Mapping[str, Any]) -> int:
    """UTF-8 bytes of the request's one message."""
    return len(body["messages"][0]["content"].encode())


def image_tokens(body: Mapping[str, Any]) -> int:
    """The most tokens of the request's image; 0 without one."""
    return IMAGE_TOKENS.get(body["model"], OTHER_IMAGE_TOKENS) if "image" in body["messages"][0] else 0


def limit_of(request: Mapping[str, Any]) -> int | None:
    """The most tokens that a request lets the reply have; None where it sets no limit."""
    return max((request[name] for name in LIMITS if request.get(name) is not None), default=None)


def bound(body: Mapping[str, Any], unlimited: int) -> tuple[int, int]:
    """The most tokens of request and reply; `unlimited` of a reply without a limit."""
    most = prompt_bytes(body) + parameter_bytes(body) + OVERHEAD_TOKENS + image_tokens(body)
    return most, limit_of(body) or unlimited


def parameter_bytes(body: Mapping[str, Any]) -> int:
    """Bytes of a user's own parameters: a server may put them before the model, as it does with a JSON schema."""
    return sum(len(json.dumps(body[name])) for name in body if name not in PLAIN)


def likely(body: Mapping[str, Any], unlimited: int) -> tuple[int, int]:
    """The likely tokens of request and reply."""
    size = prompt_bytes(body) + parameter_bytes(body)
    prompt = size // LIKELY_BYTES_PER_TOKEN + LIKELY_OVERHEAD_TOKENS + image_tokens(body)
    return prompt, min(limit_of(body) or unlimited, LIKELY_REPLY_TOKENS)


def charged(body: Mapping[str, Any], usage: Usage, unlimited: int) -> tuple[int, int]:
    """The tokens of request and reply to be paid for: the server's count where it can be true, and never below ours."""
    most, sent = bound(body, unlimited), prompt_bytes(body)
    prompt, completion = usage.prompt, usage.completion
    if prompt is None or prompt < max(1, sent // MOST_BYTES_PER_TOKEN):
        prompt = most[0]
    if completion is None or completion < max(min(1, usage.visible), usage.visible // MOST_BYTES_PER_TOKEN):
        completion = most[1]
    prompt = max(prompt, sent // LIKELY_BYTES_PER_TOKEN)
    completion = max(completion, usage.visible // LIKELY_BYTES_PER_TOKEN, (usage.total or 0) - prompt)
    return prompt, completion


def usd(tokens: tuple[float, float], price: tuple[float, float] | None) -> float:
    """USD for tokens of request and reply; 0 where the price is not known, which a budget does not allow."""
    into, out = price or (0.0, 0.0)
    return (tokens[0] * into + tokens[1] * out) / 1e6


def check_budget_of(model: str, part: str, price: tuple[float, float] | None, limit: int | None) -> None:
    """UsageError where a budget could not hold: without a price, or without a limit on replies.

    `part` is "judging" or "writing", where the user sets them.
    """
    if price is None:
        raise UsageError(unpriced(model, part))
    if limit is None and any(price):
        given = "{max_tokens: null, max_completion_tokens: NUMBER}"
        raise UsageError(f"--budget needs a limit on replies: give --set {part}.parameters={given}.")


def unpriced(model: str, part: str) -> str:
    """What to do about an unknown price."""
    return (
        f"--budget needs the price of {model}: give --set {part}.price=[INPUT,OUTPUT], or write `prices: "
        f"{{{model}: [INPUT, OUTPUT]}}` into the testbed, in USD per million tokens (0 for a server of your own)."
    )
