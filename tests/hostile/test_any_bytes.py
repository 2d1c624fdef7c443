"""Whatever bytes lie in a file: what it held, or a sentence that names it. Cut anywhere, a file never reads as a whole.

Every reader of files that strangers make is given good files with something wrong: cut, flipped, doubled, with bytes
that mean something in the wrong place. `test_files` has the attacks; here is what disks, networks and editors do.
"""

import gzip
import io
import json
import math
import shutil
import zipfile
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from benchmarks import _files
from harness.contracts.images import decode, read_image
from harness.models import folder as folders
from harness.models.folder import inspect
from harness.sources import _rows
from harness.system import archives, untrusted, yamls
from harness.system.errors import UsageError
from reports.archive import unpack
from reports.manifest import Manifest
from tests.fake_run import manifest
from tests.laws import caught, law

ROWS = [{"id": f"r{n}", "text": 'a é\u2028 "x", ' + "b" * n, "n": n * 1.5, "of": [None, {"": True}]} for n in range(12)]
PICTURES = ("png", "jpeg", "webp", "gif", "bmp")
BASE = Path(folders.__file__).parents[1] / "mini" / "bases" / "0"


def written(write: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def workbook() -> bytes:
    book = openpyxl.Workbook()
    for number in range(6):
        book.worksheets[0].append([f"h{number}", number + 1, number / 4, "=A1"])
    return written(book.save)


def table() -> bytes:
    from pyarrow import Table, parquet

    rows = Table.from_pylist([{"id": n, "image": {"bytes": b"12" * n, "path": "p"}} for n in range(20)])
    return written(lambda file: parquet.write_table(rows, file))


def bundle() -> bytes:
    def write(file: io.BytesIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("runs/000/manifest.json", "{}" * 50)
            packed.writestr(f"store/score/{'0' * 20}/units.json", "[1, 2]" * 20)

    return written(write)


def picture(form: str) -> bytes:
    noise = Pillow.effect_noise((23, 19), 80).convert("RGB")
    return written(lambda file: noise.save(file, form))


@cache
def good() -> dict[str, bytes]:
    """A good file of every kind that is read."""
    with TemporaryDirectory() as scratch:
        manifest().write(Path(scratch) / "manifest.json")
        told = (Path(scratch) / "manifest.json").read_bytes()
    whole = json.dumps(ROWS).encode()
    lines = b"id,text\n" + b"".join(b'%d,"x, ""y"" %d"\n' % (n, n) for n in range(12))
    return {
        "rows.json": whole,
        "rows.jsonl": "\n".join(map(json.dumps, ROWS)).encode(),
        "rows.json.gz": gzip.compress(whole, mtime=0),
        "table.csv": lines,
        "table.tsv": lines.replace(b",", b"\t"),
        "book.xlsx": workbook(),
        "bed.yaml": b"a: 1\nb: [x, 2.5]\nc: {d: &x 3, e: *x}\n# c\nf: 'q'\n",
        "bundle.zip": bundle(),
        "manifest.json": told,
        **{f"picture.{form}": picture(form) for form in PICTURES},
        **({"rows.parquet": table()} if find_spec("pyarrow") else {}),
    }


def rows(file: Path) -> list[object]:
    return _rows.each(file, lambda row: row)


def read(file: Path) -> object:
    """What the file holds, by the reader of its kind."""
    if file.name == "manifest.json":
        return Manifest.read(file).plain()
    if file.name.startswith("picture"):
        return read_image(file).tobytes()
    if file.suffix == ".zip":
        unpack(file, file.parent / "out")
        return sorted(path.name for path in (file.parent / "out").rglob("*"))
    readers: dict[str, Callable[[Path], object]] = {
        ".json": rows, ".jsonl": rows, ".parquet": rows, ".gz": untrusted.json_or_lines,
        ".csv": _files.table, ".tsv": _files.table, ".xlsx": _files.spreadsheet, ".yaml": yamls.yaml_file,
    }  # fmt: skip
    return readers[file.suffix](file)


def what(name: str, data: bytes) -> object:
    """What a file of these bytes holds; None where it is refused in a sentence that names it."""
    with TemporaryDirectory(prefix="bytes-") as home:
        file = Path(home) / name
        file.write_bytes(data)
        try:
            return read(file)
        except UsageError as error:
            assert name in str(error) and "\n" not in str(error) and len(str(error)) < 1000
        except ValueError:  # of pictures: a clause, for whoever knows which record it is
            assert name.startswith("picture")
    return None


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Something that happens to a file, wherever it happens."""
    kind = draw(st.sampled_from(["cut", "bit", "byte", "out", "twice", "in"]))
    one, other = sorted(draw(st.tuples(st.floats(0, 1), st.floats(0, 1))))
    bit, more = draw(st.integers(0, 7)), draw(st.binary(min_size=1, max_size=8) | st.sampled_from([b"{", b'"', b"\0"]))

    def damaged(data: bytes) -> bytes:
        first, second = int(one * (len(data) - 1)), int(other * (len(data) - 1))
        return {
            "cut": data[:first],
            "bit": data[:first] + bytes([data[first] ^ 1 << bit]) + data[first + 1 :],
            "byte": data[:first] + more[:1] + data[first + 1 :],
            "out": data[:first] + data[second:],
            "twice": data[:second] + data[first:],
            "in": data[:first] + more + data[first:],
        }[kind]

    return damaged


@pytest.mark.parametrize("name", good())
def test_a_damaged_file_is_read_or_refused_in_a_sentence(name: str) -> None:
    assert what(name, good()[name]) is not None

    @law(60)
    @given(damages())
    def holds(damage: Callable[[bytes], bytes]) -> None:
        what(name, damage(good()[name]))

    holds()


PREFIXED = ("rows.jsonl", "table.csv", "table.tsv", "bed.yaml")  # kinds of which a part can be whole: ends are no sign


@pytest.mark.parametrize("name", [name for name in good() if name not in PREFIXED])
def test_a_file_that_is_cut_anywhere_is_refused_or_lacks_nothing(name: str) -> None:
    """At every byte, or at two hundred places of a longer one; what lacks only its last filling may be whole."""
    data = good()[name]
    whole = what(name, data)
    for end in {*range(0, len(data), max(1, len(data) // 200)), *range(len(data) - 20, len(data))}:
        assert what(name, data[:end]) in (None, whole), end


@pytest.mark.parametrize("name", PREFIXED[:3])
def test_lines_that_are_cut_are_refused_or_fewer_and_never_other_ones(name: str) -> None:
    data = good()[name]
    whole = what(name, data)
    assert isinstance(whole, list)
    for end in range(len(data)):
        found = what(name, data[:end])
        last_cut = name.startswith("table") and isinstance(found, list) and found[:-1] == whole[: len(found) - 1]
        assert found is None or found == whole[: len(found)] or last_cut, end  # type: ignore[arg-type]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


def finite(value: Any) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return all(map(finite, parts)) and not (isinstance(value, float) and not math.isfinite(value))


@law(100)
@given(JSON, st.booleans())
def test_json_comes_back_as_it_was_or_has_a_number_that_is_none(value: Any, ascii_only: bool) -> None:
    """Against Python's own reader, on everything that its writer writes."""
    text = json.dumps(value, ensure_ascii=ascii_only)
    if finite(value):
        assert untrusted.parse_json(text, "it") == json.loads(text)
        assert untrusted.parse_json_lines(text, "it") == [value]
    else:
        with pytest.raises(UsageError, match="is no number"):
            untrusted.parse_json(text, "it")


def placed(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at] * bool(at) + [way for key, part in inner for way in placed(part, (*at, key))]


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer_config.json"])
def test_anything_in_a_field_of_a_model_s_settings_is_a_sentence_or_no_matter(name: str, tmp_path: Path) -> None:
    shutil.copytree(BASE, tmp_path / "model")
    file = tmp_path / "model" / name
    told = file.read_text()
    for way in placed(json.loads(told)):
        for wrong in (None, -1.5, "x", ["x"], {"x": 1}):
            config = json.loads(told)
            inner = config
            for key in way[:-1]:
                inner = inner[key]
            inner[way[-1]] = wrong
            file.write_text(json.dumps(config))
            try:
                looked = inspect(tmp_path / "model")
                assert looked.places[0] > 0 and looked.architecture and looked.linear_layers
            except UsageError as error:
                assert "\n" not in str(error)


# Readers that these tests must catch


def half(data: bytes, upright: bool = False) -> Pillow.Image:
    """A mutant: what is there of a picture is read, as libraries have it that switch that on."""
    from PIL import ImageFile

    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        return Pillow.open(io.BytesIO(data)).convert("RGB")
    except Exception as error:
        raise ValueError(str(error)) from None
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False


@pytest.mark.parametrize("form", ["png", "jpeg"])
def test_half_a_picture_that_is_read_would_be_caught(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.contracts.images.decode", half)
    assert decode is not half
    caught(test_a_file_that_is_cut_anywhere_is_refused_or_lacks_nothing, f"picture.{form}")


def test_a_packed_file_that_is_read_as_far_as_it_goes_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    import zlib

    def wrong(data: bytes, name: str, limit: int = 0) -> bytes:
        return zlib.decompressobj(wbits=31).decompress(data) + b"]"

    monkeypatch.setattr(untrusted, "gunzipped", wrong)
    with pytest.raises((AssertionError, zlib.error)):
        test_a_file_that_is_cut_anywhere_is_refused_or_lacks_nothing("rows.json.gz")


@pytest.mark.parametrize("more", [1, 50, 500])
def test_an_archive_whose_list_points_before_its_beginning_is_refused(more: int) -> None:
    data = good()["bundle.zip"]
    at = data.rindex(archives.RECORD) + 16
    where = int.from_bytes(data[at : at + 4], "little") + more
    assert what("bundle.zip", data[:at] + where.to_bytes(4, "little") + data[at + 4 :]) is None


def test_an_error_of_the_disk_s_own_that_gets_through_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "errno", SimpleNamespace(EINVAL=0))
    with pytest.raises(OSError, match="Invalid argument"):
        test_an_archive_whose_list_points_before_its_beginning_is_refused(500)
