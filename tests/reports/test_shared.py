"""The line on training pictures among a benchmark's: counted from stored stages, said under every table."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.contracts.records import Example, Image, Item, Turn
from harness.store.store import MANIFEST, Stage, Store
from harness.system.jsonl import write_jsonl
from reports.findings import Setting
from reports.legend import Detail
from reports.manifest import Shared
from reports.runs import join, opened
from reports.shared import coco_id, shared
from reports.tabulate import build
from tests.fake_run import FakeRun

FLAG = Image("@data/sources/llava150k/train2017/000000000139.jpg", "a" * 64)
BUS = Image("@data/sources/llava150k/train2017/000000000285.jpg", "b" * 64)
BUS_OF_VAL = Image("@data/benchmarks/pope/val2014/COCO_val2014_000000000285.jpg", "c" * 64)
CAKE = Image("@data/benchmarks/pope/val2014/COCO_val2014_000000000632.jpg", "d" * 64)


def made(store: Store, kind: str, name: str, things: Sequence[object], **reads: Stage) -> Stage:
    file = {"split": "examples.jsonl", "items": "items.jsonl"}.get(kind, "none")
    stage = Stage(kind, {"benchmark": name}, reads)
    store.run(stage, lambda out: (out / file).write_text("") if not things else write_jsonl(out / file, things))
    return stage


def scored(store: Store, trained: Sequence[Image], asked: Sequence[Image | None], name: str = "pope") -> Stage:
    """The score of a row whose policy was trained on these pictures."""
    turns = (Turn("What?", "That."),)
    split = made(store, "split", "", [Example(str(n), "s", image, turns) for n, image in enumerate(trained)])
    policy = made(store, "train", "", [], build=made(store, "build", "", [], split=split))
    items = made(store, "items", name, [Item(str(n), image, "?", str(n), {}) for n, image in enumerate(asked)])
    said = made(store, "generate", name, [], items=items, policy=policy)
    return made(store, "score", name, [], items=items, responses=said)


def test_a_picture_is_shared_by_its_file_or_by_its_coco_id(tmp_path: Path) -> None:
    store = Store(tmp_path)
    stage = scored(store, [FLAG, BUS], [FLAG, FLAG, BUS_OF_VAL, CAKE, None])
    assert shared([stage], store.path) == {"pope": Shared(pictures=3, files=1, coco=1)}


def test_pictures_that_are_nobody_s_are_not_shared(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert shared([scored(store, [FLAG], [CAKE])], store.path) == {"pope": Shared(pictures=1, files=0, coco=0)}


def test_a_benchmark_without_pictures_says_nothing_of_them(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert shared([scored(store, [FLAG], [None])], store.path) == {}


def test_a_baseline_alone_was_trained_on_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    items = made(store, "items", "pope", [Item("0", FLAG, "?", "0", {})])
    assert shared([made(store, "score", "pope", [], items=items)], store.path) == {}


def test_what_is_not_made_yet_is_not_counted(tmp_path: Path) -> None:
    assert shared([scored(Store(tmp_path), [FLAG], [FLAG])], lambda stage: None) == {}


@pytest.mark.parametrize(
    ("path", "id"),
    [
        ("train2017/000000000139.jpg", "000000000139"),
        ("val2014/COCO_val2014_000000000139.jpg", "000000000139"),
        ("a/000000000139.JPEG", "000000000139"),
        ("a/1000000000139.jpg", ""),
        ("a/000000000139.png", ""),
        ("000000000139.jpg/x.jpg", ""),
    ],
)
def test_coco_s_editions_name_one_picture_by_one_number(path: str, id: str) -> None:
    assert coco_id(path) == id


def notes(folder: Path, **told: Shared) -> tuple[str, ...]:
    """The notes under the table of a comparison whose manifest has these counts."""
    spoilt = {"shared": {name: one.model_dump() for name, one in told.items()}}
    with opened([FakeRun(benchmarks=("gqa", "sqa"), spoilt=spoilt).write(folder)]) as (run,):
        return build(run.outcomes(), run.benchmarks(), list(run.rows), run.setting, replicates=10).notes


def test_a_table_names_the_benchmarks_whose_pictures_were_trained_on(tmp_path: Path) -> None:
    found = notes(tmp_path, gqa=Shared(pictures=1500, files=3, coco=1209), sqa=Shared(pictures=4, files=1, coco=0))
    (line,) = [note for note in found if "TRAINED ON" in note]
    assert "GQA 1,212 of 1,500 (3 the same file, 1,209 by COCO id), SQA 1 of 4 (1 the same file);" in line
    assert not isinstance(line, Detail)


def test_a_benchmark_of_unseen_pictures_is_not_named_beside_one_of_seen_ones(tmp_path: Path) -> None:
    found = notes(tmp_path, gqa=Shared(pictures=5, files=0, coco=2), sqa=Shared(pictures=4, files=0, coco=0))
    assert ["GQA 2 of 5 (2 by COCO id);" in note and "SQA" not in note for note in found if "TRAINED" in note] == [True]


def test_a_table_of_unseen_pictures_says_so_among_its_details(tmp_path: Path) -> None:
    (line,) = [note for note in notes(tmp_path, gqa=Shared(pictures=5, files=0, coco=0)) if "trained on" in note]
    assert isinstance(line, Detail) and "TRAINED ON" not in line


@pytest.mark.parametrize(("coco", "said"), [(0, {}), (2, {"gqa": Shared(pictures=5, files=0, coco=2)})])
def test_beside_a_run_that_did_not_count_only_what_was_found_is_said(
    coco: int, said: dict[str, Shared], tmp_path: Path
) -> None:
    """A run of an earlier version; where its manifest says that it found none, that is said of both."""
    counted = {"shared": {"gqa": Shared(pictures=5, files=0, coco=coco).model_dump()}}
    new = FakeRun(benchmarks=("gqa",), spoilt=counted).write(tmp_path / "new")
    old = FakeRun(benchmarks=("gqa",)).write(tmp_path / "old")
    with opened([new, old]) as runs:
        assert join(runs).setting.shared == {"gqa": Shared(pictures=5, files=0, coco=coco)}
    told = json.loads((old / MANIFEST).read_text())
    del told["shared"]
    (old / MANIFEST).write_text(json.dumps(told))
    with opened([new, old]) as runs:
        assert join(runs).setting.shared == said


def test_nothing_is_said_where_nothing_was_counted(tmp_path: Path) -> None:
    assert not [note for note in notes(tmp_path) if "trained on" in note.lower()]
    assert Setting("mini", "llava", True).shared == {}
