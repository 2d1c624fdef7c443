"""`harness store`: what no kept run needs goes, and nothing else; what is damaged is named."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.commands import clearing
from harness.comparison import compare as comparison
from harness.store.digest import file_digest
from harness.store.store import Stage, Store
from harness.system.errors import HarnessError, UsageError
from tests.commands.conftest import Said
from tests.fake_run import FakeRun

NEVER = Stage("train", {"row": "of a run that was removed"})


def write(out: Path) -> None:
    (out / "file.txt").write_text("x" * 1000)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A run, `tmp_path/run`, its store, and a stage there that it does not need."""
    FakeRun().write(tmp_path)
    made = Store(tmp_path / "store")
    made.run(NEVER, write)
    return made


def gc(harness: Said, store: Store, *options: str) -> str:
    return harness("store", "gc", "--store", store.root, "--runs", store.root.parent, *options)


def rewrite(run: Path, **fields: object) -> None:
    file = run / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def test_what_no_run_needs_goes_and_nothing_else(harness: Said, store: Store) -> None:
    before = store.finished()
    gc(harness, store, "--yes")
    assert set(before) - set(store.finished()) == {NEVER.name}
    assert store.verify() == {}


def test_without_yes_it_is_only_shown(harness: Said, store: Store) -> None:
    before = store.finished()
    shown = gc(harness, store)
    assert store.finished() == before
    assert " train          1 " in shown and shown.endswith("nothing was removed: --yes does it\n")
    assert json.loads(gc(harness, store, "--json"))["stages"] == [NEVER.name]


def survivors(harness: Said, store: Store) -> set[str]:
    """The kinds that are left where a run names its scores, and nothing of what those were made from."""
    run = store.root.parent / "run"
    cells = json.loads((run / "manifest.json").read_text())["cells"]
    named = [cell | {"responses": cell["score"], "items": cell["score"]} for cell in cells]
    rewrite(run, stages=[], trained=[], cells=named)
    gc(harness, store, "--yes")
    return {name.partition("/")[0] for name in store.finished()}


def test_inputs_of_inputs_are_kept(harness: Said, store: Store) -> None:
    assert survivors(harness, store) == {"score", "generate", "items", "train", "build", "split"}


def test_the_mutant_that_forgets_inputs_of_inputs_is_caught(
    harness: Said, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(store: Store, names: Iterable[str]) -> set[str]:
        known = set(names)
        there = known & set(store.finished())
        return known | {read for name in there for read in store.manifest_of(name)["inputs"].values()}

    monkeypatch.setattr(clearing, "behind", forgetful)
    assert survivors(harness, store) == {"score", "generate", "items"}


def test_an_unfinished_run_keeps_what_it_has(harness: Said, tmp_path: Path) -> None:
    FakeRun(unfinished=[("dpo", "gqa")], spoilt={"finished": False}).write(tmp_path)
    store = Store(tmp_path / "store")
    before = store.finished()
    for stage in (begun := Stage("score", {"begun": True}), NEVER):
        (store.work(stage) / "state").write_text("half")
    rewrite(tmp_path / "run", stages=[begun.name])
    gc(harness, store, "--yes")
    assert store.finished() == before
    assert (store.work(begun) / "state").is_file() and not (store.work(NEVER) / "state").exists()


def test_own_responses_stay_with_their_policy(harness: Said, store: Store) -> None:
    trained = next(name for name in store.finished("train") if name != NEVER.name)
    kept = [Stage("responses", {"policy": "m"}), Stage("candidates", {"policy": trained.partition("/")[2]})]
    for stage in (*kept, other := Stage("responses", {"policy": "another base"})):
        store.run(stage, write)
    gc(harness, store, "--yes")
    assert all(map(store.done, kept)) and not store.done(other)


def test_pages_stay_as_long_as_their_run_is_as_it_was(harness: Said, store: Store) -> None:
    run = store.root.parent / "run"
    pages = Stage("pages", {"manifest.json": file_digest(run / "manifest.json")})
    store.run(pages, write)
    gc(harness, store, "--yes")
    assert store.done(pages)
    rewrite(run, harness="1")
    gc(harness, store, "--yes")
    assert not store.done(pages)


def test_sources_that_were_read_ahead_stay_for_whoever_compares_next(harness: Said, store: Store) -> None:
    store.run(ahead := Stage("prepared", {"source": "llava150k"}), write)
    gc(harness, store, "--yes")
    assert store.done(ahead)


def test_replies_and_features_stay(harness: Said, store: Store) -> None:
    for name in (".journal", ".features"):
        (store.root / name).mkdir()
        write(store.root / name)
    gc(harness, store, "--yes")
    assert all((store.root / name / "file.txt").is_file() for name in (".journal", ".features"))


@pytest.mark.parametrize("text", ["{", '{"cells": [], "testbed": "mini"}'])
def test_a_run_that_cannot_be_read_stops_it(harness: Said, store: Store, text: str) -> None:
    (store.root.parent / "other").mkdir()
    (store.root.parent / "other" / "manifest.json").write_text(text)
    with pytest.raises(UsageError, match="other: what it needs cannot be told, so nothing is removed"):
        gc(harness, store, "--yes")
    assert store.done(NEVER)


def test_a_damaged_stage_that_a_run_needs_stops_it(harness: Said, store: Store) -> None:
    with (store.root / store.finished("score")[0] / "manifest.json").open("a") as file:
        file.write(" ")
    with pytest.raises(HarnessError, match="is damaged"):
        gc(harness, store, "--yes")
    assert store.done(NEVER)


def test_without_a_run_of_this_store_nothing_goes(harness: Said, store: Store, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(UsageError, match="so nothing says what is needed"):
        harness("store", "gc", "--store", store.root, "--runs", tmp_path / "elsewhere", "--yes")
    rewrite(tmp_path / "run", store="../another")
    with pytest.raises(UsageError, match="so nothing says what is needed"):
        gc(harness, store, "--yes")
    assert store.done(NEVER)


def test_runs_that_lie_elsewhere_are_missed(harness: Said, store: Store, tmp_path: Path) -> None:
    from harness.comparison.run_folder import held

    with held(tmp_path / "run", store), held(Path("/elsewhere/run"), store):
        pass
    assert "1 more folders of comparisons used this store" in gc(harness, store)


def test_it_waits_for_nobody_and_works_beside_nobody(harness: Said, store: Store) -> None:
    with store.used(), pytest.raises(HarnessError, match="a comparison works on this store"):
        gc(harness, store, "--yes")

    def body(out: Path) -> None:
        with pytest.raises(HarnessError, match="a comparison works on this store"):
            gc(harness, store)

    store.run(replace(NEVER, kind="made_now"), body)
    assert store.done(NEVER)


def test_a_comparison_has_its_store_in_use(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(planned: object, runtime: object, store: Store, out: Path, *_: object) -> comparison.Finished:
        with pytest.raises(HarnessError), store.alone():
            pass
        return comparison.Finished(planned, out, 7, ())  # type: ignore[arg-type]

    monkeypatch.setattr(comparison, "prepare", lambda *_: None)
    monkeypatch.setattr(comparison, "_compare", work)
    assert comparison.compare(None, None, None, store, Path(), None).ran == 7  # type: ignore[arg-type]


def test_kinds_are_counted_and_replies_named_apart(harness: Said, store: Store) -> None:
    (store.root / ".journal").mkdir()
    write(store.root / ".journal")
    told = json.loads(harness("store", "ls", "--store", store.root, "--json"))
    assert told["kinds"]["train"]["stages"] == 3 and told["kinds"]["split"]["stages"] == 1
    assert told["beside"][".journal"] == 1000
    lines = harness("store", "ls", "--store", store.root).splitlines()
    assert sum(line.split()[0] == "train" for line in lines) == 1
    assert ".journal: 1.0 kB, replies that were paid for" in lines


def test_a_stage_is_told_in_words(harness: Said, store: Store) -> None:
    build = store.finished("build")[0]
    profile = {"stages": [{"stage": "build", "title": "build nsft\x1b[2J", "key": build.partition("/")[2]}]}
    (store.root.parent / "run" / "profile.json").write_text(json.dumps(profile))
    for word in (build, build.partition("/")[2], build[:14]):
        shown = harness("store", "show", word, "--store", store.root, "--runs", store.root.parent)
        assert shown.startswith(f"{build}: build nsft<U+001B>[2J\n")
        assert f"used by {store.root.parent / 'run'}" in shown
        assert f"  split  {store.finished('split')[0]}" in shown
        assert "  method   " in shown and "  dropped.jsonl  " in shown


@pytest.mark.parametrize("word", ["", "train", "../../etc", "train/zz"])
def test_a_word_that_is_no_one_stage_is_refused(harness: Said, store: Store, word: str) -> None:
    with pytest.raises(UsageError, match="is no finished stage"):
        harness("store", "show", word, "--store", store.root)


def test_damage_is_named_with_its_cure(harness: Said, store: Store) -> None:
    assert "none damaged" in harness("store", "verify", "--store", store.root)
    (store.path(NEVER) / "file.txt").write_text("y" * 1000)
    said = harness("store", "verify", "--store", store.root, status=3)
    assert f"stage {NEVER.name} in {store.root}: file.txt has changed. The command of a comparison" in said


def test_a_store_that_is_not_there_is_a_sentence(harness: Said, tmp_path: Path) -> None:
    for name in ("ls", "verify", "gc"):
        with pytest.raises(UsageError, match="is no store; say with --store where it is"):
            harness("store", name, "--store", tmp_path / "none")
