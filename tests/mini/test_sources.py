"""Sources come in LLaVA's layout, reproducibly, with what each image shows beside them."""

import hashlib
import json
from pathlib import Path

import pytest

from harness.contracts.wordings import IMAGE, SHORT_ANSWER
from harness.mini.draw import draw
from harness.mini.sources import SOURCES, write_source
from harness.mini.tokenizer import make_tokenizer
from harness.mini.world import from_json
from harness.system.errors import HarnessError

TOKENIZER = make_tokenizer()


def written(name: str, folder: Path, n: int = 40) -> list[dict]:
    write_source(name, "alignment", 0, n, folder)
    return json.loads((folder / f"{name}.json").read_text())


@pytest.mark.parametrize("name", SOURCES)
def test_layout_and_scene_sidecar(name, tmp_path):
    from PIL import Image

    entries = written(name, tmp_path)
    records = [json.loads(line) for line in (tmp_path / "scenes.jsonl").read_text().splitlines()]
    assert [entry["image"] for entry in entries] == [record["image"] for record in records]
    for entry, record in zip(entries, records, strict=True):
        spoken = entry["conversations"]
        assert [part["from"] for part in spoken] == ["human", "gpt"] * (len(spoken) // 2)
        assert spoken[0]["value"].startswith(f"{IMAGE}\n")
        path = tmp_path / "images" / entry["image"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == record["sha256"]
        with Image.open(path) as image:
            assert image.tobytes() == draw(from_json(record["scene"])).tobytes()


def lengths(entries: list[dict]) -> list[int]:
    return [len(TOKENIZER.tokenize(" " + entry["conversations"][1]["value"])) for entry in entries]


def test_kinds_of_sources(tmp_path):
    detailed = written("llava150k", tmp_path / "a")
    assert all(60 <= length <= 100 for length in lengths(detailed))
    assert [len(entry["conversations"]) for entry in detailed[:4]] == [2, 6, 2, 6]
    short = lengths(written("textcaps", tmp_path / "b"))
    assert 9 <= sum(short) / len(short) <= 13
    covers = written("ocrvqa", tmp_path / "c")
    assert all(len(entry["conversations"]) in (4, 6) for entry in covers)
    assert all(part["value"].endswith(SHORT_ANSWER) for entry in covers for part in entry["conversations"][::2])


def test_the_same_call_writes_the_same_bytes(tmp_path):
    for folder in ("one", "two"):
        written("llava150k", tmp_path / folder, 5)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) == 7
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)


def test_an_unknown_source_is_named(tmp_path):
    with pytest.raises(HarnessError, match="coco"):
        write_source("coco", "alignment", 0, 1, tmp_path)
