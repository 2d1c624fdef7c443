"""What the judged benchmarks share: how a response is put before a judge, and what no verdict means."""

import json
import unicodedata
from collections.abc import Callable
from typing import TypeVar

from harness.contracts.judge import Ask, Judge, verdict
from harness.contracts.records import Item, Unscored

Verdict = TypeVar("Verdict")

SYNTAX = set('"\\<>[]|`')  # quotation marks, role markers, table cells, code fences


def fenced(text: str) -> str:
    """The text as one line in quotation marks that nothing inside it can end: data, not instructions.

    It is a JSON string. Whatever is or normalises to syntax, and whatever cannot be seen (line ends, direction
    overrides, zero-width characters), stands there as a JSON escape, so no reader can take it for the end of the data
    or for the start of another speaker's turn.
    """
    return f'"{"".join(map(_inside, text))}"'


def _inside(character: str) -> str:
    if character in '"\\\n\t':
        return json.dumps(character)[1:-1]
    if character.isprintable() and not SYNTAX & set(unicodedata.normalize("NFKC", character)):
        return character
    return "".join(f"\\u{unit:04x}" for unit in _utf16(character))


def _utf16(character: str) -> list[int]:
    data = character.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(data[place : place + 2]) for place in range(0, len(data), 2)]


def ask(
    judge: Judge | None,
    purpose: str,
    item: Item,
    prompt: str,
    facts: dict[str, str],
    parse: Callable[[str], Verdict | None],
    form: str,
    *,
    max_tokens: int = 1024,
    see: bool = False,
) -> Verdict | Unscored:
    """The judge's verdict about a response to `item`, or why there is none.

    `parse` gives None for a reply that is no verdict or out of range: then the judge is asked once more and told the
    `form` (`harness.contracts.judge.verdict`). `max_tokens` bounds the reply. `see` shows the item's image to a judge
    that can see; without it the judge reads text alone.
    """
    if judge is None:
        return Unscored(item.id, f"{purpose} needs a judge and none was given")
    asked = Ask(f"{purpose}/{item.id}", purpose, item.image, prompt, facts, max_tokens, see)
    given = verdict(judge, asked, parse, form)
    return Unscored(item.id, given.reason) if isinstance(given, Unscored) else given
