"""A comparison killed anywhere and started again gives the same bytes as one left alone."""

import random
import re
import time
from collections import Counter
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import toy

import harness
from harness.store.store import MANIFEST, Store
from harness.system.errors import HarnessError

SOURCE = "\n".join(path.read_text() for path in Path(harness.__file__).parent.rglob("*.py"))
FAILPOINTS = sorted(
    name for name in re.findall(r'failpoint\("([^"]+)"\)', SOURCE) if name.split(".")[0] in ("store", "split", "images")
)
WAIT_S = 60
PROCESSES = get_context("forkserver")  # a fresh interpreter that has imported the toy once, and forks
PROCESSES.set_forkserver_preload(["toy", "pytest"])


def start(root: Path, kind: type[Store] = Store, die_at: str = "") -> BaseProcess:
    ready = PROCESSES.Event()
    child = PROCESSES.Process(target=toy.main, args=(kind, root, root.with_suffix(".log"), die_at, ready))
    child.start()
    assert ready.wait(WAIT_S)
    return child


def finish(child: BaseProcess) -> int | None:
    child.join(WAIT_S)
    return child.exitcode


def outputs(root: Path) -> dict[str, bytes]:
    """Every byte of every stage but the manifests, which tell the time."""
    files = [path for path in root.glob("[!.]*/**/*") if path.is_file() and path.name != MANIFEST]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def resumed(root: Path, kind: type[Store] = Store) -> dict[str, bytes]:
    """The outputs after the same comparison again."""
    toy.compare(kind(root), root.with_suffix(".log"))
    return outputs(root)


def test_failpoints_are_found() -> None:
    assert {"store.staged", "store.manifest", "store.renamed", "split.lock", "images.written"} <= set(FAILPOINTS)
    assert len(FAILPOINTS) == len(set(FAILPOINTS))


@pytest.mark.parametrize("name", FAILPOINTS)
def test_killed_at_a_failpoint(name: str, tmp_path: Path, expected: dict[str, bytes]) -> None:
    root = tmp_path / "store"
    damaged = Store(root).path(toy.DATA)
    damaged.mkdir(parents=True)
    (damaged / "junk").write_text("a stage without a manifest")
    assert finish(start(root, die_at=f"{name}:1")) == 137
    assert Store(root).verify().keys() <= {toy.DATA.name}
    assert resumed(root) == expected
    assert Store(root).verify() == {}


def test_killed_at_a_later_call(tmp_path: Path, expected: dict[str, bytes]) -> None:
    for name in ("store.filled", "store.manifest", "store.renamed", "store.committed"):
        root = tmp_path / name
        assert finish(start(root, die_at=f"{name}:5")) == 137
        assert resumed(root) == expected


@pytest.mark.parametrize("trials", [5, pytest.param(20, marks=pytest.mark.heavy)])
def test_killed_at_random_instants(trials: int, tmp_path: Path, expected: dict[str, bytes]) -> None:
    begin = time.monotonic()
    toy.compare(Store(tmp_path / "timed"), tmp_path / "timed.log")
    whole = time.monotonic() - begin
    rng = random.Random(4)
    killed = 0
    for trial in range(trials):
        root = tmp_path / f"store{trial}"
        child = start(root)
        time.sleep(rng.uniform(0, whole))
        child.kill()
        killed += finish(child) == -9
        assert Store(root).verify() == {}
        assert resumed(root) == expected
    assert killed >= trials / 4


@pytest.mark.parametrize("call", [17, *(pytest.param(call, marks=pytest.mark.heavy) for call in (3, 28, 50, 70))])
def test_the_check_catches_the_naive_store(call: int, tmp_path: Path, expected: dict[str, bytes]) -> None:
    """ "The folder is there, so it is done" fails, or gives another table, where the store gives the same."""
    assert finish(start(tmp_path / "store", die_at=f"toy.write:{call}")) == 137
    assert resumed(tmp_path / "store") == expected
    assert finish(start(tmp_path / "naive", toy.NaiveStore, die_at=f"toy.write:{call}")) == 137
    with suppress(HarnessError, OSError):
        assert resumed(tmp_path / "naive", toy.NaiveStore) != expected


def test_training_goes_on_where_it_was(tmp_path: Path, expected: dict[str, bytes]) -> None:
    root = tmp_path / "store"
    assert finish(start(root, die_at="toy.checkpoint:7")) == 137
    state = Store(root).work(toy.TRAIN["sft"]) / "state.json"
    assert state.read_text().startswith("[6,")
    assert resumed(root) == expected
    assert not state.exists()


def test_four_at_once(tmp_path: Path, expected: dict[str, bytes]) -> None:
    root = tmp_path / "store"
    children = [start(root) for _ in range(4)]
    assert [finish(child) for child in children] == [0] * 4
    done = Counter(root.with_suffix(".log").read_text().split())
    assert done == Counter(stage.name for stage in toy.STAGES)
    assert outputs(root) == expected
    assert not any((root / ".staging").iterdir())


def test_a_killed_holder_frees_its_lock(tmp_path: Path, expected: dict[str, bytes]) -> None:
    root = tmp_path / "store"
    held = PROCESSES.Event()
    holder = PROCESSES.Process(target=toy.hold, args=(root, held))
    holder.start()
    assert held.wait(WAIT_S)
    waiting = start(root)
    time.sleep(0.5)
    assert not Store(root).done(toy.DATA)
    holder.kill()
    holder.join(WAIT_S)
    assert finish(waiting) == 0
    assert outputs(root) == expected
