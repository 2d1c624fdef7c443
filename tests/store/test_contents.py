"""Every byte of a user's files is in a key, and is read once; what is remembered is never trusted half."""

import os
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from harness.models.load import revision
from harness.store import contents
from harness.store.contents import MEMO, Contents, listing
from harness.system.errors import UsageError

LONG_AGO = time.time() - 3600


def aged(path: Path, data: bytes) -> Path:
    """The file, as if it had been there for an hour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an hour later than the files' times: ctime cannot be set back."""
    monkeypatch.setattr(contents.time, "time_ns", lambda: int((time.time() + 3600) * 1e9))


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "CONTENTS", Contents())


ENDINGS = "json jsonl tsv csv xlsx txt parquet gz zip jpg png webp model jinja bin pickle".split()


@pytest.mark.parametrize("name", [*(f"a.{ending}" for ending in ENDINGS), "images/7", "LICENSE", ".hidden"])
def test_another_byte_in_any_file_of_a_folder_is_another_listing(tmp_path: Path, name: str) -> None:
    """Same name, same size, same times."""
    aged(tmp_path / name, b"one")
    before = listing(tmp_path)
    aged(tmp_path / name, b"two")
    assert listing(tmp_path) != before


@pytest.mark.parametrize("name", [".DS_Store", "images/.DS_Store", "Thumbs.db", "__pycache__/x.pyc"])
def test_what_a_file_manager_or_python_leaves_is_nobodys(tmp_path: Path, name: str) -> None:
    """To look into a folder with it is no change; AppleDouble's ._a.json counts, for a glob of *.json finds it."""
    aged(tmp_path / "a.json", b"one")
    aged(tmp_path / "images" / "1.png", b"one")
    before = listing(tmp_path)
    aged(tmp_path / name, b"icons")
    assert listing(tmp_path) == before
    aged(tmp_path / "._a.json", b"one")
    assert listing(tmp_path) != before


def test_a_listing_sees_names_and_new_files_but_not_where_the_folder_is(tmp_path: Path) -> None:
    aged(tmp_path / "a" / "x.jpg", b"x")
    before = listing(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    assert listing(tmp_path / "b") == before
    (tmp_path / "b" / "x.jpg").rename(tmp_path / "b" / "y.jpg")
    assert listing(tmp_path / "b") != before


def test_a_listing_looks_through_links_and_ends_at_a_circle(tmp_path: Path) -> None:
    picture = aged(tmp_path / "elsewhere" / "x.jpg", b"one")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "images").symlink_to(tmp_path / "elsewhere")
    (folder / "round").symlink_to(folder)
    (folder / "gone").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "pipe")
    before = listing(folder)
    aged(picture, b"two")
    assert listing(folder) != before


MODEL = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer.model", "vocab.txt", "merges.txt"]
MODEL += ["chat_template.jinja", "preprocessor_config.json", "processor_config.json", "generation_config.json"]
MODEL += ["additional_chat_templates/tool.jinja", "vocab.bpe"]


@pytest.mark.parametrize("name", MODEL)
def test_another_byte_in_any_file_of_a_model_is_another_revision(tmp_path: Path, name: str) -> None:
    for file in MODEL:
        aged(tmp_path / file, b"{} ")
    before = revision(tmp_path)
    aged(tmp_path / name, b" {}")
    assert revision(tmp_path) != before


def test_a_readme_is_no_part_of_a_model(tmp_path: Path) -> None:
    for file in MODEL[:2]:
        aged(tmp_path / file, b"{}")
    before = revision(tmp_path)
    aged(tmp_path / "README.md", b"new")
    aged(tmp_path / ".cache" / "huggingface" / "x.metadata", b"new")
    assert revision(tmp_path) == before


def reads(root: Path, *files: Path) -> int:
    """How many of the files a new process would read."""
    one = Contents()
    one.keep(root)
    one.digests(files)
    return one.read


def test_a_file_is_read_once_whoever_asks(tmp_path: Path, later: None) -> None:
    files = [aged(tmp_path / "data" / str(number), b"%d" % number) for number in range(50)]
    assert reads(tmp_path, *files) == 50
    assert reads(tmp_path, *files) == 0
    aged(files[7], b"x")
    assert reads(tmp_path, *files) == 1


def test_what_is_read_before_its_store_is_there_is_remembered_in_it(tmp_path: Path, later: None) -> None:
    """A plan hashes the data of a comparison whose store comes after it."""
    file, root, first = aged(tmp_path / "file", b"x"), tmp_path / "store", contents.Contents()
    first.keep(root)
    first.digest(file)
    assert not root.exists()
    root.mkdir()
    first.keep(root)
    assert reads(root, file) == 0


def test_a_kill_costs_no_more_than_what_is_read_at_once(
    tmp_path: Path, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "AT_ONCE", 2)
    files, told, killed = (
        [aged(tmp_path / str(n), b"x") for n in range(5)],
        list[tuple[int, int]](),
        contents.Contents(),
    )
    killed.keep(tmp_path)

    def tell(done: int, total: int) -> None:
        told.append((done, total))
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), killed.telling(tell):
        killed.digests(files)
    assert told == [(2, 5), (4, 5)] and reads(tmp_path, *files) == 1


def test_replaced_with_equal_size_and_time_is_read_again(tmp_path: Path, later: None) -> None:
    """As `cp -p` or `rsync -t` does it: only inode and ctime tell."""
    file = aged(tmp_path / "x.jpg", b"one")
    one = Contents()
    one.keep(tmp_path)
    first = one.digest(file)
    aged(tmp_path / "new", b"two").replace(file)
    assert one.digest(file) != first


def test_a_file_touched_just_now_is_not_remembered(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"one")
    assert (reads(tmp_path, file), reads(tmp_path, file)) == (1, 1)


def test_the_mutant_that_remembers_everything_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "RACY_NS", -(10**18))
    with pytest.raises(AssertionError):
        test_a_file_touched_just_now_is_not_remembered(tmp_path)


@pytest.mark.parametrize("blind", [2, 3], ids=["ctime", "inode"])
def test_inode_and_ctime_both_tell(tmp_path: Path, later: None, monkeypatch: pytest.MonkeyPatch, blind: int) -> None:
    """Size, mtime, ctime, inode: without either of the last two the other is enough."""
    real = contents._told

    def blinded(status: os.stat_result) -> str:
        fields = real(status).split()
        return " ".join([*fields[:blind], "0", *fields[blind + 1 :]])

    monkeypatch.setattr(contents, "_told", blinded)
    test_replaced_with_equal_size_and_time_is_read_again(tmp_path, None)


@settings(max_examples=60, deadline=None)
@given(at=some.integers(0, 10**6), flip=some.integers(1, 255), cut=some.booleans())
def test_a_damaged_memo_gives_no_wrong_digest(
    tmp_path_factory: pytest.TempPathFactory, at: int, flip: int, cut: bool
) -> None:
    root = tmp_path_factory.mktemp("memo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contents.time, "time_ns", lambda: int((time.time() + 3600) * 1e9))
        files = [aged(root / "data" / str(number), b"%d" % number) for number in range(3)]
        one = Contents()
        one.keep(root)
        right = one.digests(files)
        data = bytearray((root / MEMO).read_bytes())
        at %= len(data)
        data[at] ^= flip
        (root / MEMO).write_bytes(data[:at] if cut else data)
        other = Contents()
        other.keep(root)
        assert other.digests(files) == right


def _hash_all(root: str) -> None:
    contents.RACY_NS, contents.SPARE = -(10**18), 10**9
    one = Contents()
    for _ in range(20):
        one.keep(Path(root))
        one._known.clear()
        one.digests(sorted((Path(root) / "data").iterdir()))


def test_processes_share_a_memo(tmp_path: Path) -> None:
    files = [aged(tmp_path / "data" / f"{number}-{'x' * 100}", b"%d" % number) for number in range(20)]
    workers = [get_context("spawn").Process(target=_hash_all, args=(str(tmp_path),)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    known = [contents._unsealed(line) for line in (tmp_path / MEMO).read_bytes().splitlines() if line]
    assert len(known) == 3 * 20 * len(files) and None not in known


def test_a_memo_of_old_lines_is_written_anew(tmp_path: Path, later: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "SPARE", 5)
    file = tmp_path / "x"
    for number in range(20):
        reads(tmp_path, aged(file, b"%d" % number))
    assert len((tmp_path / MEMO).read_bytes().splitlines()) < 20
    assert reads(tmp_path, file) == 0


def forbidden(path: Path) -> None:
    path.mkdir()


def gone(path: Path) -> None:
    path.unlink(missing_ok=True)


@pytest.mark.parametrize("spoil", [forbidden, gone])
def test_what_cannot_be_read_is_a_sentence(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    spoil(tmp_path / "x")
    with pytest.raises(UsageError, match="x cannot be read: "):
        Contents().digest(tmp_path / "x")


def test_a_memo_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path, later: None) -> None:
    file = aged(tmp_path / "x", b"one")
    (tmp_path / MEMO).mkdir()
    assert (reads(tmp_path, file), reads(tmp_path, file)) == (1, 1)
