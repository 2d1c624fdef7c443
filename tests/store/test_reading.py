"""What reading a store costs: so many system calls per stage, whatever the store's size."""

import builtins
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.commands.terminal import examine_store
from harness.store import manifest
from harness.store.store import MANIFEST, Stage, Store

FILES = ("units.json", "deep/profile.json")


def fill(out: Path) -> None:
    for name in FILES:
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("x" * 2000)


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """How often files are opened, folders listed and either looked at."""
    calls = Counter[str]()

    def counting(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            return real(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for module, what, name in (
            (os, "open", "opened"),
            (builtins, "open", "opened"),
            (os, "stat", "looked at"),
            (os, "scandir", "listed"),
            (os, "listdir", "listed"),
        ):
            patch.setattr(module, what, counting(name, getattr(module, what)))
        yield calls


def per_stage(home: Path) -> Counter[str]:
    """Calls of `harness doctor` for one stage more."""
    found = []
    for count in (2, 12):
        store = Store(home / str(count))
        for number in range(count):
            store.run(Stage("score", {"number": number}), fill)
        with counted() as calls:
            assert examine_store(store)
        found.append(calls)
    return Counter({name: (found[1][name] - found[0][name]) / 10 for name in found[1]})  # type: ignore[arg-type]


def test_a_stage_is_listed_once_and_each_file_opened_once_and_looked_at_once(tmp_path: Path) -> None:
    """And its manifest is looked at once more, where finished stages are counted."""
    files = 1 + len(FILES)
    assert per_stage(tmp_path) == {"listed": 2, "opened": files, "looked at": files + 1}  # two folders in a stage


def test_a_second_look_at_each_file_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant of `damage_in` that asks for its manifest before it lists the folder, as it once did."""
    real = manifest.damage_in

    def twice(folder: Path | str, digest: Callable[[Path | str], str]) -> list[str]:
        return real(folder, digest) if (Path(folder) / MANIFEST).is_file() else []

    monkeypatch.setattr(manifest, "damage_in", twice)
    assert per_stage(tmp_path)["looked at"] == 2 + len(FILES) + 1


def test_a_folder_that_is_moved_away_meanwhile_is_no_error(tmp_path: Path) -> None:
    assert manifest.damage_in(tmp_path / "score" / ("0" * 20), lambda path: "") == [f"{MANIFEST} is missing"]


def test_how_many_are_read_is_told_at_the_end_and_not_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.store.store.TOLD", 4)
    store, told = Store(tmp_path), list[tuple[int, int]]()
    for number in range(6):
        store.run(Stage("score", {"number": number}), fill)
    store.verify(tick=lambda read, all: told.append((read, all)))
    assert told == [(4, 6), (6, 6)]
