"""`harness data prepare`: what it keeps, when it is believed, how a kill is survived, what it takes."""

import json
import os
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from threading import BrokenBarrierError
from time import process_time
from typing import Any

import pytest
from PIL import Image as Pillow
from typer.testing import CliRunner

from harness import cli
from harness.contracts import images, pictures, prepared
from harness.contracts.prepared import Prepared, candidate, found, prepare
from harness.contracts.records import Dropped, Example
from harness.contracts.settings import Reading
from harness.contracts.source import AS_LLAVA, Source
from harness.sources import _records
from harness.sources._chosen import source
from harness.store.contents import CONTENTS
from harness.store.store import Store
from harness.system.errors import HarnessError, UsageError
from harness.system.profile import quiet
from tests.seams.sources import published, record

FORK = get_context("fork")
KILLS = [f"prepared.{point}" for point in ("part:1", "part:3", "joined:1")]
KILLS += [f"store.{point}:1" for point in ("filled", "manifest", "renamed")]


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that knows of no store."""
    for name, value in (("root", None), ("_memo", None), ("_known", {})):
        monkeypatch.setattr(CONTENTS, name, value)
    monkeypatch.setattr(prepared, "PART", 4)


@pytest.fixture
def mine(tmp_path: Path) -> Source:
    """Twelve records about four pictures, one of which is none, and two records that cannot be used."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        Pillow.new("RGB", (6, 4), (number, 90, 200)).save(photos / f"{number}.png")
    (photos / "3.png").write_text("no picture")
    rows = [{**record(number), "id": f"r{number}", "image": f"{number % 4}.png"} for number in range(12)]
    rows += [{"id": "odd", "conversations": []}, {**record(0), "id": "gone", "image": "gone.png"}]
    (tmp_path / "my.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return source(str(tmp_path / "my.jsonl"), str(photos))


def directly(given: Source, reading: Reading = AS_LLAVA) -> list[Example | Dropped]:
    """As it is without a store."""
    root, CONTENTS.root = CONTENTS.root, None
    made = list(given.load(lambda id: id[::-1], reading))
    CONTENTS.root = root
    return made


def counting(monkeypatch: pytest.MonkeyPatch, count: list[int]) -> None:
    def counted(data: bytes, upright: bool = False) -> Pillow.Image:
        count.append(len(data))
        return true(data, upright)

    true = images.decode
    monkeypatch.setattr(images, "decode", counted)
    monkeypatch.setattr(pictures, "decode", counted)


def test_each_picture_is_decoded_once_and_never_again(
    mine: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = list[int]()
    monkeypatch.setattr(prepared, "cpu_count", lambda: 1)  # two threads may meet at one picture
    with monkeypatch.context() as patch:
        counting(patch, decoded)
        prepare(mine, AS_LLAVA, Store(tmp_path / "store"), quiet)
        assert len(decoded) == 4
        assert list(mine.load(lambda id: id[::-1])) == directly(mine)
        assert len(decoded) == 4 + 12  # directly: one for each record


def test_data_of_ones_own_are_parsed_once(mine: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which pictures they name is known once their records are read, and asked again when all is done."""
    parsed, true = list[Path](), _records.parsed

    def counted(file: Path, *given: Any) -> Any:
        parsed.append(file)
        return true(file, *given)

    monkeypatch.setattr(_records, "parsed", counted)
    about = prepare(mine, AS_LLAVA, Store(tmp_path / "store"), quiet).about
    assert len(parsed) == 1 and len(about["named"]) == 5
    prepare(mine, AS_LLAVA, Store(tmp_path / "store"), quiet)
    assert mine.identity(AS_LLAVA) == about["identity"] and len(list(mine.load())) == 14
    assert len(parsed) == 1


def test_it_says_what_cannot_be_used(mine: Source, tmp_path: Path) -> None:
    about = prepare(mine, AS_LLAVA, Store(tmp_path / "store"), quiet).about
    assert about["dropped"] == {
        "image: not a JPEG, PNG, WebP, BMP or GIF": 3,
        "no conversations": 1,
        "image: no such file": 1,
    }
    assert len(about["ids"]) == 14 and len(about["named"]) == 5


def test_data_and_pictures_may_lie_elsewhere(tmp_path: Path) -> None:
    prepare(published("textcaps", tmp_path), AS_LLAVA, Store(tmp_path.with_name("store")), quiet)
    (there := tmp_path.with_name("there")).mkdir()
    copy = published("textcaps", there)
    assert found(copy, AS_LLAVA)
    shown = {Path(made.image.path).parents[1] for made in copy.load() if isinstance(made, Example) and made.image}
    assert shown == {there / "images"}


def changed_picture(photos: Path) -> None:
    Pillow.new("RGB", (6, 4), (77, 7, 7)).save(photos / "0.png")


def broken_picture(photos: Path) -> None:
    (photos / "0.png").write_bytes((photos / "0.png").read_bytes()[:30])


def found_picture(photos: Path) -> None:
    (photos / "gone.png").write_bytes((photos / "1.png").read_bytes())


def lost_picture(photos: Path) -> None:
    (photos / "1.png").unlink()


@pytest.mark.parametrize("change", [changed_picture, broken_picture, found_picture, lost_picture])
def test_a_picture_that_changes_behind_it_is_read_again(
    change: Callable[[Path], None], mine: Source, tmp_path: Path
) -> None:
    """Whatever was prepared: a comparison sees the files as they are, and preparing again sees them too."""
    store = Store(tmp_path / "store")
    first = prepare(mine, AS_LLAVA, store, quiet)
    before = directly(mine)
    change(tmp_path / "photos")
    assert candidate(mine, AS_LLAVA) and not found(mine, AS_LLAVA)
    now = list(mine.load(lambda id: id[::-1]))
    assert now == directly(mine) != before
    again = prepare(mine, AS_LLAVA, store, quiet)
    assert again.folder == first.folder and found(mine, AS_LLAVA)
    assert list(mine.load(lambda id: id[::-1])) == now


def test_other_data_and_another_reading_are_not_what_was_prepared(mine: Source, tmp_path: Path) -> None:
    prepare(mine, AS_LLAVA, Store(tmp_path / "store"), quiet)
    upright = Reading(images="upright")
    assert candidate(mine, upright) is None
    assert found(mine, Reading(max_dropped=0.5))  # how many may be unusable changes no example
    with (tmp_path / "my.jsonl").open("a") as file:
        file.write(json.dumps({**record(0), "id": "new", "image": "0.png"}) + "\n")
    assert candidate(mine, AS_LLAVA) is None
    assert len(list(mine.load())) == 15


def test_what_is_damaged_in_the_store_is_not_believed(mine: Source, tmp_path: Path) -> None:
    made = prepare(mine, AS_LLAVA, Store(tmp_path / "store"), quiet)
    file = made.folder / "examples.jsonl"
    data = file.read_bytes().replace(b"It is 0.", b"It is 8.")
    file.unlink()
    file.write_bytes(data)
    from harness.store import store

    store._sound.clear()  # as another process
    assert candidate(mine, AS_LLAVA) is None
    assert list(mine.load(lambda id: id[::-1])) == directly(mine)
    assert (
        b"It is 0."
        in (prepare(mine, AS_LLAVA, Store(tmp_path / "store"), quiet).folder / "examples.jsonl").read_bytes()
    )


def outputs(made: Prepared) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in made.folder.iterdir() if file.name != "manifest.json"}


def killed(mine: Source, store: Path, point: str) -> None:
    """Prepare it in a process that dies at a failpoint."""

    def die() -> None:
        os.environ["HARNESS_FAILPOINT"] = point
        prepare(mine, AS_LLAVA, Store(store), quiet)

    child = FORK.Process(target=die)
    child.start()
    child.join(60)
    assert child.exitcode == 137


@pytest.mark.parametrize("point", KILLS)
def test_killed_anywhere_it_goes_on_and_is_what_it_would_have_been(
    point: str, mine: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = outputs(prepare(mine, AS_LLAVA, Store(tmp_path / "alone"), quiet))

    killed(mine, tmp_path / "store", point)
    read, true = list[str](), Source.tried

    def counted(self: Source, id: str, *given: Any) -> Example | Dropped:
        read.append(id)
        return true(self, id, *given)

    monkeypatch.setattr(Source, "tried", counted)
    assert outputs(prepare(mine, AS_LLAVA, Store(tmp_path / "store"), quiet)) == expected
    assert len(read) == {"prepared.part:1": 14, "prepared.part:3": 14 - 8}.get(point, 0)  # parts of 4
    assert not list((tmp_path / "store" / ".work").rglob("*.jsonl"))


def test_what_a_lost_disk_left_empty_is_made_again(mine: Source, tmp_path: Path) -> None:
    """Whichever file of those under way it is."""
    expected = outputs(prepare(mine, AS_LLAVA, Store(tmp_path / "alone"), quiet))

    killed(mine, tmp_path / "store", "prepared.part:3")
    left = [file for file in (tmp_path / "store" / ".work").rglob("*") if file.is_file()]
    assert len(left) == 3
    for file in left:
        file.write_text("")
    assert outputs(prepare(mine, AS_LLAVA, Store(tmp_path / "store"), quiet)) == expected


def test_two_that_prepare_what_has_changed_take_turns(
    mine: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else both discard what is there, and one of them what the other has made since."""
    prepare(mine, AS_LLAVA, Store(tmp_path / "store"), quiet)
    changed_picture(tmp_path / "photos")
    met, true = FORK.Barrier(2), prepared.found

    def slowly(*given: Any) -> Prepared | None:
        known = true(*given)
        with suppress(BrokenBarrierError):
            met.wait(2)
        return known

    monkeypatch.setattr(prepared, "found", slowly)
    children = [FORK.Process(target=prepare, args=(mine, AS_LLAVA, Store(tmp_path / "store"), quiet)) for _ in "ab"]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    monkeypatch.undo()
    assert [child.exitcode for child in children] == [0, 0]
    CONTENTS.keep(tmp_path / "store")
    assert found(mine, AS_LLAVA)


def test_parts_of_other_pictures_are_not_gone_on_with(mine: Source, tmp_path: Path) -> None:
    killed(mine, tmp_path / "store", "prepared.part:2")
    broken_picture(tmp_path / "photos")
    prepare(mine, AS_LLAVA, Store(tmp_path / "store"), quiet)
    assert list(mine.load(lambda id: id[::-1])) == directly(mine)
    assert len([made for made in mine.load() if isinstance(made, Dropped)]) == 3 + 3 + 2


def changed_data(photos: Path) -> None:
    with (photos.parent / "my.jsonl").open("a") as file:
        file.write(json.dumps({**record(0), "id": "late", "image": "1.png"}) + "\n")


@pytest.mark.parametrize("change", [changed_picture, changed_data])
def test_files_that_change_while_they_are_read_are_refused(
    change: Callable[[Path], None], mine: Source, tmp_path: Path
) -> None:
    def meddle(done: int, total: int) -> None:
        if done == 8:
            change(tmp_path / "photos")

    with pytest.raises(HarnessError, match="changed while it was read; give the same command again"):
        prepare(mine, AS_LLAVA, Store(tmp_path / "store"), meddle)
    assert candidate(mine, AS_LLAVA) is None
    prepare(mine, AS_LLAVA, Store(tmp_path / "store"), quiet)
    assert list(mine.load(lambda id: id[::-1])) == directly(mine)


def test_pictures_in_tables_are_left_to_the_comparison(tmp_path: Path) -> None:
    import io

    pq, pa = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    file = io.BytesIO()
    Pillow.new("RGB", (6, 4)).save(file, "PNG")
    row = {"id": "a", "image": {"bytes": file.getvalue(), "path": None}, "conversations": record(0)["conversations"]}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "my.parquet")
    with pytest.raises(UsageError, match="nothing to prepare"):
        prepare(source(str(tmp_path / "my.parquet")), AS_LLAVA, Store(tmp_path / "store"), quiet)


def ran(*words: str) -> str:
    done = CliRunner().invoke(cli.app, ["data", "prepare", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_command_counts_and_says_how_far_it_is(mine: Source, tmp_path: Path) -> None:
    words = [str(mine.home), "--images", str(mine.images), "--store", str(tmp_path / "store")]
    said = ran(*words)
    assert "my.jsonl: hashing 4 of 4 files" in said and "my.jsonl: reading 14 of 14 records" in said
    assert "my.jsonl: 14 records, 9 of them usable" in said and "  image: no such file: 1" in said
    assert "reading" not in ran(*words)  # all is there


def test_joined_sources_are_prepared_one_by_one_from_a_folder_of_theirs(tmp_path: Path) -> None:
    for name in ("ocrvqa", "textcaps"):
        (tmp_path / name).mkdir()
        published(name, tmp_path / name)
    said = ran("ocrvqa+textcaps", "--from", str(tmp_path), "--store", str(tmp_path / "store"))
    assert "ocrvqa: 12 records, 12 of them usable" in said and "textcaps: 12 records" in said


def test_a_drawn_source_has_nothing_to_read(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli.app, ["data", "prepare", "ocrvqa", "--store", str(tmp_path)])
    assert isinstance(done.exception, UsageError) and "--from" in str(done.exception)


def bare(folder: Path, n: int) -> Source:
    """So many records of LLaVA-150k's length, without pictures: those take time, and no memory."""
    file = folder / f"{n}.jsonl"
    turns = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "word " * 150}]
    with file.open("w") as out:
        for number in range(n):
            out.write(json.dumps({"id": f"r{number}", "conversations": turns}) + "\n")
    return source(str(file))


@pytest.mark.heavy
def test_a_draw_from_what_was_prepared_takes_linear_time_and_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared, "PART", 1000)
    spent = {}
    for n in (4_000, 16_000):
        given = bare(tmp_path, n)
        start = process_time()
        prepare(given, AS_LLAVA, Store(tmp_path / "store"), quiet)
        assert sum(isinstance(made, Example) for made in given.load(lambda id: id[::-1])) == n
        spent[n] = process_time() - start
    assert spent[16_000] < 8 * spent[4_000], spent  # quadratic: 16
    tracemalloc.start()
    drawn = given.load(lambda id: id[::-1])
    first = [next(drawn) for _ in range(100)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(first) == 100 and peak / 16_000 < 400, f"{peak / 16_000:,.0f} bytes a record"  # read directly: 3,000
