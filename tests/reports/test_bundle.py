"""A bundle gives the tables back byte for byte, and a hostile archive gives nothing at all."""

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.system.errors import UsageError
from reports.archive import unpack
from reports.bundle import write_bundle
from reports.files import write_report
from reports.runs import join, opened
from tests.fake_run import drawn

SFT = drawn({"baseline": 0.6, "sft": 0.65}, seeds=(0, 1))
DPO = drawn({"baseline": 0.6, "dpo": 0.7}, seeds=(0, 1))


def tables(given: list[Path], out: Path) -> dict[str, bytes]:
    """Every table of the joined runs, by file name."""
    out.mkdir()
    with opened(given) as runs:
        run = join(runs)
        write_report(out, run.outcomes(), run.benchmarks(), list(run.rows), run.setting)
    return {file.name: file.read_bytes() for file in out.iterdir()}


def packed(given: list[Path], file: Path, responses: bool = True) -> Path:
    """Their bundle."""
    with opened(given) as runs:
        write_bundle(file, runs, responses)
    return file


@pytest.mark.parametrize("responses", [True, False])
def test_a_bundle_gives_every_table_byte_for_byte(responses: bool, tmp_path: Path) -> None:
    given = [SFT.write(tmp_path / "sft"), DPO.write(tmp_path / "dpo")]
    file = packed(given, tmp_path / "b.zip", responses)
    before = tables(given, tmp_path / "before")
    assert {"table.csv", "table.md", "table.tex", "table.txt", "results.jsonl"} <= before.keys()
    for folder in ("sft", "dpo"):
        (tmp_path / folder).rename(tmp_path / f"{folder} gone")
    assert tables([file], tmp_path / "after") == before


def test_equal_runs_give_equal_bytes_wherever_and_whenever(tmp_path: Path) -> None:
    one = packed([DPO.write(tmp_path / "one")], tmp_path / "1.zip")
    with opened([one]) as runs:
        write_bundle(tmp_path / "2.zip", runs)
    assert (tmp_path / "2.zip").read_bytes() == one.read_bytes()
    assert {entry.date_time for entry in zipfile.ZipFile(one).infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_responses_are_in_it_and_weights_are_not(tmp_path: Path) -> None:
    given = DPO.write(tmp_path)
    with opened([given]) as (run,):
        for cell in run.cells:
            (run.store / cell.score / "replies.jsonl").write_text("{}\n")
            (run.store / cell.responses / "model.safetensors").write_text("weights")
    names = {Path(name).name for name in zipfile.ZipFile(packed([given], tmp_path / "b.zip")).namelist()}
    assert {"responses.jsonl", "units.json", "replies.jsonl", "items.jsonl", "manifest.json"} <= names
    assert "model.safetensors" not in names
    light = {Path(name).name for name in zipfile.ZipFile(packed([given], tmp_path / "a.zip", False)).namelist()}
    assert "units.json" in light and not light & {"responses.jsonl", "replies.jsonl"}


GOOD = "runs/000/manifest.json"
HOSTILE: dict[str, Callable[[zipfile.ZipFile], None]] = {
    "up": lambda z: z.writestr("runs/000/../../../evil", ""),
    "absolute": lambda z: z.writestr("/tmp/evil", ""),
    "backslash": lambda z: z.writestr("runs\\000\\evil", ""),
    "drive": lambda z: z.writestr("C:/evil", ""),
    "hidden": lambda z: z.writestr("runs/000/.bashrc", ""),
    "elsewhere": lambda z: z.writestr("home/evil", ""),
    "deeper": lambda z: z.writestr("store/score/0123456789abcdef0123/checkpoint/evil", ""),
    "long": lambda z: z.writestr("runs/000/" + "a" * 300, ""),
    "newline": lambda z: z.writestr("runs/000/a\nb", ""),
    "folder": lambda z: z.writestr("runs/000/", ""),
    "case": lambda z: z.writestr("runs/000/Manifest.json", ""),
    "python": lambda z: z.writestr("evil.py", ""),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_write_nothing(name: str, tmp_path: Path) -> None:
    file = tmp_path / "b.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(GOOD, "{}")
        HOSTILE[name](archive)
    with pytest.raises(UsageError, match="not a bundle"):
        unpack(file, tmp_path / "out" / "deep")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.zip"]


def test_a_link_is_written_as_the_text_it_holds(tmp_path: Path) -> None:
    entry = zipfile.ZipInfo("runs/000/link")
    entry.create_system, entry.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    unpack(tmp_path / "b.zip", tmp_path / "out")
    assert not (tmp_path / "out/runs/000/link").is_symlink()
    assert (tmp_path / "out/runs/000/link").read_text() == "/etc/passwd"


def test_too_much_is_refused_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "bomb.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(GOOD, b"0" * (1 << 22))
    monkeypatch.setattr("reports.archive.MOST_BYTES", 1 << 20)
    with pytest.raises(UsageError, match="holds more than"):
        unpack(file, tmp_path / "out")
    monkeypatch.setattr("reports.archive.MOST_BYTES", 1 << 30)
    monkeypatch.setattr("reports.archive.MOST_FILES", 0)
    with pytest.raises(UsageError, match="holds more than"):
        unpack(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_size_that_lies_is_no_way_around(tmp_path: Path) -> None:
    """4 MiB that say they are 8 bytes: no more than 8 bytes are read, and then the checksum does not fit."""
    file = tmp_path / "lie.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(GOOD, b"0" * (1 << 22))
    data = file.read_bytes()
    file.write_bytes(data.replace((1 << 22).to_bytes(4, "little"), (8).to_bytes(4, "little")))
    with pytest.raises(UsageError, match="damaged"):
        unpack(file, tmp_path / "out")
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file()) <= 8


@pytest.mark.parametrize("cut", [0.5, 0.99])
def test_a_cut_archive_is_refused(cut: float, tmp_path: Path) -> None:
    file = packed([DPO.write(tmp_path / "dpo")], tmp_path / "b.zip")
    file.write_bytes(file.read_bytes()[: int(cut * file.stat().st_size)])
    with pytest.raises(UsageError), opened([file]):
        pass


def test_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    file = packed([DPO.write(tmp_path / "dpo")], tmp_path / "b.zip")
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 1
    file.write_bytes(data)
    with pytest.raises(UsageError, match=r"damaged|not a bundle"), opened([file]):
        pass


def test_a_bundle_cannot_name_a_benchmark_file_to_run(tmp_path: Path) -> None:
    evil = tmp_path / "evil.py"
    evil.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    given = replace(DPO, spoilt={"benchmarks": {str(evil): {}}}).write(tmp_path / "dpo")
    with opened([packed([given], tmp_path / "b.zip")]) as (run,), pytest.raises(UsageError, match="no benchmark"):
        run.benchmarks()
    assert not (tmp_path / "ran").exists()
