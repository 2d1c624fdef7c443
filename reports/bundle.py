"""One archive with what a report is made of: tables, responses, scores, judge replies and every stage's manifest.

Equal runs give equal bytes: names are sorted, dates and permissions fixed. `reports.archive` reads it back.
"""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.system.errors import UsageError
from reports.archive import NAME
from reports.runs import Run

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a zip file knows
_ALWAYS = {"manifest.json", "split.lock", "profile.json", "summary.json", "log.jsonl", "dropped.jsonl", "judge.json"}
_SCORES = {"score"}  # stages whose JSON files are all kept
_ANSWERS = {"items", "generate", "answer", "score", "crosscheck"}


def write_bundle(file: Path, runs: Sequence[Run], responses: bool = True) -> None:
    """The runs in one file; without `responses` only what tables are computed from: units and manifests."""
    found: dict[str, Path] = {}
    for number, run in enumerate(run for given in runs for run in given.parts or (given,)):
        files = [path for path in run.folder.iterdir() if responses or path.name in _ALWAYS]
        found |= {f"runs/{number:03}/{path.name}": path for path in files if _own(path).is_file()}
        for name in run.manifest.stages:
            found |= {f"store/{name}/{path.name}": path for path in _kept(run.store / name, responses)}
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    with zipfile.ZipFile(part, "w") as archive:
        for name in sorted(name for name in found if NAME.fullmatch(name)):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, found[name].read_bytes(), zipfile.ZIP_DEFLATED, 9)
    part.replace(file)


def _own(path: Path) -> Path:
    """The path; UsageError where it is a link: what it leads to may be no part of a run."""
    if path.is_symlink():
        raise UsageError(f"{path} is a link, and a bundle is for others to read; put there what it should hold.")
    return path


def _kept(stage: Path, responses: bool) -> Iterator[Path]:
    """The files of a stage that go into a bundle: no weights, no images, no training data."""
    kind = stage.parent.name
    whole = kind in (_ANSWERS if responses else _SCORES)
    for path in stage.iterdir() if _own(stage).is_dir() and kind != "data" else ():
        text = path.suffix in (".json", ".jsonl") and (responses or path.name == "units.json")
        asked = responses and path.name == "replies.jsonl"  # of a writer; a judge's are in a score stage
        if _own(path).is_file() and (path.name in _ALWAYS or asked or (whole and text)):
            yield path
