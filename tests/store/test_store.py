"""What a key covers, what a manifest proves, and what the store says when it cannot go on."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import toy
from disk import largest_file

from harness.store import manifest
from harness.store.digest import file_digest, source_digest
from harness.store.store import MANIFEST, Stage, Store, failpoint
from harness.system.errors import HarnessError, UsageError

IDENTITY = {"method": "dpo", "beta": 0.1, "training": {"learning_rate": 2e-6, "epochs": 1}, "prompts": ["a", "b"]}


def fill(out: Path) -> None:
    (out / "sub").mkdir()
    (out / "sub" / "weights.bin").write_bytes(bytes(range(40)))
    (out / "log.txt").write_text("three lines\nof\ntext\n")


def stage(**changes: object) -> Stage:
    return Stage("train", IDENTITY | changes)


def test_key_is_stable_and_short() -> None:
    turned = Stage("train", dict(reversed(IDENTITY.items())))
    assert turned.key == stage().key
    assert len(stage().key) == 20
    assert stage().name == f"train/{stage().key}"


def test_key_changes_with_every_identity_field() -> None:
    changed = [
        stage(method="sft"),
        stage(beta=0.1000001),
        stage(training={"learning_rate": 2e-6, "epochs": 2}),
        stage(training={"learning_rate": 1e-6, "epochs": 1}),
        stage(prompts=["b", "a"]),
        stage(extra=None),
        Stage("build", IDENTITY),
        Stage("train", IDENTITY, {"records": Stage("build", {})}),
        Stage("train", IDENTITY, {"records": Stage("build", {"seed": 1})}),
        Stage("train", IDENTITY, {"reference": Stage("build", {})}),
    ]
    keys = {made.key for made in [stage(), *changed]}
    assert len(keys) == len(changed) + 1


def test_key_knows_no_place(tmp_path: Path) -> None:
    first, second = Store(tmp_path / "a"), Store(tmp_path / "b")
    assert first.run(stage(), fill).name == second.run(stage(), fill).name == stage().key


@pytest.mark.parametrize("kind", ["", "..", "a/b", "A", "1x", "a" * 41, ".train"])
def test_a_kind_is_a_plain_name(kind: str) -> None:
    with pytest.raises(ValueError, match="cannot name"):
        Stage(kind, {})


def test_a_finished_stage_is_not_made_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    calls: list[Path] = []
    for _ in range(3):
        store.run(stage(), lambda out: (calls.append(out), fill(out))[1])
    assert len(calls) == 1
    assert store.done(stage())
    assert store.finished() == [stage().name]


def test_manifest(tmp_path: Path) -> None:
    store = Store(tmp_path)
    records = Stage("build", {"seed": 1})
    made = replace(stage(), inputs={"records": records}, identity={**IDENTITY, "steps": {10: "x", 9: "y"}})
    folder = store.run(made, fill)
    manifest = store.manifest(made)
    assert manifest["inputs"] == {"records": records.name}
    assert manifest["identity"]["prompts"] == ["a", "b"]
    assert manifest["files"] == {
        name: {"sha256": file_digest(folder / name), "bytes": (folder / name).stat().st_size}
        for name in ("log.txt", "sub/weights.bin")
    }
    assert manifest["created"].endswith("+00:00")
    assert manifest["seconds"] >= 0
    assert store.verify() == {}


def test_a_failed_body_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail(out: Path) -> None:
        fill(out)
        (store.work(stage()) / "state").write_text("kept")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        store.run(stage(), fail)
    assert not store.done(stage())
    assert not any((tmp_path / ".staging").iterdir())
    assert (store.work(stage()) / "state").read_text() == "kept"
    store.run(stage(), fill)
    assert not any((tmp_path / ".work").iterdir())


def test_a_stage_holds_plain_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a plain file"):
        Store(tmp_path).run(stage(), lambda out: (out / "link").symlink_to("/etc/hostname"))


def test_verify_finds_every_flipped_byte_and_deleted_file(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = store.run(stage(), fill)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) == 3
    for path in files:
        data = path.read_bytes()
        for at in range(len(data)):
            path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            assert store.verify(stage()), (path, at)
        path.write_bytes(data[:-1])
        assert store.verify(stage())
        path.unlink()
        assert f"{path.relative_to(folder)} is missing" in store.verify()[stage().name]
        path.write_bytes(data)
        assert store.verify() == {}


def test_many_stages_are_read_by_several_processes_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    folder = store.run(stage(), fill)
    (folder / "extra.txt").write_text("added")
    alone = store.verify()
    monkeypatch.setattr(manifest, "MANY", 1)
    assert store.verify() == alone and alone[stage().name] == ["extra.txt is not in the manifest"]


def test_verify_finds_what_does_not_belong(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = store.run(stage(), fill)
    (folder / "new").touch()
    assert store.verify() == {stage().name: ["new is not in the manifest"]}
    (folder / "new").unlink()
    folder.rename(folder.with_name("0" * 20))
    assert store.verify() == {f"train/{'0' * 20}": [f"{MANIFEST} belongs to {stage().name}"]}


def test_a_discarded_stage_is_made_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.run(stage(), fill) / "log.txt"
    path.write_text("damaged")
    store.discard(stage().name)
    assert not store.done(stage())
    store.run(stage(), fill)
    assert store.verify() == {}


def test_why_names_what_changed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old = Stage("train", {"seed": 0}, {"records": Stage("build", {"prompt": "Is there a dog?", "n": 3})})
    new = Stage("train", {"seed": 0}, {"records": Stage("build", {"prompt": "Is there a cat?", "n": 3})})
    assert store.why(new) == "no train is finished yet."
    for made in (*old.inputs.values(), old):
        store.run(made, fill)
    assert store.why(old) == f"{old.name} is done."
    assert store.why(new) == (f'differs from {old.name} in records.prompt: "Is there a dog?" -> "Is there a cat?".')
    store.run(Stage("train", {"seed": 7, "other": [1, 2]}), fill)
    assert old.name in store.why(new)


def test_why_names_each_changed_field(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.run(stage(), fill)
    assert "training.epochs: 1 -> 2." in store.why(stage(training={"learning_rate": 2e-6, "epochs": 2}))
    assert 'prompts: ["a","b"] -> ["a"].' in store.why(stage(prompts=["a"]))
    assert "extra: (none) -> null." in store.why(stage(extra=None))
    assert " and 2 more." in store.why(Stage("train", {"a": 1}))


def test_source_digest_counts_code_only(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    digests = []
    for text in ("x = f(1, 2)\n", "# why\nx = f(\n    1,\n    2,\n)\n", "x = f(1, 3)\n"):
        path.write_text(text)
        digests.append(source_digest(path))
    assert digests[0] == digests[1] != digests[2]
    moved = path.rename(tmp_path / "b.py")
    assert source_digest(moved) == digests[2]
    table = tmp_path / "a.txt"
    table.write_text("# why\n")
    before = source_digest(moved, table)
    table.write_text("# because\n")
    assert source_digest(moved, table) != before != source_digest(table, moved)


@pytest.mark.parametrize("text", ["x = (", "x = '\0'"])
def test_source_digest_names_a_broken_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"a\.py:1: SyntaxError"):
        source_digest(path)
    with pytest.raises(UsageError, match=r"b\.py cannot be read"):
        source_digest(tmp_path / "b.py")


def test_a_full_disk_damages_nothing(tmp_path: Path) -> None:
    root = tmp_path / "store"
    failures = 0
    for size in (1, 64, 300, 600, 900, 1200, 2000, 3000):
        try:
            with largest_file(size):
                toy.compare(Store(root), tmp_path / "log")
        except HarnessError as error:
            failures += 1
            assert str(root) in str(error)
            assert "free some space" in str(error)
        assert Store(root).verify() == {}
    assert failures >= 3
    toy.compare(Store(root), tmp_path / "log")
    assert Store(root).verify() == {}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_disk_full_in_a_body(number: int, tmp_path: Path) -> None:
    def write(out: Path) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(HarnessError, match="No finished stage is damaged"):
        Store(tmp_path).run(stage(), write)


def test_forbidden_in_the_store_is_a_sentence_and_elsewhere_an_error(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")

    def write(path: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    with pytest.raises(UsageError, match="cannot be written: Read-only file system"):
        store.run(stage(), write)
    with pytest.raises(OSError, match="Read-only"):
        store.run(stage(), lambda out: write(Path("/elsewhere")))


def test_a_root_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: Path, *args: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "mkdir", forbidden)
    with pytest.raises(UsageError, match="Permission denied"):
        Store(tmp_path / "store").run(stage(), fill)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_store_still_serves(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.run(stage(), fill)
    for path in [store.root, *store.root.iterdir()]:
        path.chmod(0o555)
    try:
        assert store.run(stage(), fill) == store.path(stage())
        with pytest.raises(UsageError, match="cannot be written"):
            store.run(stage(seed=1), fill)
    finally:
        for path in [store.root, *store.root.iterdir()]:
            path.chmod(0o755)


def test_failpoint_is_off_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_FAILPOINT", raising=False)
    failpoint("store.staged")
    monkeypatch.setenv("HARNESS_FAILPOINT", "store.staged:2000000")
    failpoint("store.staged")


def test_manifest_of_a_damaged_stage_names_the_cure(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.run(stage(), fill) / MANIFEST
    for text in ("{", "[]", "{}", "\xff", json.dumps({"seal": 1})):
        path.write_text(text, encoding="latin-1")
        with pytest.raises(HarnessError, match="delete"):
            store.manifest(stage())


def test_a_stage_is_readable_for_whoever_may_read_the_store(tmp_path: Path) -> None:
    """Some writers make files for their owner alone."""

    def body(out: Path) -> None:
        (out / "weights").write_bytes(b"x")
        (out / "weights").chmod(0o600)

    stage = Stage("train", {"n": 1})
    folder = Store(tmp_path).run(stage, body)
    assert (folder / "weights").stat().st_mode & 0o777 == folder.stat().st_mode & 0o666
