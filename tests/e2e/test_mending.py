"""A finished stage that was edited, cut or added to is never used: the table is as it was, and a line says so."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.backends.transformers import Transformers
from harness.comparison.compare import Finished, compare
from harness.comparison.progress import Silent
from harness.contracts.backend import Generated
from harness.contracts.settings import MethodSpec, Runtime
from harness.contracts.steps import Request
from harness.contracts.testbed_file import read_testbed
from harness.sources._chosen import source
from harness.store import store as storing
from harness.store.store import MANIFEST, Store
from harness.system.errors import HarnessError
from reports.runs import opened

BED = read_testbed(str(Path(__file__).with_name("small.yaml"))).model_copy(update={"lens": 0, "crosscheck": False})
REQUEST = Request((MethodSpec(name="dpo"),), source("llava150k"), benchmarks=("pope", "mmhal"), examples=6, limit=3)


def run(home: Path) -> Finished:
    """The comparison in `home`."""
    storing._sound.clear()  # as a new process has it
    return compare(REQUEST, BED, Runtime(workers=1), Store(home / "store"), home / "out", Silent(), page=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("finished")
    run(home)
    return home


@pytest.fixture
def home(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished comparison, to be spoilt."""
    shutil.copytree(finished, tmp_path / "home")
    return tmp_path / "home"


def table(home: Path) -> bytes:
    return (home / "out" / "table.csv").read_bytes()


def edit(file: Path) -> None:
    """Every yes becomes a no; what has none gets another byte."""
    text = file.read_bytes()
    file.write_bytes(text.replace(b"Yes", b"No") if b"Yes" in text else text[:-2] + b" " + text[-2:])


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5])


def take_away(file: Path) -> None:
    file.unlink()


def add_beside(file: Path) -> None:
    (file.parent / "added.json").write_text("{}")


FILES = [
    "split/*/examples.jsonl", "items/*/items.jsonl", "build/*/records.jsonl", "reference/*/logps.safetensors",
    "train/*/log.jsonl", "train/*/checkpoint/model.safetensors", "generate/*/responses.jsonl",
    "responses/*/responses.jsonl", "generate/*/profile.json", "score/*/scores.jsonl", "score/*/units.json",
    "report/*/table.csv", "data/*/scenes.jsonl",
]  # fmt: skip


OFTEN = ("items/*/items.jsonl", "train/*/log.jsonl", "generate/*/responses.jsonl", "score/*/units.json")


@pytest.mark.parametrize("file", [pytest.param(one, marks=() if one in OFTEN else pytest.mark.heavy) for one in FILES])
def test_an_edited_file_is_made_again_and_the_table_is_as_it_was(home: Path, file: str) -> None:
    first = sorted(home.glob(f"store/{file}"))[0]
    before, right = table(home), first.read_bytes()
    edit(first)
    done = run(home)
    assert table(home) == before and Store(home / "store").verify().keys() <= {"responses/" + first.parent.name}
    if not file.startswith("responses"):  # nobody reads own responses when their build is done
        assert len(done.mended) == 1 and f"{first.name} has changed; the stage was made again" in done.mended[0]
    if first.suffix != ".json" and "log" not in first.name and not file.startswith("responses"):
        assert first.read_bytes() == right


@pytest.mark.parametrize("spoil", [cut, take_away, add_beside])
def test_cut_taken_away_and_added_files_are_seen(home: Path, spoil: Callable[[Path], None]) -> None:
    before = table(home)
    spoil(next(home.glob("store/score/*/units.json")))
    done = run(home)
    assert table(home) == before and len(done.mended) == 1 and not Store(home / "store").verify()


def test_a_second_run_after_mending_does_nothing(home: Path) -> None:
    edit(next(home.glob("store/items/*/items.jsonl")))
    assert run(home).ran == 1
    assert run(home).ran == 0


def unscored(home: Path) -> None:
    """Responses of the baseline to POPE that say no to everything, and scores that have not been made yet."""
    store = Store(home / "store")
    for name in [*store.finished("score"), *store.finished("report")]:
        store.discard(name)
    for file in home.glob("store/generate/*/responses.jsonl"):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps({**line, "text": "No"}) + "\n" for line in lines))


def test_edited_responses_are_not_scored(home: Path) -> None:
    before = table(home)
    unscored(home)
    assert run(home).mended
    assert table(home) == before


def test_the_mutant_that_believes_what_it_reads_is_caught(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = table(home)
    unscored(home)
    monkeypatch.setattr(Store, "damage", lambda self, name: [])
    run(home)
    assert table(home) != before


def test_a_stage_that_comes_out_otherwise_takes_along_what_was_made_of_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on an accelerator whose sums differ from run to run: the old scores are not those of the new responses."""

    def respond(*given: Any) -> Generated:
        return Generated([replace(response, text="No") for response in real(*given).responses], None)

    real = Transformers.respond
    monkeypatch.setattr(Transformers, "respond", respond)
    file = max(home.glob("store/generate/*/responses.jsonl"), key=lambda file: file.stat().st_size)
    edit(file)
    done = run(home)
    assert done.ran == 3 and len(done.mended) == 1  # the responses, their score, the report
    assert not Store(home / "store").verify()


def test_a_report_of_an_edited_score_is_a_sentence_with_the_file(home: Path) -> None:
    edit(next(home.glob("store/score/*/units.json")))
    with pytest.raises(HarnessError, match=r"units.json is not what was stored"), opened([home / "out"]) as (done,):
        done.outcomes()


def test_a_body_does_not_read_what_was_edited_meanwhile(home: Path) -> None:
    store = Store(home / "store")
    [name] = [name for name in store.finished("items") if "pope" in str(store.manifest_of(name)["identity"])]
    edit(store.root / name / "items.jsonl")
    storing._sound.clear()
    with pytest.raises(HarnessError, match=r"items.jsonl has changed. Give the comparison's command again"):
        store.sound(name)


def test_hidden_files_of_others_are_nobodys_business(home: Path) -> None:
    """Folder settings of a file browser, what NFS leaves of a file that was open."""
    (next(home.glob("store/score/*")) / ".DS_Store").write_bytes(b"")
    done = run(home)
    assert (done.ran, done.mended) == (0, ())
    assert (next(home.glob("store/score/*")) / MANIFEST).is_file()
