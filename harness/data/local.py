"""Your own data: a JSON or JSONL file of LLaVA conversations, or of rows in TRL's preference schema, and its images.

Of a preference row (`prompt`, `chosen`, `images`) the chosen answer is the ground truth; `rejected` is not read.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.config import Reading
from harness.data._llava_json import AS_LLAVA, Order, read
from harness.types import Dropped, Example, UsageError


def load(
    file: Path, images: Path, order: Order | None = None, reading: Reading = AS_LLAVA
) -> Iterator[Example | Dropped]:
    """The file's examples, in its order or sorted by `order(id)`; image paths are relative to `images`."""
    if not file.is_file():
        raise UsageError(f"no data file {file}; give a JSON list of LLaVA conversations.")
    if not images.is_dir():
        raise UsageError(f"no image folder {images}; give the folder that the records' image paths start from.")
    return read("local", file, images, order, adapt=_conversation, reading=reading)


def _conversation(row: Any) -> Any:
    """A preference row as a LLaVA record; any other record as it is."""
    if not isinstance(row, dict) or "chosen" not in row or "conversations" in row:
        return row
    spoken = [*_said(row.get("prompt"), "human"), *_said(row["chosen"], "gpt")]
    record = {name: row[name] for name in ("id", "image") if name in row}
    images = row.get("images")
    if images is not None and images != []:
        record["image"] = images[0] if isinstance(images, list) and len(images) == 1 else images
    return {**record, "conversations": spoken}


def _said(said: Any, speaker: str) -> list[dict[str, Any]]:
    """A text, or a list of chat messages, as turns of a LLaVA record."""
    if not isinstance(said, list):
        return [{"from": speaker, "value": said}]
    names = {"user": "human", "assistant": "gpt"}
    messages = [message if isinstance(message, dict) else {} for message in said]
    return [
        {"from": names.get(str(message.get("role")), "?"), "value": _text(message.get("content"))}
        for message in messages
    ]


def _text(content: Any) -> Any:
    """A message's text without the places of its images."""
    if not isinstance(content, list):
        return content
    parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
    return "\n".join(part for part in parts if isinstance(part, str))
