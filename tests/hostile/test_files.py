"""Every command that reads a stranger's file, given every kind of file that nobody should have to open.

Each ends at once with a sentence that names the file and status 2 or 3, in bounded memory (`forks.SPARE`, which the
system enforces), never by a crash, by waiting, or by doing what the file says.
"""

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from harness import mini
from harness.store.digest import file_digest
from harness.store.manifest import MANIFEST, render
from tests.hostile.bombs import ARCHIVES, BOOKS, PACKED, PLACES, TEXTS
from tests.hostile.conftest import Command, Ran

YES = [{"question_id": n, "text": "yes"} for n in range(4)]
ASKED = [{**row, "image": "x.jpg", "text": "Is there a dog in the image?", "label": "yes"} for row in YES]
VET = {"v1_0": {"question": "What?", "answer": "x", "capability": ["ocr"], "imagename": "a.jpg"}}
BED = "name: b\nmodels: [model]\ndata: generated\nsynthetic: true\nwriter: oracle\njudge: oracle\n"
ENTRIES: dict[str, tuple[str, str]] = {  # what -> the file's name, and the command with FILE for it
    "testbed": ("bed.yaml", "compare --methods sft --testbed FILE --store s"),
    "codebook": ("book.yaml", "compare --methods nsft --set nsft.codebook=FILE --store s --dry-run"),
    "policy": ("gate.yaml", "gate run --baseline run --policy FILE"),
    "baseline": ("accepted.zip", "gate run --baseline FILE --policy good.yaml"),
    "bundle": ("bundle.zip", "report FILE"),
    "manifest": ("run/manifest.json", "report run"),
    "manifest to compare": ("run/manifest.json", "diff run run"),
    "manifest to keep": ("run/manifest.json", "store gc --store store --runs run"),
    "sizes": ("run/sizes.json", "store gc --store store --runs run"),
    "profile of a run": ("run/profile.json", "gate run --baseline run --policy good.yaml"),
    "answers": ("answers.jsonl", "score pope --questions asked.json --answers FILE"),
    "answers, one value": ("answers.json", "score pope --questions asked.json --answers FILE"),
    "answers, a table": ("answers.csv", "score pope --questions asked.json --answers FILE"),
    "answers, tabs": ("answers.tsv", "score mmb --answers FILE"),
    "answers, packed": ("answers.jsonl.gz", "score pope --questions asked.json --answers FILE"),
    "answers, a workbook": ("answers.xlsx", "score mmb --answers FILE"),
    "questions": ("questions.json", "score pope --questions FILE --answers said.jsonl"),
    "grades": ("grades.json", "score mmvet --questions vet.json --option grades=FILE"),
    "script": ("script.json", "score mmvet --questions vet.json --answers vet-said.json --judge script:FILE --store s"),
    "data": ("my.json", "read-data FILE ."),
    "data, lines": ("my.jsonl", "read-data FILE ."),
    "parquet": ("tables/test.parquet", "read-parquet tables"),
    "model": ("model/config.json", "read-model model"),
    "index of a model": ("sharded/model.safetensors.index.json", "read-model sharded"),
    "weights": ("model/model.safetensors", "read-model model"),
}
STORED = ["split/split.lock", "build/dropped.jsonl", "build/profile.json", "train/log.jsonl", "train/summary.json"]
STORED += ["items/items.jsonl", "generate/responses.jsonl", "score/units.json", "score/judge.json", f"score/{MANIFEST}"]
KINDS = {"answers, packed": PACKED, "answers, a workbook": BOOKS, "baseline": ARCHIVES, "bundle": ARCHIVES}
# As it should be: folders are runs, weights are mapped whatever their size, a run may have no profile.
MEANT = {("baseline", "folder"), ("bundle", "folder"), ("weights", "sparse"), ("profile of a run", "nowhere")}
MEANT |= {("manifest to keep", "nowhere"), ("sizes", "nowhere")}  # no run, and one without sizes
BASE = Path(mini.__file__).parent / "bases" / "0"
Make = Callable[[Path], None]
LINES = ("answers, a table", "answers, tabs")  # any text is a table of one column
DROPPED = {("data, lines", "huge float"), ("data, lines", "NaN")}  # an example, dropped for its own reason
WELL = {"empty", "mark", "half a character", "escapes", "python", "one long line", "commas"}  # for some, a value
QUICK = {"fifo", "device", "deep lists", "laughs", "digits", *PACKED, *BOOKS, *ARCHIVES}  # tried by `make test` too


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where every command would work."""
    from tests.fake_run import FakeRun

    folder = tmp_path_factory.mktemp("good")
    FakeRun().write(folder)
    for name, value in {
        "asked.json": ASKED, "said.jsonl": YES, "vet.json": VET,
        "vet-said.json": {"v1_0": "x"},
    }.items():  # fmt: skip
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(value))
    for name, weights in (("model", "model.safetensors"), ("sharded", "model-00001-of-00001.safetensors")):
        shutil.copytree(BASE, folder / name, dirs_exist_ok=True)
        (folder / name / "model.safetensors").rename(folder / name / weights)
    (folder / "good.yaml").write_text("margins: {gqa: 5}")
    (folder / "tables").mkdir()
    return folder


def lanes(cases: Iterable[tuple[str, str]], quick: Collection[str]) -> Iterator[Any]:
    for what, how in cases:
        yield pytest.param(what, how, marks=() if how in quick else pytest.mark.heavy, id=f"{what}-{how}")


def bombs(what: str) -> dict[str, Make]:
    return KINDS.get(what, TEXTS)


PLACED = [(what, how) for what in ENTRIES for how in PLACES if (what, how) not in MEANT]
BOMBED = [(what, how) for what in ENTRIES for how in bombs(what)]


def spoilt(good: Path, folder: Path, name: str, make: Make) -> Path:
    """A copy of the good folder in which `make` has made the file."""
    shutil.copytree(good, folder, dirs_exist_ok=True, copy_function=os.link)
    file = folder / name
    file.unlink(missing_ok=True)
    make(file)
    return file


def refused(ran: Ran, folder: Path, name: str = "", well: bool = False) -> None:
    """It is a sentence with its status; it names the file where one is given; where it may go `well` it may end 0."""
    told = ran.stdout + ran.stderr
    assert "Traceback" not in told and "MemoryError" not in told, told[-2000:]
    assert not (folder / "owned").exists()
    assert ran.status in ((0, 2, 3) if well else (2, 3)), told
    assert "\x1b" not in told
    if not well:
        assert ran.stderr.startswith("harness: ") and name in ran.stderr and len(told) < 2000, told


@pytest.mark.parametrize(("what", "how"), lanes(PLACED, QUICK))
def test_what_is_no_file_is_not_opened(harness: Command, good: Path, tmp_path: Path, what: str, how: str) -> None:
    name, command = ENTRIES[what]
    spoilt(good, tmp_path, name, PLACES[how])
    refused(harness(tmp_path, *command.replace("FILE", name).split()), tmp_path, Path(name).name)


@pytest.mark.parametrize(("what", "how"), lanes(BOMBED, QUICK))
def test_a_bomb_is_refused(harness: Command, good: Path, tmp_path: Path, what: str, how: str) -> None:
    name, command = ENTRIES[what]
    spoilt(good, tmp_path, name, bombs(what)[how])
    ran = harness(tmp_path, *command.replace("FILE", name).split())
    refused(ran, tmp_path, "" if what in LINES else Path(name).name, how in WELL or (what, how) in DROPPED)


MUTANTS: dict[str, tuple[str, str, dict[str, object]]] = {
    "no ratio": ("answers, packed", "bomb of spaces", {"harness.system.untrusted:RATIO": 10**9}),
    "no count of values": ("testbed", "laughs", {"harness.system.yamls:VALUES": 10**40}),
    "no limit of a list": ("baseline", "entries", {"harness.system.archives:_check_list": "nothing"}),
}


@pytest.mark.heavy
@pytest.mark.parametrize("name", MUTANTS)
def test_each_bound_is_needed(harness: Command, good: Path, tmp_path: Path, name: str) -> None:
    what, how, mutant = MUTANTS[name]
    file, command = ENTRIES[what]
    spoilt(good, tmp_path, file, bombs(what)[how])
    ran = harness(tmp_path, *command.replace("FILE", file).split(), mutant=mutant)
    with pytest.raises(AssertionError):
        refused(ran, tmp_path, Path(file).name)


@pytest.mark.heavy
@pytest.mark.parametrize(("name", "how"), product(STORED, [*PLACES, *TEXTS]))
def test_a_file_of_a_store_is_a_gap_or_refused(
    harness: Command, good: Path, tmp_path: Path, name: str, how: str
) -> None:
    """With its digest in its stage's manifest, as a stranger would have it: he made the store."""
    kind, _, wanted = name.partition("/")
    stage = next(path.parent for path in sorted(good.glob(f"store/{kind}/*/{wanted}")))
    shutil.copytree(good, tmp_path, dirs_exist_ok=True, copy_function=os.link)
    stage = tmp_path / stage.relative_to(good)
    (stage / wanted).unlink()
    {**PLACES, **TEXTS}[how](stage / wanted)
    if wanted != MANIFEST and how in TEXTS:
        fields = json.loads((stage / MANIFEST).read_text())
        fields.pop("seal")
        fields["files"][wanted] = {"sha256": file_digest(stage / wanted), "bytes": (stage / wanted).stat().st_size}
        (stage / MANIFEST).write_text(render(fields))
    figures = ["5", *(["curves"] if kind == "train" else [])]
    for command in (
        "report run",
        "diff run:nsft run:dpo",
        "store show generate --store store",
        *(f"report run --figure {figure}" for figure in figures),
    ):
        refused(harness(tmp_path, *command.split()), tmp_path, well=True)
