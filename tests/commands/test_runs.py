"""`harness runs`: every comparison has its line, whatever lies beside it; nothing but a run is renamed or removed."""

import json
import os
from pathlib import Path

import pytest

from harness.comparison import run_folder
from harness.store.store import Store
from harness.system.errors import UsageError
from tests.commands.conftest import Said
from tests.fake_run import FakeRun


def made(root: Path, name: str, age: float = 0, **fields: object) -> Path:
    """A run of this name, whose manifest is so many seconds old; its store lies beside it."""
    folder = FakeRun(spoilt=fields).write(root).rename(root / name)
    os.utime(folder / "manifest.json", (1e9 - age, 1e9 - age))
    return folder


def listed(harness: Said, root: Path, *words: str) -> dict[str, dict[str, object]]:
    told = json.loads(harness("runs", *words, "--in", root, "--json"))
    return {one["name"]: one for one in told["runs"]}


def test_the_newest_is_nearest_to_the_prompt(harness: Said, tmp_path: Path) -> None:
    made(tmp_path, "middle", 20)
    made(tmp_path, "old", 30)
    made(tmp_path, "new", 10)
    assert list(listed(harness, tmp_path)) == ["old", "middle", "new"]


def test_a_line_says_what_was_compared(harness: Said, tmp_path: Path) -> None:
    made(tmp_path, "one")
    name, about = harness("runs", "--in", tmp_path).splitlines()
    assert name == "one"
    assert about.startswith("  finished  2001-09-0")
    assert "  nsft, dpo on llava150k, mini (synthetic)  " in about and about.endswith("kB") and len(about) <= 80


@pytest.mark.parametrize("word", ["one", "NSFT", "llava150", "mini"])
def test_a_word_is_looked_for_in_name_rows_data_and_testbed(harness: Said, tmp_path: Path, word: str) -> None:
    made(tmp_path, "one")
    assert list(listed(harness, tmp_path, word)) == ["one"]
    assert harness("runs", "other", "--in", tmp_path).startswith(f'no run in {tmp_path} has "other"')


FAILED = {"row": "dpo", "label": "GT-DPO", "seed": 0, "benchmark": "gqa", "stage": "train dpo", "why": "no memory"}


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, "finished"),
        ({"finished": False}, "unfinished"),
        ({"finished": False, "failed": [FAILED]}, "1 failed"),
        ({"store": "../gone"}, "finished, its store is gone"),
        ({"cells": "none"}, "manifest not readable"),
    ],
)
def test_how_far_it_came(harness: Said, tmp_path: Path, fields: dict[str, object], state: str) -> None:
    made(tmp_path, "one", **fields)
    assert listed(harness, tmp_path)["one"]["state"] == state


HOSTILE = ["{", "[]", '{"cells": [], "testbed": 1}', "[" * 9000, '{"cells": "\\u001b[2J", "testbed": "x"}', "\0", ""]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_manifest_costs_one_line(harness: Said, tmp_path: Path, text: str) -> None:
    made(tmp_path, "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "manifest.json").write_text(text)
    lines = harness("runs", "--in", tmp_path).splitlines()
    assert [line for line in lines if line.startswith("bad: manifest not readable: ")] == [lines[-1]]
    assert len(lines) == 3 and "\x1b" not in lines[-1]


def test_names_of_a_manifest_and_a_folder_stay_on_their_line(harness: Said, tmp_path: Path) -> None:
    made(tmp_path, "two\nlines\x1b[2J", data="a\nb", testbed="\x1b]0;x")
    assert len(harness("runs", "--in", tmp_path).splitlines()) == 2


def test_what_is_no_run_is_passed_over(harness: Said, tmp_path: Path) -> None:
    made(tmp_path, "one")  # its store is beside it, full of manifests
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "manifest.json").write_text('{"name": "a web app"}')
    (tmp_path / "loop").symlink_to(tmp_path)
    assert list(listed(harness, tmp_path)) == ["one"]


def test_runs_deeper_down_are_found(harness: Said, tmp_path: Path) -> None:
    (tmp_path / "monday").mkdir()
    made(tmp_path, "one").rename(tmp_path / "monday" / "one")
    assert list(listed(harness, tmp_path)) == ["monday/one"]


def test_several_sizes_are_one_comparison(harness: Said, tmp_path: Path) -> None:
    (tmp_path / "sized").mkdir()
    (tmp_path / "sized" / "sizes.json").write_text('{"request": "x", "sizes": [8, 16]}')
    made(tmp_path, "8").rename(tmp_path / "sized" / "8")
    [(name, one)] = listed(harness, tmp_path).items()
    assert (name, one["sizes"], one["state"]) == ("sized", [8, 16], "unfinished, its store is gone")


@pytest.mark.parametrize("text", ['{"sizes": [16]}', '{"sizes": ["many"]}'])
def test_a_size_that_is_not_told_is_a_run_of_its_own(harness: Said, tmp_path: Path, text: str) -> None:
    (tmp_path / "sized").mkdir()
    (tmp_path / "sized" / "sizes.json").write_text(text)
    made(tmp_path, "8").rename(tmp_path / "sized" / "8")
    assert set(listed(harness, tmp_path)) == {"sized", "sized/8"}


def test_a_run_is_renamed_and_keeps_its_store(harness: Said, tmp_path: Path) -> None:
    made(tmp_path, "one")
    harness("runs", "rename", "one", "first", "--in", tmp_path)
    assert listed(harness, tmp_path)["first"]["state"] == "finished"


@pytest.mark.parametrize("new", ["two", "../two", "a/b", "", ".."])
def test_a_new_name_is_free_and_plain(harness: Said, tmp_path: Path, new: str) -> None:
    made(tmp_path, "one")
    made(tmp_path, "two")
    with pytest.raises(UsageError, match=r"is there already|no plain name"):
        harness("runs", "rename", "one", new, "--in", tmp_path)


def test_a_run_is_removed_once_that_is_confirmed(harness: Said, tmp_path: Path) -> None:
    folder = made(tmp_path, "one")
    (folder / "notes.txt").write_text("mine")
    stages = Store(tmp_path / "store").finished()
    asked = harness("runs", "remove", "one", "--in", tmp_path, answer="n\n")
    assert "1 files that no comparison wrote: notes.txt" in asked and "nothing was removed" in asked
    assert folder.is_dir()
    harness("runs", "remove", "one", "--in", tmp_path, "--yes")
    assert not folder.exists() and Store(tmp_path / "store").finished() == stages


def test_nothing_but_a_run_is_removed(harness: Said, tmp_path: Path) -> None:
    made(tmp_path, "one")
    (tmp_path / "mine").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "one")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "manifest.json").write_text("{")
    stage = next((tmp_path / "store" / "train").iterdir())
    for name in ("mine", "link", "bad", "store", str(stage), "nothing"):
        with pytest.raises(UsageError):
            harness("runs", "remove", "one", name, "--in", tmp_path, "--yes")
    assert (tmp_path / "one").is_dir()  # not even the first of two


def test_a_run_with_a_store_in_it_stays(harness: Said, tmp_path: Path) -> None:
    folder = made(tmp_path, "one", store="store")
    (tmp_path / "store").rename(folder / "store")
    with pytest.raises(UsageError, match="has a store in it"):
        harness("runs", "remove", "one", "--in", tmp_path, "--yes")


def test_removing_waits_for_a_comparison_that_writes_there(
    harness: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, locked = made(tmp_path, "one"), []
    held = run_folder.held
    monkeypatch.setattr(run_folder, "held", lambda at, store: (locked.append(at), held(at, store))[1])
    harness("runs", "remove", "one", "--in", tmp_path, "--yes")
    assert locked == [folder]
