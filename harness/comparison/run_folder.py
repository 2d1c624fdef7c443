"""The folder of one comparison: its name, whose it is, and that all its files belong to the manifest beside them.

A folder's tables are taken away before another manifest comes, and come before the manifest says `finished`. So a kill
at any instant leaves files of one comparison, or fewer of them under a manifest that says so.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from harness.contracts.settings import Testbed
from harness.contracts.steps import ALL_BENCHMARKS, Request
from harness.store.store import MANIFEST, Store, failpoint
from harness.system.errors import UsageError
from harness.system.jsonl import dumps
from harness.system.locks import exclusive
from harness.system.untrusted import json_object
from reports.manifest import Manifest

Told = TypeVar("Told")
LONGEST, MOST = 100, 255  # bytes of a folder's name: of those made here, and what file systems take
SIZES = "sizes.json"  # in the folder of a comparison at several sizes, whose manifests lie in a folder each
PART = ".part"
ROWS = ("published", "answered")  # fields of a request that older ones have not
# What a run's folder may hold of a comparison, written by `compare` or by `report` beside it.
OURS = re.compile(
    r"(table[1-7]?\.(md|csv|tex|txt|ansi|svg|html)|results\.jsonl|profile\.json|report\.html|cards\.md|sizes\.json"
    r"|(figure[2-6]|intervals|curves|lens|cost|distribution)\.(svg|png|pdf|html|md|csv|tex))"
)


def identity(request: Request, testbed: Testbed, sizes: str = "") -> str:
    """20 hex digits that stand for everything a comparison was asked: what its words mean, not how it is run."""
    named = [spec.model_dump() | {"name": _place(spec.name, ".py")} for spec in request.methods]
    asked = {name: getattr(request, name) for name in Request.__dataclass_fields__ if name != "methods"}
    asked = {name: given for name, given in asked.items() if name not in ROWS or given}
    source = request.data
    lies = [str(part.home.resolve()) for part in source.parts if part.own and part.home]
    known = [source.name] if not lies or len(source.parts) > 1 else []
    asked |= {"data": "+".join([*known, *lies]), "images": str(source.images.resolve()) if source.images else ""}
    bed = testbed.model_dump(mode="json", exclude=None if request.answered else {"answering"})
    whole = {"rows": named, "asked": asked, "testbed": bed, "sizes": sizes}
    return hashlib.sha256(dumps(json.loads(json.dumps(whole, default=str))).encode()).hexdigest()[:20]


def _place(text: str, *endings: str) -> str:
    """A path in full; a name as it is."""
    return str(Path(text).expanduser().resolve()) if text and text.endswith(endings) else text


def name(request: Request, testbed: Testbed, settings: Mapping[str, str]) -> str:
    """A folder's name that says what differs from the defaults: rows, data, testbed, then settings; short and plain."""
    benchmarks = "" if request.benchmarks == ALL_BENCHMARKS else "+".join(request.benchmarks)
    more = {
        "seeds": request.seeds if request.seeds != 1 else "",
        "examples": request.examples or "",
        "limit": request.limit or "",
        "noise": request.noise_batch or "",
    }
    rows = "-".join(spec.id.replace(spec.name, spec.stem, 1) for spec in request.methods) or "baseline"
    parts = [rows, Path(str(request.data)).stem, testbed.name]
    parts += [benchmarks, *(f"{key}={value}" for key, value in {**more, **settings}.items() if value != "")]
    whole = re.sub(r"[^A-Za-z0-9._=+-]", "_", "-".join(part for part in parts if part)).lstrip(".-")
    if len(whole) <= LONGEST:
        return whole
    return f"{whole[: LONGEST - 9]}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def chosen(out: Path | None, request: Request, testbed: Testbed, sets: Sequence[str], sizes: str) -> Path:
    """The folder of a comparison: the one that was given, or one under runs/ that is free or holds this very one.

    `sets` are the words of `--set`; those about `runtime` change no result and are in no name.
    """
    if out is not None:
        if any(len(os.fsencode(part)) > MOST for part in out.parts):
            raise UsageError(
                f"--out: a folder's name has more than {MOST} bytes, which no disk takes; give a shorter one."
            )
        return out
    settings = dict(text.partition("=")[::2] for text in sets if not text.startswith("runtime."))
    base = Path("runs") / name(request, testbed, settings | ({"sizes": sizes} if sizes else {}))
    return choose(base, identity(request, testbed, sizes))


def choose(base: Path, wanted: str) -> Path:
    """`base`, or the first of base-2, base-3, ... that is free or holds the comparison of this identity."""
    for number in range(1, 10_000):
        folder = base if number == 1 else base.with_name(f"{base.name}-{number}")
        if owner(folder) in ("", wanted):
            return folder
    return base


def owner(folder: Path) -> str:
    """The identity of the comparison whose folder it is: "" where it is nobody's, "?" where it is not known."""
    for file in (folder / MANIFEST, folder / SIZES):
        if file.is_file():
            try:
                return str(json_object(file)["request"])
            except (UsageError, KeyError):
                return "?"
    return ""


def aside(folder: Path, wanted: str, store: Store) -> Path | None:
    """Another comparison's folder goes, whole, to the next free name beside it; where to, or None where there was none.

    UsageError where that cannot be, or where its manifest is nobody's we know: nothing of others' is ever emptied.
    """
    whose = owner(folder)
    if whose in ("", wanted):
        return None
    if whose == "?":
        raise UsageError(
            f"{folder} holds a {MANIFEST} that no comparison of this version wrote; give another folder with --out, "
            "or move that one away."
        )
    place = next(
        place for number in range(2, 10_000) if not (place := folder.with_name(f"{folder.name}-{number}")).exists()
    )
    try:
        if folder.is_symlink() or store.root.resolve().is_relative_to(folder.resolve()):
            raise OSError("it is a link, or its store is in it")
        folder.rename(place)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{folder} holds another comparison, which cannot be moved aside ({error}); give another folder with --out."
        ) from None
    return place


def clear(folder: Path) -> bool:
    """Take a comparison's files out of its folder, tables first and the manifest last; whether there were any.

    What others put there stays.
    """
    file = folder / MANIFEST
    if not file.is_file():
        return False
    with suppress(UsageError):  # what cannot be read is read by no report either
        _mark(file)
    failpoint("folder.marked")
    for path in list(folder.iterdir()):
        if path.is_file() and OURS.fullmatch(path.name):
            path.unlink()
            failpoint("folder.removed")
    file.unlink()
    return True


def _mark(file: Path) -> None:
    """Have a manifest say that its comparison is not finished; UsageError where it is none."""
    told = Manifest.read(file)
    if told.finished:
        told.unfinished().write(file)


@contextmanager
def held(folder: Path, store: Store) -> Iterator[None]:
    """Nobody else who uses the store writes to the folder meanwhile."""
    with exclusive(lock_of(folder, store)):
        yield


def lock_of(folder: Path, store: Store) -> Path:
    """The lock of a run's folder, which stays in the store."""
    return store.root / ".locks" / f"out-{hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:20]}"


def begin(folder: Path, manifest: Manifest) -> None:
    """The folder is this comparison's from now on: its unfinished manifest, and no file of another."""
    folder.mkdir(parents=True, exist_ok=True)
    clear(folder)
    manifest.write(folder / MANIFEST)
    failpoint("folder.begun")


def install(folder: Path, fill: Callable[[Path], Told]) -> Told:
    """Put the files into the folder that `fill` makes, `manifest.json` among them; nothing where they are there.

    Returns what `fill` does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / PART
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        told = fill(part)
        made = {path.name: path for path in sorted(part.iterdir())}
        failpoint("folder.filled")
        if not _same(folder, made):
            begin(folder, Manifest.read(made[MANIFEST]).unfinished())
            for path in made.values():
                if path.name != MANIFEST:
                    path.replace(folder / path.name)
                    failpoint("folder.moved")
            made[MANIFEST].replace(folder / MANIFEST)
            failpoint("folder.finished")
        return told
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _same(folder: Path, made: Mapping[str, Path]) -> bool:
    """Whether the folder holds these very files, and no other of a comparison's."""
    there = {path.name for path in folder.iterdir() if path.is_file() and OURS.fullmatch(path.name)}
    if there | {MANIFEST} != made.keys():
        return False
    pairs = ((path, folder / name) for name, path in made.items())
    return all(old.is_file() and old.read_bytes() == new.read_bytes() for new, old in pairs)
