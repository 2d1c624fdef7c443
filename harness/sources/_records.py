"""Records of data files, in any format and schema, as examples.

A record that cannot be used has the reason in its place. What stops the run is a file that is none, and a field that
nothing here reads: it could hold a picture, a turn or a preference.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from harness.contracts.pictures import Pictures
from harness.contracts.records import Example, Turn
from harness.contracts.settings import Reading
from harness.contracts.source import check_text
from harness.contracts.wordings import IMAGE
from harness.sources._rows import each
from harness.sources._schemas import GPT, HUMAN, NOT_IN_TURN, Said, plain_cell, said
from harness.system.errors import UsageError


def records(file: Path, reading: Reading, prefix: str = "") -> Iterator[tuple[str, Said | str]]:
    """The file's records by id: what each says, or why it cannot be used. With `prefix`, those whose image begins so.

    Ids are the records' own. Where several share one (LLaVA-150k asks three kinds of question about an image) or
    have none, the record's digest tells them apart, so that an id never depends on the order of the file. Only equal
    records keep equal ids.
    """
    return by_id(parsed(file, reading, prefix))


def by_id(found: "Sequence[Parsed]") -> Iterator[tuple[str, Said | str]]:
    """Parsed records by their ids, as `records` gives them."""
    count = Counter(one.own for one in found)
    for own, digest, told in found:
        yield own if own and count[own] == 1 else "#".join(filter(None, (own, digest))), told


class Parsed(NamedTuple):
    """A record as it is kept: its own id, "" for none, its digest, and what it says, or why it cannot be used."""

    own: str
    digest: str
    told: Said | str


def parsed(file: Path, reading: Reading, prefix: str = "") -> list[Parsed]:
    """All records; UsageError where a field is not read."""

    def kept(record: Any) -> Parsed | None:
        """A row as it is kept; None for one whose picture another source has."""
        if prefix and not _image_of(record).startswith(prefix):
            return None
        return Parsed(_own_id(record), _digest(record), _told(record, reading))

    found = [one for one in each(file, kept) if one]
    refuse_unread(file, [one.told for one in found])
    return found


def _told(record: Any, reading: Reading) -> Said | str:
    """What a record says, or why it cannot be used."""
    try:
        return said(record, reading.ignore)
    except ValueError as error:
        return str(error)


def refuse_unread(file: Path, told: Sequence[Said | str]) -> None:
    """UsageError that names every field which nothing here reads, with how many records have it."""
    unread = Counter(name for one in told if isinstance(one, Said) for name in one.unread)
    if unread:
        named = ", ".join(f"{name} ({count:,} of {len(told):,} records)" for name, count in unread.most_common(8))
        cure = f'--set "reading.ignore=[{", ".join(sorted(unread))}]"'
        raise UsageError(
            f"{file}: nothing here reads {named}; docs/records.md has what is read. Take them out, or leave them "
            f"out with {cure}, which is noted as a part of the comparison."
        )


def _image_of(record: Any) -> str:
    return str(record.get("image")) if isinstance(record, dict) else ""


def _own_id(record: Any) -> str:
    """The record's id as printable text, empty where it has none."""
    id = record.get("id") if isinstance(record, dict) else None
    if isinstance(id, bool) or not isinstance(id, str | int):
        return ""
    return str(id).encode("utf-8", "backslashreplace").decode()


def _digest(record: Any) -> str:
    return sha256(json.dumps(record, sort_keys=True, default=plain_cell).encode()).hexdigest()[:12]


def example(source: str, id: str, told: Said | str, pictures: Pictures, reading: Reading) -> Example:
    """The example in a record; raises ValueError with the reason where there is none."""
    if isinstance(told, str):
        raise ValueError(told)
    shown = told.picture is not None
    turns = _turns(told.turns, shown, reading)
    rejected = None if told.rejected is None else _text(told.rejected, reading)
    return Example(id, source, pictures(told.picture) if shown else None, turns, rejected)


def _turns(spoken: Sequence[tuple[str, Any]], shown: bool, reading: Reading) -> tuple[Turn, ...]:
    if not spoken:
        raise ValueError("no conversations")
    if [speaker for speaker, _ in spoken] != [HUMAN, GPT] * (len(spoken) // 2):
        raise ValueError(NOT_IN_TURN)
    values = [value for _, value in spoken]
    if not all(isinstance(value, str) for value in values):
        raise ValueError("a turn has no text")
    if shown and values[0].count(IMAGE) == 1:  # before or after the question, as the source has it
        values[0] = values[0].replace(IMAGE, "").strip()  # as `train.py`, `preprocess_multimodal`; other turns stay
    texts = [_text(value, reading) for value in values]
    return tuple(Turn(*pair) for pair in zip(texts[::2], texts[1::2], strict=True))


def _text(text: str, reading: Reading) -> str:
    check_text(text)
    return text.strip() if reading.texts == "stripped" else text
