"""One archive with what a report is made of: tables, responses, scores, judge replies and every stage's manifest.

Equal runs give equal bytes: names are sorted, dates and permissions fixed. What is read back is hostile until it has
been checked: plain files with our kind of names, and no more of them than a comparison can have.
"""

import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.types import UsageError

if TYPE_CHECKING:
    from reports.runs import Run

MOST_FILES, MOST_BYTES = 100_000, 4 << 30
_NAME = re.compile(r"(runs/\d{3}|store/[a-z][a-z0-9_]{0,39}/[0-9a-f]{20})/[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a zip file knows
_ALWAYS = {"manifest.json", "split.lock", "profile.json", "summary.json", "log.jsonl", "dropped.jsonl", "judge.json"}
_SCORES, _ANSWERS = {"score"}, {"items", "generate", "score", "crosscheck"}  # stages whose JSON files are all kept


def write_bundle(file: Path, runs: Sequence["Run"], responses: bool = True) -> None:
    """The runs in one file; without `responses` only what tables are computed from: units and manifests."""
    found: dict[str, Path] = {}
    for number, run in enumerate(run for given in runs for run in given.parts or (given,)):
        files = [path for path in run.folder.iterdir() if responses or path.name in _ALWAYS]
        found |= {f"runs/{number:03}/{path.name}": path for path in files if path.is_file()}
        for name in run.manifest["stages"]:
            found |= {f"store/{name}/{path.name}": path for path in _kept(run.store / name, responses)}
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    with zipfile.ZipFile(part, "w") as archive:
        for name in sorted(name for name in found if _NAME.fullmatch(name)):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, found[name].read_bytes(), zipfile.ZIP_DEFLATED, 9)
    part.replace(file)


def _kept(stage: Path, responses: bool) -> Iterator[Path]:
    """The files of a stage that go into a bundle: no weights, no images, no training data."""
    kind = stage.parent.name
    whole = kind in (_ANSWERS if responses else _SCORES)
    for path in stage.iterdir() if stage.is_dir() and kind != "data" else ():
        text = path.suffix in (".json", ".jsonl") and (responses or path.name == "units.json")
        asked = responses and path.name == "replies.jsonl"  # of a writer; a judge's are in a score stage
        if path.is_file() and (path.name in _ALWAYS or asked or (whole and text)):
            yield path


def is_bundle(file: Path) -> bool:
    """Whether it is an archive at all."""
    return file.is_file() and zipfile.is_zipfile(file)


def unpack(file: Path, folder: Path) -> None:
    """Write a bundle's files under `folder`; UsageError, and nothing outside it, for any other archive."""
    try:
        with zipfile.ZipFile(file) as archive:
            _check(file, archive.infolist())
            for entry in archive.infolist():
                target = folder / entry.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, target.open("wb") as sink:  # reads no more than was declared
                    shutil.copyfileobj(source, sink)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise UsageError(f"{file} is damaged: {error}.") from None
    if not (folder / "runs").is_dir():
        raise UsageError(f"{file} is not a bundle of `harness report`: there is no run in it.")


def _check(file: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
    """UsageError for names that are not ours, names that collide, and too much of anything."""
    if len(entries) > MOST_FILES or sum(entry.file_size for entry in entries) > MOST_BYTES:
        raise UsageError(
            f"{file} holds more than {MOST_FILES:,} files or {MOST_BYTES >> 30} GiB: no report is so large."
        )
    seen: set[str] = set()
    for entry in entries:
        known = entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        if not known or not _NAME.fullmatch(entry.filename) or entry.filename.lower() in seen:
            raise UsageError(f"{file} is not a bundle of `harness report`: it holds {entry.filename[:100]!r}.")
        seen.add(entry.filename.lower())
