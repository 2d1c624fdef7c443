"""What a row says, in any of the usual schemas: LLaVA's and ShareGPT's, chat messages, TRL's preferences.

docs/records.md lists them. Nothing of a row is passed over in silence: what is not read comes back in `Said.unread`,
and what a conversation about one image cannot hold is a ValueError, whose text is the reason to drop the row by.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.contracts.pictures import Embedded
from harness.contracts.wordings import IMAGE
from harness.families.llava import SYSTEM

# Names of things that say nothing about image, turns or preference.
ABOUT = frozenset(
    "id idx index uid uuid sample_id question_id model source dataset ds_name data_source split category language "
    "license metadata origin_dataset origin_split".split()
)
PICTURE = ("image", "images", "image_path")
WHOLE = ("conversations", "messages")
HUMAN, GPT = "human", "gpt"
SPEAKERS = {"human": HUMAN, "user": HUMAN, "gpt": GPT, "assistant": GPT}
SPOKEN = ("from", "value", "role", "content")
NOT_IN_TURN = "turns do not alternate between human and gpt"

Turns = list[tuple[str, Any]]  # speaker and text


@dataclass(frozen=True, slots=True)
class Said:
    """A row's picture as its cell has it (None: none), its turns, the answer that was rejected, and unread fields."""

    picture: Any
    turns: tuple[tuple[str, Any], ...]
    rejected: str | None
    unread: tuple[str, ...]


def is_nothing(cell: Any) -> bool:
    """Whether a cell holds nothing: null, NaN, "", [], {}."""
    return cell is None or cell in ("", [], {}) or (isinstance(cell, float) and math.isnan(cell))


def _is_no_picture(cell: Any) -> bool:
    """Whether a cell holds no picture, also as a list of none, or as `datasets` writes one without bytes and path."""
    if isinstance(cell, dict | list):
        return all(map(_is_no_picture, cell.values() if isinstance(cell, dict) else cell))
    return is_nothing(cell)


def said(row: Any, ignore: Collection[str] = ()) -> Said:
    """What a row says; fields named in `ignore` count as not there."""
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    fields = {str(name): cell for name, cell in row.items() if name not in ignore and not is_nothing(cell)}
    fields = {name: cell for name, cell in fields.items() if name not in PICTURE or not _is_no_picture(cell)}
    reader = _Reader(fields, ignore)
    turns, rejected = reader.conversation()
    unread = sorted(set(fields) - reader.read - ABOUT)
    return Said(reader.picture(), tuple(turns), rejected, tuple(unread))


class _Reader:
    """Reads one row; `read` are the names of the fields that it made use of."""

    def __init__(self, fields: Mapping[str, Any], ignore: Collection[str]) -> None:
        self.fields, self.ignore = fields, ignore
        self.read: set[str] = set(PICTURE)
        self.shown: list[Any] = []  # pictures that stand inside messages

    def conversation(self) -> tuple[Turns, str | None]:
        """The turns, ending with the chosen answer, and the rejected one."""
        whole = [name for name in WHOLE if name in self.fields]
        if len(whole) > 1:
            raise ValueError(f"both conversations and messages{left_out('messages')}")
        if "chosen" in self.fields:
            return self._preferred(whole[0] if whole else "prompt")
        if not whole:
            raise ValueError("no conversations")
        turns = self._turns(whole[0], GPT)
        return turns, self._rejected(turns)

    def _preferred(self, before: str) -> tuple[Turns, str | None]:
        """TRL's rows: what was asked (`prompt`, or the turns that both sides share), `chosen` and `rejected`."""
        asked = self._turns(before, HUMAN) if before in self.fields else []
        if not asked and not isinstance(self.fields["chosen"], list):
            raise ValueError("chosen is one text and there is no prompt")
        chosen = self._after("chosen", asked)
        if "rejected" not in self.fields:
            return chosen, None
        return chosen, _last(chosen, self._after("rejected", asked), "rejected")

    def _after(self, name: str, asked: Turns) -> Turns:
        """The whole conversation with one side's answer; a side may repeat what was asked."""
        turns = self._turns(name, GPT)
        return turns if turns[: len(asked)] == asked else [*asked, *turns]

    def _rejected(self, chosen: Turns) -> str | None:
        """The rejected answer beside a whole conversation, as POVID (and SIMA, CSR) and ms-swift write it."""
        for name in ("rejected_conversations", "rejected_messages"):
            if name in self.fields:
                return _last(chosen, self._turns(name, GPT), name)
        if "rejected_response" in self.fields:
            return _last(chosen, [*chosen[:-1], *self._turns("rejected_response", GPT)], "rejected_response")
        return None

    def _turns(self, name: str, speaker: str) -> Turns:
        """A field's turns; a text alone is one turn of `speaker`."""
        self.read.add(name)
        cell = self.fields[name]
        if isinstance(cell, str) and name not in WHOLE:
            return [(speaker, cell)]
        listed = [cell] if isinstance(cell, dict) else cell
        if not isinstance(listed, list):
            raise ValueError("no conversations")
        if not all(isinstance(turn, dict) for turn in listed):
            raise ValueError(NOT_IN_TURN)
        return [turn for turn in map(self._turn, listed) if turn is not None]

    def _turn(self, turn: Mapping[str, Any]) -> tuple[str, Any] | None:
        """One turn as speaker and text; None for a system turn that says nothing beyond the template's own."""
        more = sorted(n for n, cell in turn.items() if n not in (*SPOKEN, *self.ignore) and not is_nothing(cell))
        if more:
            raise ValueError(f"a turn has the field {more[0]!r}, which is not read{left_out(more[0])}")
        who = turn.get("from", turn.get("role"))
        text = self._text(turn.get("value", turn.get("content")))
        if who == "system":
            if "system" in self.ignore or is_nothing(text) or (isinstance(text, str) and text.strip() == SYSTEM):
                return None
            raise ValueError(f"a system turn, for which LLaVA's template has no place{left_out('system')}")
        if isinstance(who, str) and who not in SPEAKERS:
            raise ValueError(f"a turn of {who[:40]!r}, for which LLaVA's template has no place")
        return SPEAKERS.get(str(who), "?"), text

    def _text(self, content: Any) -> Any:
        """A turn's text; of a list of parts the texts by line, with a place for each picture in front."""
        if not isinstance(content, list):
            return content
        places, texts = 0, list[str]()
        for part in content:
            if not isinstance(part, dict):
                raise ValueError("a turn has no text")
            kind, more = part.get("type"), {name for name, cell in part.items() if not is_nothing(cell)} - {"type"}
            if kind == "text" and isinstance(part.get("text"), str):
                texts.append(part["text"])
                more -= {"text"}
            elif kind == "image" and part.get("index") in (None, 0):  # of the row's images
                places += 1
                self.shown += [part[name] for name in sorted(more & {"image", "path"})]
                more -= {"image", "path", "index"}
            else:
                raise ValueError(f"a turn has a part that is no text and no single image: {str(kind)[:40]}")
            if more - set(self.ignore):
                raise ValueError(f"a turn has the field {min(more)!r}, which is not read{left_out(min(more))}")
        return IMAGE * places + "\n".join(texts)

    def picture(self) -> Any:
        """The one picture, wherever the row has it; None where it has none."""
        cells = [self.fields[name] for name in PICTURE if name in self.fields] + self.shown
        found = [part for cell in cells for part in (cell if isinstance(cell, list) else [cell])]
        distinct = [cell for place, cell in enumerate(found) if cell not in found[:place]]
        if len(distinct) > 1 or len(found) > len(cells):
            raise ValueError(f"{len(found)} images; LLaVA-1.5 takes one")
        return distinct[0] if distinct else None


def _last(chosen: Sequence[tuple[str, Any]], rejected: Sequence[tuple[str, Any]], name: str) -> str:
    """The rejected side's last answer, if all before it is as on the chosen side."""
    if not rejected or rejected[-1][0] != GPT or list(rejected[:-1]) != list(chosen[:-1]):
        raise ValueError(f"chosen and {name} differ before their last answer")
    answer = rejected[-1][1]
    if not isinstance(answer, str) or not answer.strip():
        raise ValueError(f"{name}: no answer")
    return answer


def left_out(name: str) -> str:
    """The cure for a field that is in the way, as `harness.training.split` shows it."""
    return f" (cure: --set reading.ignore=[{name}] leaves it out)"


def plain_cell(cell: Any) -> Any:
    """A cell as JSON can carry it, for digests: a picture by its digest."""
    return cell.sha256 if isinstance(cell, Embedded) else str(cell)
