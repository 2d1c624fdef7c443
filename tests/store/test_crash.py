"""A comparison killed anywhere and started again gives the same bytes as one left alone."""

import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import toy

import harness
from harness.store import MANIFEST, Store

SOURCE = "\n".join(path.read_text() for path in Path(harness.__file__).parent.rglob("*.py"))
FAILPOINTS = sorted(
    name for name in re.findall(r'failpoint\("([^"]+)"\)', SOURCE) if name.split(".")[0] in ("store", "split", "images")
)
LEFT_ALONE_LIMIT_S = 60


def start(root: Path, *mode: str, failpoint: str = "") -> subprocess.Popen[str]:
    environment = {**os.environ, "HARNESS_FAILPOINT": failpoint, "PYTHONPATH": str(Path(harness.__file__).parents[1])}
    command = [sys.executable, toy.__file__, str(root), str(root.with_suffix(".log")), *mode]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(child: subprocess.Popen[str]) -> tuple[int, str]:
    _, errors = child.communicate(timeout=LEFT_ALONE_LIMIT_S)
    return child.returncode, errors


def outputs(root: Path) -> dict[str, bytes]:
    """Every byte of every stage but the manifests, which tell the time."""
    files = [path for path in root.glob("[!.]*/**/*") if path.is_file() and path.name != MANIFEST]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, bytes]]:
    root = tmp_path_factory.mktemp("left_alone") / "store"
    toy.compare(Store(root), root.with_suffix(".log"))
    yield outputs(root)


def resumed(root: Path, *mode: str) -> dict[str, bytes]:
    """The outputs after the same command again; {} where it fails."""
    code, _ = finish(start(root, *mode))
    return outputs(root) if code == 0 else {}


def test_failpoints_are_found() -> None:
    assert {"store.staged", "store.manifest", "store.renamed", "split.lock", "images.written"} <= set(FAILPOINTS)
    assert len(FAILPOINTS) == len(set(FAILPOINTS))


@pytest.mark.parametrize("name", FAILPOINTS)
def test_killed_at_a_failpoint(name: str, tmp_path: Path, expected: dict[str, bytes]) -> None:
    root = tmp_path / "store"
    damaged = Store(root).path(toy.DATA)
    damaged.mkdir(parents=True)
    (damaged / "junk").write_text("a stage without a manifest")
    assert finish(start(root, failpoint=f"{name}:1"))[0] == 137
    assert Store(root).verify().keys() <= {toy.DATA.name}
    assert resumed(root) == expected
    assert Store(root).verify() == {}


def test_killed_at_a_later_call(tmp_path: Path, expected: dict[str, bytes]) -> None:
    for name in ("store.filled", "store.manifest", "store.renamed", "store.committed"):
        root = tmp_path / name
        assert finish(start(root, failpoint=f"{name}:5"))[0] == 137
        assert resumed(root) == expected


def test_killed_at_random_instants(tmp_path: Path, expected: dict[str, bytes]) -> None:
    begin = time.monotonic()
    toy.compare(Store(tmp_path / "timed"), tmp_path / "timed.log")
    whole = time.monotonic() - begin
    rng = random.Random(4)
    killed = 0
    for trial in range(20):
        root = tmp_path / f"store{trial}"
        child = start(root)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(rng.uniform(0, whole))
        child.kill()
        killed += finish(child)[0] == -9
        assert Store(root).verify() == {}
        assert resumed(root) == expected
    assert killed >= 5


@pytest.mark.parametrize("mode", ["", "naive"])
def test_the_check_catches_the_naive_store(mode: str, tmp_path: Path, expected: dict[str, bytes]) -> None:
    """"The folder is there, so it is done" must fail where the real store passes."""
    same = []
    for call in (3, 17, 28, 50, 70):
        root = tmp_path / f"store{call}"
        modes = [mode] if mode else []
        assert finish(start(root, *modes, failpoint=f"toy.write:{call}"))[0] == 137
        same.append(resumed(root, *modes) == expected)
    assert not any(same) if mode else all(same)


def test_training_goes_on_where_it_was(tmp_path: Path, expected: dict[str, bytes]) -> None:
    root = tmp_path / "store"
    assert finish(start(root, failpoint="toy.checkpoint:7"))[0] == 137
    state = Store(root).work(toy.TRAIN["sft"]) / "state.json"
    assert state.read_text().startswith("[6,")
    assert resumed(root) == expected
    assert not state.exists()


def test_four_at_once(tmp_path: Path, expected: dict[str, bytes]) -> None:
    root = tmp_path / "store"
    children = [start(root) for _ in range(4)]
    assert [finish(child) for child in children] == [(0, "")] * 4
    done = Counter(root.with_suffix(".log").read_text().split())
    assert done == Counter(stage.name for stage in toy.STAGES)
    assert outputs(root) == expected
    assert not any((root / ".staging").iterdir())


def test_a_killed_holder_frees_its_lock(tmp_path: Path, expected: dict[str, bytes]) -> None:
    root = tmp_path / "store"
    code = "import sys, time, toy; from pathlib import Path; from harness.store import Store; "
    code += "Store(Path(sys.argv[1])).run(toy.DATA, lambda out: (print('held', flush=True), time.sleep(600)))"
    path = os.pathsep.join((str(Path(harness.__file__).parents[1]), str(Path(toy.__file__).parent)))
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(root)], env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    waiting = start(root)
    time.sleep(0.5)
    assert not Store(root).done(toy.DATA)
    holder.kill()
    holder.communicate()
    assert finish(waiting) == (0, "")
    assert outputs(root) == expected
