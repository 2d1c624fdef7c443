"""Files of responses to a task of lmms-eval: what its `--log_samples` wrote, or a record per document."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks._files import checked, name_of, parsed, said, text_in
from harness.contracts.records import Image, Item, Response
from harness.system.errors import UsageError

NO_TEXT = re.compile(r"[\[{]|$|null$|true$|false$")  # answers that JSON and Python write in two ways
TEXTS = ("text", "response", "prediction", "answer")


class Unseen:
    """Pictures that are told apart, and that nobody looks at."""

    def at(self, path: Path) -> Image:
        """The picture in a file."""
        return self.of(path.read_bytes())

    def of(self, data: bytes) -> Image:
        """A picture by the digest of its file."""
        return Image("", hashlib.sha256(data).hexdigest())


def answered(path: Path, items: Sequence[Item]) -> list[Response]:
    """The responses in a file. A sample names its document by `doc_id`, its number in the split; other records an item.

    UsageError for a record of neither form, and for a sample of another document than the one of its number here.
    """
    rows = parsed(path)
    rows = checked(path, rows if isinstance(rows, list) else [rows], [])
    by_number = {str(item.facts["document"]): item for item in items}
    found: dict[Response, None] = {}  # a sample stands there once for each of the task's filters
    for number, row in enumerate(rows, 1):
        if "doc_id" in row:
            found[_sampled(path, number, row, by_number)] = None
        else:
            id = name_of(path, number, row.get("question_id", row.get("id")))
            found[Response(id, said(path, number, row, TEXTS), 0)] = None
    return list(found)


def _sampled(path: Path, number: int, row: Mapping[str, Any], items: Mapping[str, Item]) -> Response:
    """The response in a sample: as it came, where filters left something else of it."""
    given = row.get("resps", row.get("filtered_resps"))
    while isinstance(given, list) and len(given) == 1:
        [given] = given
    text, id = text_in(f'"resps" of record {number} of {path}', given), name_of(path, number, row["doc_id"])
    if id not in items:
        return Response(f"doc_id {id}", text, 0)
    answer, target = items[id].facts["answer"], str(row.get("target"))
    if "target" in row and target != answer and not NO_TEXT.match(answer):
        raise UsageError(
            f"record {number} of {path} is of a document with the answer {target!r}, and document {id} here has "
            f"{answer!r}; name the data set that was asked about."
        )
    return Response(items[id].id, text, 0)
