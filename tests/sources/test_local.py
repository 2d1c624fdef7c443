"""Data of one's own: the formats, where pictures are looked for, and what identifies them."""

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from harness.contracts.images import Places, StoreImages, read_image
from harness.contracts.records import Dropped, Example
from harness.contracts.settings import Reading
from harness.sources._chosen import source
from harness.sources.local import Local
from harness.system.errors import UsageError


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Pillow.new("RGB", (6, 4), (shade, 90, 200)).save(file, "PNG")
    return file.getvalue()


def record(name: str, image: Any = None) -> dict[str, Any]:
    said = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": f"It is {name}."}]
    return {"id": name, "image": image or f"{name}.png", "conversations": said}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for shade, name in enumerate("abc"):
        (folder / f"{name}.png").write_bytes(png(shade))
    return folder


def read(file: Path, images: Path, **reading: Any) -> list[Example | Dropped]:
    return list(Local(file, images).load(reading=Reading(**reading)))


def as_json(folder: Path, *records: Any, name: str = "my.json") -> Path:
    (folder / name).write_text(json.dumps(records))
    return folder / name


@pytest.mark.parametrize("name", ["my.jsonl", "my.json"])
def test_json_lines_under_either_name(name: str, photos: Path, tmp_path: Path) -> None:
    records = [record(name) for name in "abc"]
    whole = read(as_json(tmp_path, *records, name="whole.json"), photos)
    (tmp_path / name).write_text("\n".join(map(json.dumps, records)) + "\n\n")
    assert read(tmp_path / name, photos) == whole
    assert [type(found) for found in whole] == [Example] * 3


def test_json_lines_may_be_one_line(photos: Path, tmp_path: Path) -> None:
    """Which is JSON as well, but no list."""
    (tmp_path / "one.jsonl").write_text(json.dumps(record("a")))
    assert [type(found) for found in read(tmp_path / "one.jsonl", photos)] == [Example]
    (tmp_path / "one.json").write_text(json.dumps(record("a")))
    with pytest.raises(UsageError, match="is not a list of records"):
        read(tmp_path / "one.json", photos)


def test_which_words_mean_data_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "dataset_info.json").write_text("{}")
    (tmp_path / "llava150k").mkdir()
    for word in ("my.json", "my.jsonl", "my.parquet", "mine", "./x", "~/x/y.json"):
        assert isinstance(source(word), Local), word
    for word in ("llava150k", "textcaps"):
        assert str(source(word)) == source(word).name == word


def test_without_images_paths_start_where_the_data_are(photos: Path) -> None:
    file = as_json(photos, record("a"))
    assert source(str(file)) == Local(file, photos)
    assert isinstance(next(source(str(file)).load()), Example)


def test_an_absolute_path_inside_the_image_folder(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(photos)
    names = [photos / "a.png", tmp_path / "link" / "a.png"]
    file = as_json(tmp_path, *(record(str(n), str(path)) for n, path in enumerate(names)))
    inside, outside = read(file, photos)
    assert isinstance(inside, Example)
    assert isinstance(outside, Dropped)
    assert "--images names the folder" in outside.reason
    assert all(isinstance(found, Example) for found in read(file, tmp_path / "link"))


def hub_cache(root: Path) -> Path:
    """A snapshot in the hub's cache, whose files are links to blobs; its folder of pictures."""
    home, images = root / "datasets--me--mine", root / "datasets--me--mine" / "snapshots" / ("0" * 40) / "images"
    (home / "blobs").mkdir(parents=True)
    images.mkdir(parents=True)
    for shade, name in enumerate("ab"):
        (home / "blobs" / f"sha{name}").write_bytes(png(shade))
        (images / f"{name}.png").symlink_to(os.path.relpath(home / "blobs" / f"sha{name}", images))
    return images


def test_links_into_the_hub_cache_are_followed(tmp_path: Path) -> None:
    images = hub_cache(tmp_path)
    found = read(as_json(images.parent, record("a"), record("b")), images)
    assert [type(example) for example in found] == [Example, Example]
    assert len({example.image.sha256 for example in found if isinstance(example, Example) and example.image}) == 2


def test_links_out_of_folder_and_cache_are_refused_with_the_cure(tmp_path: Path) -> None:
    images = hub_cache(tmp_path)
    (tmp_path / "secret.png").write_bytes(png(9))
    (tmp_path / "other" / "d").mkdir(parents=True)
    (tmp_path / "other" / "d" / "x.png").write_bytes(png(8))
    (images / "out.png").symlink_to(tmp_path / "secret.png")
    (images / "d").symlink_to(tmp_path / "other" / "d")
    (images / "again.png").symlink_to("a.png")
    file = as_json(images.parent, record("out"), record("x", "d/x.png"), record("again"))
    out, through, again = read(file, images)
    for dropped in (out, through):
        assert isinstance(dropped, Dropped)
        assert "a link that leads out of its folder" in dropped.reason
        assert "reading.links=any" in dropped.reason
    assert isinstance(again, Example)
    assert all(isinstance(found, Example) for found in read(file, images, links="any"))


def test_what_identifies_the_pictures_is_what_the_records_name(photos: Path, tmp_path: Path) -> None:
    """And not all that happens to be in a folder: with no --images it may be a home folder."""
    file = as_json(tmp_path, record("a"), record("gone"), record("out", "../x.png"), record("b", ["b.png"]))
    assert Local(file, photos).named(Reading()) == [photos / name for name in ("a.png", "b.png", "gone.png")]


def keep(root: Path) -> Any:
    """As a split stage keeps pictures out of tables."""
    return StoreImages(Places(root), root, root).of


def check_tables(found: list[Example | Dropped], root: Path) -> None:
    for shade, example in enumerate(found):
        assert isinstance(example, Example), example
        assert example.image is not None
        kept = root / example.image.path
        assert kept.read_bytes() == png(shade)
        assert read_image(kept, example.image.sha256).getpixel((0, 0)) == (shade, 90, 200)


ROWS = [
    {"id": None, "messages": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "It."}],
     "images": [{"bytes": png(shade), "path": None}], "rejected_response": "No." if shade % 2 else None}
    for shade in range(150)
]  # fmt: skip


def test_parquet_with_pictures_inside(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "my.parquet", row_group_size=70)
    found = list(Local(tmp_path / "my.parquet", tmp_path).load(keep=keep(tmp_path)))
    check_tables(found, tmp_path)
    assert len({example.id for example in found}) == 150  # no ids of their own, one text: the picture tells
    assert [e.rejected for e in found if isinstance(e, Example)] == [None, "No."] * 75
    ordered = list(Local(tmp_path / "my.parquet", tmp_path).load(lambda id: id, keep=keep(tmp_path)))
    assert sorted(found, key=lambda example: example.id) == ordered


def test_parquet_with_paths(photos: Path, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [record("a"), record("b", {"bytes": None, "path": "b.png"}) | {"image": "b.png"}]
    (tmp_path / "data").mkdir()
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "data" / "train-00000-of-00001.parquet")
    parquet.write_table(pa.Table.from_pylist(rows[:1]), tmp_path / "data" / "test-00000-of-00001.parquet")
    assert len(read(tmp_path / "data", photos)) == 2  # the training split of a clone


def test_a_folder_that_datasets_saved(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_list(ROWS[:5]).cast_column("images", [datasets.Image()])
    table.select([4, 2, 0, 1, 3]).select([2, 3, 1, 4, 0]).save_to_disk(tmp_path / "one")  # indices beside the table
    datasets.DatasetDict({"train": table, "test": table.select([0])}).save_to_disk(tmp_path / "both")
    for folder in ("one", "both", "both/train"):
        found = list(Local(tmp_path / folder, tmp_path).load(keep=keep(tmp_path)))
        assert len(found) == 5
        check_tables(found, tmp_path)
    datasets.DatasetDict({"x": table, "y": table}).save_to_disk(tmp_path / "splits")
    with pytest.raises(UsageError, match=r"has the splits x, y; name one"):
        Local(tmp_path / "splits", tmp_path).load()


@pytest.mark.parametrize("name", ["my.parquet", "saved"])
def test_a_damaged_table_is_a_sentence(name: str, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    if name == "saved":
        (tmp_path / name).mkdir()
        (tmp_path / name / "dataset_info.json").write_text("[")
    else:
        (tmp_path / name).write_bytes(b"PAR1 no more")
    with pytest.raises(UsageError, match=name):
        Local(tmp_path / name, tmp_path).load()


@pytest.mark.parametrize(("name", "module"), [("my.parquet", "pyarrow"), ("saved", "datasets")])
def test_what_is_not_installed_is_a_sentence_with_the_cure(
    name: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    if name == "saved":
        (tmp_path / name).mkdir()
        (tmp_path / name / "dataset_info.json").write_text("{}")
    else:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UsageError, match=rf"needs {module}; pip install"):
        Local(tmp_path / name, tmp_path).load()


def test_what_is_missing_is_named(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no data file"):
        Local(tmp_path / "gone.json", tmp_path).load()
    with pytest.raises(UsageError, match=r"no data file .*JSON lines"):
        Local(photos, tmp_path).load()
    with pytest.raises(UsageError, match="no image folder"):
        Local(as_json(tmp_path), tmp_path / "gone").load()
    assert list(Local(as_json(tmp_path), tmp_path).load(lambda id: id)) == []
