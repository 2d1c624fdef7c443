"""A run's folder under anything that may happen to it, in any order: kills, a disk that fails, files of the user's.

Whatever went before, its tables are those of one comparison, the one that its manifest names; a manifest that says
`finished` has every table beside it; and what the user put there stays. Wrong ways to fill a folder lose this game.
"""

import errno
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from test_run_folder import fill, whose

from harness.comparison import run_folder
from harness.comparison.run_folder import MANIFEST, OURS, choose, owner
from harness.system import files
from reports.manifest import Manifest
from tests.fake_run import manifest
from tests.laws import play

FILES = {"a": ["table.md", "results.jsonl"], "b": ["table.md", "report.html", "figure2.svg"], "c": ["cards.md"]}
PLACES = ("filled", "marked", "removed", "begun", "moved", "finished")
WHO = st.sampled_from(sorted(FILES))


class Killed(BaseException):
    """Stands for SIGKILL: nothing that is being filled catches it, and nothing is tidied up behind it."""


@contextmanager
def patched(target: object, name: str, new: Any) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, new)
        yield


class Machine(RuleBasedStateMachine):
    """Random histories of one folder."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(mkdtemp(prefix="run-"))
        self.mine = dict[str, str]()
        """What the user has put there."""

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @rule(who=WHO)
    def install(self, who: str) -> None:
        run_folder.install(self.folder, fill(who, FILES[who]))
        assert whose(self.folder) == {who}
        assert self.there() == {*FILES[who], MANIFEST}
        assert not (self.folder / ".part").exists()
        assert Manifest.read(self.folder / MANIFEST).finished

    @rule(who=WHO)
    def install_twice(self, who: str) -> None:
        """The second time not a file is touched."""
        self.install(who)
        before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in self.folder.iterdir()}
        self.install(who)
        assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in self.folder.iterdir()} == before

    @rule(who=WHO, place=st.sampled_from(PLACES), turn=st.integers(1, 3))
    def install_and_die(self, who: str, place: str, turn: int) -> None:
        left, dead = [turn], list[bool]()

        def die(name: str) -> None:
            if name == f"folder.{place}":
                left[0] -= 1
                if not left[0]:
                    dead.append(True)
                    raise Killed

        def tidy(path: Path, **how: Any) -> None:
            if not dead:
                real_rmtree(path, **how)

        with patched(run_folder, "failpoint", die), patched(run_folder.shutil, "rmtree", tidy), suppress(Killed):
            run_folder.install(self.folder, fill(who, FILES[who]))

    @rule(who=WHO, call=st.sampled_from(["replace", "unlink", "mkdir"]), turn=st.integers(1, 5))
    def install_on_a_disk_that_fails(self, who: str, call: str, turn: int) -> None:
        """The n-th of these calls fails once, as on a disk that is full or was taken away."""
        real, left = getattr(Path, call), [turn]

        def fails(path: Path, *given: Any, **named: Any) -> Any:
            left[0] -= 1
            if not left[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(path, *given, **named)

        with patched(Path, call, fails), suppress(OSError):
            run_folder.install(self.folder, fill(who, FILES[who]))

    @rule(who=WHO)
    def begin(self, who: str) -> None:
        """A comparison starts over in the folder: nothing of another is left, and nothing says finished."""
        run_folder.begin(self.folder, manifest(request=who).unfinished())
        assert self.there() == {MANIFEST} and owner(self.folder) == who
        assert not Manifest.read(self.folder / MANIFEST).finished

    @rule(
        name=st.sampled_from(["notes.txt", "table.md.bak", "my table.md", "figure9.svg", ".hidden"]),
        text=st.text(max_size=4),
    )
    def put(self, name: str, text: str) -> None:
        self.mine[name] = repr(text)
        (self.folder / name).write_text(repr(text))

    @rule(name=st.sampled_from(["table.md", "cards.md", "results.jsonl"]))
    def lose(self, name: str) -> None:
        """The user deletes a table, which the same command brings back."""
        (self.folder / name).unlink(missing_ok=True)
        if (self.folder / MANIFEST).is_file() and Manifest.read(self.folder / MANIFEST).finished:
            self.install(owner(self.folder))

    @rule(who=WHO)
    def choose(self, who: str) -> None:
        """The folder is free, or its owner's."""
        assert (choose(self.folder, who) == self.folder) == (owner(self.folder) in ("", who))

    def there(self) -> set[str]:
        """The files of a comparison, its manifest among them."""
        return {path.name for path in self.folder.iterdir() if OURS.fullmatch(path.name) or path.name == MANIFEST}

    @invariant()
    def all_is_of_one_comparison(self) -> None:
        assert len(whose(self.folder)) <= 1

    @invariant()
    def what_says_finished_is_whole(self) -> None:
        file = self.folder / MANIFEST
        if file.is_file() and json.loads(file.read_text())["finished"]:
            assert self.there() == {*FILES[owner(self.folder)], MANIFEST}

    @invariant()
    def tables_have_a_manifest(self) -> None:
        assert not self.there() or MANIFEST in self.there()

    @invariant()
    def what_is_the_users_stays(self) -> None:
        for name, text in self.mine.items():
            assert (self.folder / name).read_text() == text


real_rmtree = shutil.rmtree


def test_no_history_leaves_a_mixture() -> None:
    play(Machine, histories=25)


def unclean(folder: Path, told: Manifest) -> None:
    """A mutant: what is there stays until it is overwritten."""
    told.write(folder / MANIFEST)


def manifest_first(folder: Path) -> bool:
    """A mutant: the manifest goes before the tables."""
    (folder / MANIFEST).unlink(missing_ok=True)
    for path in list(folder.iterdir()):
        if path.is_file() and OURS.fullmatch(path.name):
            path.unlink()
            run_folder.failpoint("folder.removed")
    return True


def by_ending(folder: Path) -> bool:
    """A mutant: every text and picture is a comparison's."""
    for path in list(folder.iterdir()):
        if path.suffix in (".md", ".svg", ".jsonl", ".html"):
            path.unlink()
    return manifest_first(folder)


@pytest.mark.parametrize(
    ("module", "name", "wrong"),
    [
        (run_folder, "begin", unclean),
        (run_folder, "clear", manifest_first),
        (run_folder, "clear", by_ending),
        (run_folder, "_same", lambda folder, made: (folder / MANIFEST).is_file()),
        (run_folder, "_mark", lambda file: None),
    ],
    ids=["unclean", "manifest first", "by ending", "the same by its manifest", "not marked"],
)
def test_a_wrong_way_to_fill_a_folder_loses(
    module: object, name: str, wrong: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises((AssertionError, OSError)):
        play(Machine, histories=80)


@pytest.mark.parametrize("call", ["unlink", "write_bytes", "replace"])
def test_a_file_that_cannot_be_written_is_as_it_was(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole or not at all, and by the next attempt whole; what was begun is in nobody's way."""
    file = tmp_path / "table.md"
    files.put(file, "old")

    def fails(*given: Any, **named: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(Path, call, fails)
        files.put(file, "new")
    assert file.read_text() == "old"
    files.put(file, "new")
    assert file.read_text() == "new" and [path.name for path in tmp_path.iterdir()] == ["table.md"]


@pytest.mark.parametrize("name", ["a b", "ü\u202e", "-x", "a\nb", "%s{}", "*?", "x" * 200])
def test_a_folder_of_any_name_is_filled_and_known(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    run_folder.install(folder, fill("a", FILES["a"]))
    assert whose(folder) == {"a"} and choose(folder, "a") == folder and choose(folder, "b") == tmp_path / f"{name}-2"


def test_a_link_in_the_place_of_a_table_is_replaced_and_not_followed(tmp_path: Path) -> None:
    """A table that the user links elsewhere keeps what it leads to; the folder gets a table of its own."""
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere.md"
    run_folder.install(folder, fill("a", FILES["a"]))
    elsewhere.write_text("mine")
    (folder / "table.md").unlink()
    (folder / "table.md").symlink_to(elsewhere)
    run_folder.install(folder, fill("b", FILES["b"]))
    assert elsewhere.read_text() == "mine" and whose(folder) == {"b"} and not (folder / "table.md").is_symlink()
