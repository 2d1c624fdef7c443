"""Whatever a baseline, a profile or a policy holds, `gate` ends with a verdict or with one sentence and status 2."""

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.commands.gating import accept, judge
from harness.system.errors import UsageError
from harness.system.jsonl import dumps
from tests.fake_run import drawn

POLICY = "margins: {sqa: 2}\nbudgets: {train: {seconds: 60}}\n"
WRONG: list[Any] = [None, 5, -1.5, True, "x", "", [], [1], ["x"], {}, {"x": 1}, [[]], [{}], {"x": {"y": None}}]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with an accepted run, a new one and a policy that pass."""
    for name in ("accepted", "now"):
        drawn({"baseline": 0.6, "dpo": 0.7}, items=12).write(tmp_path / name)
    (tmp_path / "gate.yaml").write_text(POLICY)
    return tmp_path


def gated(folder: Path, baseline: Path | None = None) -> int:
    """The exit status; a UsageError is 2, and any other exception fails the test."""
    given = baseline or folder / "accepted/run"
    try:
        return judge(folder / "now/run", given, folder / "gate.yaml", None, None, None)[0]
    except UsageError as error:
        assert str(error).count("\n") == 0 and str(error).endswith((".", "?")), str(error)
        return 2


def test_what_is_right_passes(runs: Path) -> None:
    assert gated(runs) == 0
    accept(runs / "accepted/run", runs / "a.zip", None)
    assert gated(runs, runs / "a.zip") == 0


def not_a_zip(file: Path, good: bytes) -> None:
    file.write_text("no archive")


def empty(file: Path, good: bytes) -> None:
    file.write_bytes(b"")


def truncated(file: Path, good: bytes) -> None:
    file.write_bytes(good[: len(good) // 2])


def a_bit_lost(file: Path, good: bytes) -> None:
    at = len(good) // 3
    file.write_bytes(good[:at] + bytes([good[at] ^ 255]) + good[at + 1 :])


def wrong_things(file: Path, good: bytes) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../../etc/passwd", "x")


def no_run(file: Path, good: bytes) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("store/score/" + "0" * 20 + "/units.json", "{}")


def only_a_manifest(file: Path, good: bytes) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("runs/000/manifest.json", "[" * 100_000)


def folder(file: Path, good: bytes) -> None:
    file.mkdir()


def pipe(file: Path, good: bytes) -> None:
    os.mkfifo(file)


def nothing(file: Path, good: bytes) -> None:
    """No file at all."""


MADE: list[Callable[[Path, bytes], None]] = [
    not_a_zip, empty, truncated, a_bit_lost, wrong_things, no_run, only_a_manifest, folder, pipe, nothing,
]  # fmt: skip


@pytest.mark.parametrize("make", MADE)
def test_a_baseline_that_is_none_gives_2(runs: Path, make: Callable[[Path, bytes], None]) -> None:
    accept(runs / "accepted/run", runs / "good.zip", None)
    make(runs / "bad.zip", (runs / "good.zip").read_bytes())
    assert gated(runs, runs / "bad.zip") == 2


@pytest.mark.parametrize("make", MADE)
def test_a_policy_that_is_none_gives_2(runs: Path, make: Callable[[Path, bytes], None]) -> None:
    (runs / "gate.yaml").unlink()
    make(runs / "gate.yaml", POLICY.encode() + b"rows: [b")
    assert gated(runs) == 2


FIELDS = "testbed synthetic protocol data store split_lock models judges benchmarks rows trained cells stages".split()


@pytest.mark.parametrize("field", FIELDS)
def test_a_manifest_without_a_field_or_with_another_type_gives_a_sentence(runs: Path, field: str) -> None:
    file = runs / "accepted/run/manifest.json"
    good = json.loads(file.read_text())
    file.write_text(json.dumps({name: value for name, value in good.items() if name != field}))
    assert gated(runs) == 2
    for value in WRONG:
        file.write_text(json.dumps(good | {field: value}))
        assert gated(runs) in (0, 2, 3), value
    for value in (5, [5]) if field not in ("synthetic",) else ("x",):
        file.write_text(json.dumps(good | {field: value}))
        assert gated(runs) == 2, value


@pytest.mark.parametrize("field", ["row", "label", "seed", "benchmark", "score", "responses", "items", "other"])
def test_a_cell_with_a_wrong_field_gives_2(runs: Path, field: str) -> None:
    file = runs / "accepted/run/manifest.json"
    good = json.loads(file.read_text())
    for value in WRONG:
        file.write_text(json.dumps(good | {"cells": [good["cells"][0] | {field: value}, *good["cells"][1:]]}))
        assert gated(runs) in (0, 2, 3), value
    file.write_text(json.dumps(good | {"cells": [good["cells"][0] | {field: [field]}]}))
    assert gated(runs) == 2


@pytest.mark.parametrize(
    "text",
    ["", "[]", "5", "null", "NaN", "{", '{"stages": 5}', '{"stages": [5]}', '{"stages": [{}]}', "[" * 5000,
     '{"stages": [{"stage": "train", "title": "t", "seconds": "long"}]}',
     '{"stages": [{"stage": "train", "title": "t", "seconds": -1}]}',
     '{"stages": [{"stage": "train", "title": "t", "seconds": 1e999}]}',
     '{"stages": [{"stage": "train", "title": ["t"], "seconds": 1}]}'],
)  # fmt: skip
def test_a_profile_that_is_none_gives_2(runs: Path, text: str) -> None:
    (runs / "now/run/profile.json").write_text(text)
    assert gated(runs) == 2


@pytest.mark.parametrize(
    "text",
    ["5", "[]", "margins", "margins: 5", "margins: {sqa: -1}", "margins: {sqa: .nan}", "margins: {sqa: .inf}",
     "margins: {sqa: many}", "margins: {sqa: [1]}", "margins: {5: 1}", "margin: {sqa: 1}", "margins: {pope: 1}",
     "margins: {sqa: 1}\nrows: 5", "margins: {sqa: 1}\nrows: [other]", "margins: {sqa: 1}\ncoverage: 0",
     "margins: {sqa: 1}\ncoverage: .nan", "margins: {sqa: 1}\ncoverage: 2", "margins: {sqa: 1}\ninconclusive: maybe",
     "margins: {sqa: 1}\nbudgets: {train: 5}", "margins: {sqa: 1}\nbudgets: {train: {seconds: -1}}",
     "margins: {sqa: 1}\nbudgets: {train: {second: 1}}", "margins: {}", "{}", "margins: &a {sqa: *a}",
     "margins: !!python/name:os.system", "\x00", "margins: {sqa: 1, sqa: 2}"],
)  # fmt: skip
def test_a_policy_that_asks_nonsense_gives_2(runs: Path, text: str) -> None:
    (runs / "gate.yaml").write_text(text)
    assert gated(runs) == 2


@pytest.mark.parametrize(
    "units",
    ["[]", "{}", '{"units": 5, "unscored": {}}', '{"units": [{}], "unscored": {}}',
     dumps({"units": [{"id": "a", "cluster": "b", "parts": {"img/n": "many"}}], "unscored": {}}),
     dumps({"units": [{"id": "a", "cluster": "b", "parts": []}], "unscored": {}}),
     dumps({"units": [], "unscored": 5})],
)  # fmt: skip
def test_scores_that_are_none_give_2(runs: Path, units: str) -> None:
    assert gated(runs, drawn({"baseline": 0.6, "dpo": 0.7}, units=units).write(runs / "odd")) == 2
