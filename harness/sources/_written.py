"""A training record in the schemas of other tools, as `harness.sources._schemas` reads them back.

LLaVA's own JSON (a rejected side as POVID, SIMA and CSR write it), TRL's chat messages and preferences, and ShareGPT's
as LLaMA-Factory reads it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from harness.contracts.records import Conversation, Pair, Turn
from harness.contracts.wordings import IMAGE

FORMS = ("llava", "trl", "sharegpt")
Row = dict[str, Any]


def written(record: Conversation | Pair, form: str, picture: str, source: str) -> Iterator[Row]:
    """A record's rows in a form of `FORMS`: one, or of a conversation with several branches one for each.

    `picture` is the path of its image, "" where it has none; `source` says where the row comes from.
    """
    if isinstance(record, Pair):
        turns = (*record.history, Turn(record.question, record.chosen))
        yield {"id": record.id, "source": source, **_pair(turns, record.rejected, form, picture)}
        return
    for number, turns in enumerate(record.branches):
        id = f"{record.id}#{number}" if record.branches[1:] else record.id
        yield {"id": id, "source": source, **_conversation(turns, form, picture)}


def _conversation(turns: Sequence[Turn], form: str, picture: str) -> Row:
    if form == "trl":
        return {"images": [picture] if picture else [], "messages": _messages(turns, picture)}
    return {**_shown(form, picture), "conversations": _spoken(turns, picture)}


def _pair(turns: Sequence[Turn], rejected: str, form: str, picture: str) -> Row:
    other = (*turns[:-1], replace(turns[-1], answer=rejected))
    if form == "trl":
        told, worse = _messages(turns, picture), _messages(other, picture)
        shown = {"images": [picture] if picture else []}
        return {**shown, "prompt": told[:-1], "chosen": told[-1:], "rejected": worse[-1:]}
    said, worse = _spoken(turns, picture), _spoken(other, picture)
    if form == "llava":
        return {**_shown(form, picture), "conversations": said, "rejected_conversations": worse}
    return {**_shown(form, picture), "conversations": said[:-1], "chosen": said[-1], "rejected": worse[-1]}


def _shown(form: str, picture: str) -> Row:
    if not picture:
        return {}
    return {"image": picture} if form == "llava" else {"images": [picture]}


def _spoken(turns: Sequence[Turn], picture: str) -> list[Row]:
    """Turns of human and gpt; the image stands before the first question."""
    said = []
    for number, turn in enumerate(turns):
        lead = f"{IMAGE}\n" if picture and number == 0 else ""
        said += [{"from": "human", "value": lead + turn.question}, {"from": "gpt", "value": turn.answer}]
    return said


def _messages(turns: Sequence[Turn], picture: str) -> list[Row]:
    """Chat messages whose contents are parts, as processors take them."""
    told = []
    for number, turn in enumerate(turns):
        shown: list[Row] = [{"type": "image"}] if picture and number == 0 else []
        told += [
            {"role": "user", "content": [*shown, {"type": "text", "text": turn.question}]},
            {"role": "assistant", "content": [{"type": "text", "text": turn.answer}]},
        ]
    return told
