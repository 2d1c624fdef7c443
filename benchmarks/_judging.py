"""What the judged benchmarks share: how a response is put before a judge, and what no reply means."""

import json

from harness.judge import Ask, Judge
from harness.types import Item, Unscored


def fenced(text: str) -> str:
    """The text as one line in quotation marks that nothing inside it can end: data, not instructions."""
    return json.dumps(text, ensure_ascii=False)


def ask(judge: Judge | None, purpose: str, item: Item, prompt: str, facts: dict[str, str]) -> str | Unscored:
    """The judge's reply about a response to `item`, or why there is none."""
    if judge is None:
        return Unscored(item.id, f"{purpose} needs a judge and none was given")
    reply = judge.reply(Ask(f"{purpose}/{item.id}", purpose, item.image, prompt, facts))
    return Unscored(item.id, reply.reason) if isinstance(reply, Unscored) else reply
