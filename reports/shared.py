"""Pictures that a comparison trains on and asks about as well; COCO's train2017 holds most of val2014.

By the digest of the file, and by the COCO id in its name; a picture in another size or cut is for `harness data leaks`.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from harness.store.store import Stage
from harness.system import untrusted
from reports.manifest import Shared

COCO = re.compile(r"(?:^|_)(\d{12})\.jpe?g$", re.IGNORECASE)


def coco_id(path: str) -> str:
    """The COCO id in a picture's name, as each edition of COCO names its files; empty where there is none."""
    found = COCO.search(PurePosixPath(path).name)
    return found[1] if found else ""


def shared(scores: Iterable[Stage], folder: Callable[[Stage], Path | None]) -> dict[str, Shared]:
    """Of every benchmark with pictures how many of them any row was trained on; empty where none was trained.

    `scores` are the stages of a table's cells, `folder` gives a finished stage's files, None where it is not there.
    """
    asked, splits = dict[str, Stage](), dict[str, Stage]()
    for score in scores:
        asked[score.identity["benchmark"]] = score.inputs["items"]
        splits |= {stage.key: stage for stage in _behind(score) if stage.kind == "split"}
    trained = {image for stage in splits.values() for image in _pictures(folder(stage), "examples.jsonl")}
    digests, ids = {digest for digest, _ in trained}, {id for _, id in trained if id}
    found = dict[str, Shared]()
    for name, stage in asked.items() if trained else ():
        if pictures := set(_pictures(folder(stage), "items.jsonl")):
            same = {digest for digest, _ in pictures if digest in digests}
            coco = {digest for digest, id in pictures if id in ids} - same
            found[name] = Shared(pictures=len({digest for digest, _ in pictures}), files=len(same), coco=len(coco))
    return found


def _behind(stage: Stage) -> Iterator[Stage]:
    """Every stage that this one was made from, once."""
    todo, met = [stage], {stage.name}
    while todo:
        for read in todo.pop().inputs.values():
            if read.name not in met:
                met.add(read.name)
                todo.append(read)
                yield read


def _pictures(folder: Path | None, name: str) -> Iterator[tuple[str, str]]:
    """(sha256 of the file, COCO id) of the pictures in a stage's lines."""
    if folder is None or not (folder / name).is_file():
        return
    with untrusted.opened(folder / name) as lines:
        for line in lines:
            thing: dict[str, Any] = untrusted.parse_json(line.decode(), f"a line of {folder / name}")
            if image := thing["image"]:
                yield image["sha256"], coco_id(image["path"])
