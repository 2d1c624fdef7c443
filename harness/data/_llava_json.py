"""Reads LLaVA's conversation JSON, the format of every source here, into examples.

The file is a list of {"id", "image", "conversations": [{"from": "human" | "gpt", "value"}, ...]}. A record that cannot
be used becomes `Dropped` with the reason; only a file that is no such list stops the run.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from harness.config import Reading
from harness.digest import file_digest
from harness.images import read_image
from harness.template import IMAGE
from harness.types import Dropped, Example, Image, Turn, UsageError
from harness.untrusted import json_or_lines

RESERVED = (IMAGE, "<s>", "</s>", "<unk>", "<pad>", "<im_start>", "<im_end>", "<im_patch>")

Order = Callable[[str], str]
AS_LLAVA = Reading()


@dataclass(frozen=True, slots=True)
class Source:
    """What is particular to a source.

    `files` are the names its JSON may have, each with the prefix that the `image` of its records has there; `images`
    are the folders its pictures may be in, the first that is there counts. `layout` says where to get them.
    """

    name: str
    files: tuple[tuple[str, str], ...]
    images: tuple[str, ...]
    layout: str

    def load(
        self, folder: Path, order: Order | None = None, reading: Reading = AS_LLAVA
    ) -> Iterator[Example | Dropped]:
        """The examples in `folder`; as `read` gives them."""
        for name, prefix in self.files:
            if (folder / name).is_file():
                found = (folder / images for images in self.images if (folder / images).is_dir())
                return read(self.name, folder / name, next(found, folder), order, prefix, reading=reading)
        names = " or ".join(name for name, _ in self.files)
        raise UsageError(f"source {self.name} needs {names} in {folder}. {self.layout}")


def read(
    source: str,
    file: Path,
    images: Path,
    order: Order | None = None,
    prefix: str = "",
    adapt: Callable[[Any], Any] = lambda record: record,
    reading: Reading = AS_LLAVA,
) -> Iterator[Example | Dropped]:
    """The file's examples, in its order or sorted by `order(id)`; a picture is read when its example is asked for.

    With `prefix`, only the records whose image begins with it; `adapt` turns a record into LLaVA's form.

    Ids are the records' own. Where several share one (LLaVA-150k asks three kinds of question about an image) or
    have none, the record's digest tells them apart, so that an id never depends on the order of the file. Only equal
    records keep equal ids.
    """
    records = [adapt(record) for record in _records(file) if not prefix or _image_of(record).startswith(prefix)]
    ids = [_own_id(record) for record in records]
    count = Counter(ids)
    named = [
        (own if own and count[own] == 1 else "#".join(filter(None, (own, _digest(record)))), record)
        for own, record in zip(ids, records, strict=True)
    ]
    if order is not None:
        named.sort(key=lambda pair: order(pair[0]))
    return _examples(source, named, images, reading)


def _examples(source: str, named: list[tuple[str, Any]], images: Path, reading: Reading) -> Iterator[Example | Dropped]:
    for id, record in named:
        try:
            yield example(source, id, record, images, reading)
        except ValueError as error:
            yield Dropped(id, str(error))


def _records(file: Path) -> list[Any]:
    records = json_or_lines(file, hint="Download it again or mend it.", finite=False)  # NaN says "no image" for some
    if not isinstance(records, list):
        raise UsageError(f"{file} is not a list of records; the README has the format.")
    return records


def _image_of(record: Any) -> str:
    return str(record.get("image")) if isinstance(record, dict) else ""


def _own_id(record: Any) -> str:
    """The record's id as printable text, empty where it has none."""
    id = record.get("id") if isinstance(record, dict) else None
    if isinstance(id, bool) or not isinstance(id, str | int):
        return ""
    return str(id).encode("utf-8", "backslashreplace").decode()


def _digest(record: Any) -> str:
    return sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:12]


def example(source: str, id: str, record: Any, images: Path, reading: Reading = AS_LLAVA) -> Example:
    """The example in a record; raises ValueError with the reason where there is none."""
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    image = record.get("image")
    turns = _turns(record.get("conversations"), image is not None, reading)
    return Example(id, source, None if image is None else _image(image, images, reading.images == "upright"), turns)


def _turns(spoken: Any, has_image: bool, reading: Reading) -> tuple[Turn, ...]:
    if not isinstance(spoken, list) or not spoken:
        raise ValueError("no conversations")
    if len(spoken) % 2 or not all(isinstance(said, dict) for said in spoken):
        raise ValueError("turns do not alternate between human and gpt")
    if [said.get("from") for said in spoken] != ["human", "gpt"] * (len(spoken) // 2):
        raise ValueError("turns do not alternate between human and gpt")
    values = [said.get("value") for said in spoken]
    if not all(isinstance(value, str) for value in values):
        raise ValueError("a turn has no text")
    if has_image and values[0].count(IMAGE) == 1:  # before or after the question, as the source has it
        values[0] = values[0].replace(IMAGE, "").strip()  # as `train.py`, `preprocess_multimodal`; other turns stay
    if reading.texts == "stripped":
        values = [value.strip() for value in values]
    texts = [_text(value) for value in values]
    return tuple(Turn(*pair) for pair in zip(texts[::2], texts[1::2], strict=True))


def _text(text: str) -> str:
    if not text.strip():
        raise ValueError("an empty question or answer")
    for token in RESERVED:
        if token in text:
            raise ValueError(f"a text contains the reserved token {token}")
    if text.encode("utf-8", "replace").decode() != text:
        raise ValueError("a text is not valid Unicode")
    return text


def _image(name: Any, images: Path, upright: bool) -> Image:
    if not isinstance(name, str) or not name:
        raise ValueError("image: not a path")
    if "\0" in name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise ValueError("image: the path leads out of the image folder")
    path = images.absolute() / name
    try:
        if path.is_symlink() and not path.resolve().is_relative_to(path.parent.resolve()):
            raise ValueError("a link that leads out of its folder")
        read_image(path)
        return Image(str(path), file_digest(path), upright)
    except ValueError as error:
        raise ValueError(f"image: {error}") from None
    except (OSError, RuntimeError) as error:  # a name too long, a circle of links
        raise ValueError(f"image: cannot be read ({error})") from None
