"""`harness data leaks`: a planted picture is found in every disguise, and unrelated ones are not."""

import io
import json
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from skimage import data as photos
from typer.testing import CliRunner

from harness import cli
from harness.checking import leaks
from harness.checking.drawn import files_of
from harness.checking.leaks import FLAT, NEAR, Pictures, dhash, leak, mirrored, trained_pictures
from harness.contracts import images, pictures
from harness.contracts.records import Image
from harness.contracts.steps import ALL_BENCHMARKS
from harness.contracts.testbed_file import read_testbed
from harness.sources._chosen import source
from harness.store.digest import file_digest
from tests.seams.sources import record

PHOTOS = [getattr(photos, name) for name in ("astronaut", "coffee", "chelsea", "rocket")]


def tiles() -> list[list[Pillow.Image]]:
    """Twelve pieces of each of four photographs that ship with scikit-image."""
    cut = []
    for photo in PHOTOS:
        whole = Pillow.fromarray(photo())
        width, height = whole.width // 4, whole.height // 3
        boxes = product(range(4), range(3))
        cut.append([whole.crop((x * width, y * height, (x + 1) * width, (y + 1) * height)) for x, y in boxes])
    return cut


def saved(picture: Pillow.Image, file: Path, **how: int) -> Image:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file, **how)
    return Image(str(file), file_digest(file))


def test_versions_of_a_picture_are_near_and_unrelated_pictures_are_not() -> None:
    """The rates that docs/data.md gives: small pieces, halved and compressed; pieces of different photographs."""
    hashes, distances = list[list[int]](), list[int]()
    for photo in tiles():
        known = [piece for piece in photo if FLAT <= dhash(piece).bit_count() <= 64 - FLAT]
        hashes.append([dhash(piece) for piece in known])
        for piece in known:
            file = io.BytesIO()
            piece.resize((piece.width // 2, piece.height // 2)).save(file, "JPEG", quality=60)
            distances.append((dhash(piece) ^ dhash(Pillow.open(file))).bit_count())
    assert sum(distance <= NEAR for distance in distances) > 0.8 * len(distances) > 30
    unrelated = [
        (one ^ other).bit_count()
        for at, mine in enumerate(hashes)
        for others in hashes[at + 1 :]
        for one, other in product(mine, others)
    ]
    assert len(unrelated) > 600 and min(unrelated) > 2 * NEAR


def test_a_mirrored_hash_is_that_of_the_mirrored_picture() -> None:
    noise = np.random.default_rng(0).permutation(72).reshape(8, 9).astype(np.uint8) * 3
    picture = Pillow.fromarray(noise)
    assert mirrored(dhash(picture)) == dhash(picture.transpose(Pillow.Transpose.FLIP_LEFT_RIGHT))


def test_a_plain_picture_is_near_to_no_other(tmp_path: Path) -> None:
    trained, asked = Pictures(), Pictures()
    trained.add("t", saved(Pillow.new("RGB", (40, 40), (10, 10, 10)), tmp_path / "a.png"))
    asked.add("q", saved(Pillow.new("RGB", (40, 40), (200, 0, 0)), tmp_path / "b.png"))
    assert leak("x", asked, trained).near == []


def test_every_way_to_tell_finds_its_own(tmp_path: Path) -> None:
    one, two, three, four = (photo[5] for photo in tiles())
    trained, asked = Pictures(), Pictures()
    trained.add("t1", saved(one, tmp_path / "train" / "1.png"))
    trained.add("t2", saved(two, tmp_path / "train" / "2.png"))
    trained.add("t3", saved(three, tmp_path / "train" / "000000000139.jpg"))
    asked.add("q1", saved(one, tmp_path / "asked" / "other.png"))
    asked.add("q2", saved(two.resize((100, 90)), tmp_path / "asked" / "2.jpg", quality=70))
    asked.add("q3", saved(four, tmp_path / "asked" / "COCO_val2014_000000000139.jpg"))
    asked.add("q4", saved(four.rotate(90), tmp_path / "asked" / "139.jpg"))
    found = leak("pope", asked, trained)
    assert (found.same, found.near, found.coco) == ([("q1", "t1")], [("q2", "t2")], [("q3", "t3")])
    assert (found.pictures, found.chance) == (4, 0)
    assert list(leaks.examples([found])) == [
        "pope q1 and training example t1: the same file",
        "pope q2 and training example t2: nearly the same picture",
        "pope q3 and training example t3: the same COCO id",
    ]
    assert leak("pope", asked, Pictures()).near == leak("pope", Pictures(), trained).same == []


def test_pairs_are_found_beyond_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "ROWS", 3)
    among = np.array([0, 2**64 - 1, 0xFFFF], np.uint64)
    asked = np.array([0xF, 0x1F, 0xFFFE, 2**63, 2**64 - 1, 0xFF00FF, 1, 0x7FFF], np.uint64)
    assert leaks._nearest(asked, among) == [0, -1, 2, 0, 1, -1, 0, 2]


def test_a_planted_picture_of_mini_s_pope_is_found(tmp_path: Path) -> None:
    drawn = tmp_path / "drawn"
    drawn.mkdir()
    from harness.contracts.behind import behind

    behind(read_testbed("mini").data).draw_benchmark("pope", "benchmark", 0, 12, drawn)
    planted = next(iter(sorted(drawn.rglob("*.png"))), None) or next(iter(sorted(drawn.rglob("*.jpg"))))
    shutil.copy(planted, tmp_path / "0.png")
    (tmp_path / "my.jsonl").write_text(json.dumps(record(0)) + "\n")
    words = ["data", "leaks", str(tmp_path / "my.jsonl"), "--benchmarks", "pope", "--limit", "12"]
    told = CliRunner().invoke(cli.app, [*words, "--json"], catch_exceptions=False)
    (pair,) = json.loads(told.output)["leaks"]["pope"]["same_file"]
    assert pair[1] == "x0"
    shown = CliRunner().invoke(cli.app, words, catch_exceptions=False).output
    assert "pope" in shown and f"{pair[0]} and training example x0: the same file" in shown
    clean = CliRunner().invoke(cli.app, ["data", "leaks", "textcaps", "--examples", "5", *words[3:], "--json"])
    assert json.loads(clean.output)["leaks"]["pope"]["same_file"] == []


def test_each_training_picture_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tiles()[0][5], tmp_path / "0.png")
    saved(tiles()[1][5], tmp_path / "1.png")
    (tmp_path / "my.jsonl").write_text("".join(json.dumps(record(number)) + "\n" for number in range(2)))
    sizes, true = list[int](), images.decode

    def counted(data: bytes, upright: bool = False) -> Pillow.Image:
        sizes.append(len(data))
        return true(data, upright)

    for module in (images, pictures):
        monkeypatch.setattr(module, "decode", counted)
    with files_of(source(str(tmp_path / "my.jsonl")), read_testbed("mini"), None, 0) as files:
        assert len(trained_pictures(files, 0).hashes) == 2
    assert len(sizes) == len(set(sizes)) == 2


def folder_bed(tmp_path: Path) -> Path:
    """A testbed of official files that has POPE's alone."""
    pope = tmp_path / "benchmarks" / "pope"
    pope.mkdir(parents=True)
    from harness.contracts.behind import behind

    behind(read_testbed("mini").data).draw_benchmark("pope", "benchmark", 0, 4, pope)
    bed = tmp_path / "bed.yaml"
    bed.write_text(f"name: mine\nmodels: [m]\ndata: {tmp_path}\nwriter: oracle\njudge: oracle\n")
    return bed


def test_without_names_all_nine_are_looked_at_and_what_is_not_there_is_said(tmp_path: Path) -> None:
    """As the option's help says; a benchmark that was named must be there."""
    saved(tiles()[0][5], tmp_path / "0.png")
    (tmp_path / "my.jsonl").write_text(json.dumps(record(0)) + "\n")
    words = ["data", "leaks", str(tmp_path / "my.jsonl"), "--testbed", str(folder_bed(tmp_path))]
    told = json.loads(CliRunner().invoke(cli.app, [*words, "--json"], catch_exceptions=False).output)
    assert [*told["leaks"]] == ["pope"]
    assert [line.split()[0] for line in told["absent"]] == [name for name in ALL_BENCHMARKS if name != "pope"]
    shown = "".join(CliRunner().invoke(cli.app, words, catch_exceptions=False).output.split())
    assert "gqawasnotlookedat:" in shown and "benchmarks/gqaisnotthere" in shown
    assert CliRunner().invoke(cli.app, [*words, "--benchmarks", "gqa"]).exit_code != 0
