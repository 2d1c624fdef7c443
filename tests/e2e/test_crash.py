"""Killed anywhere, resumed, a comparison publishes the same bytes; several at once do every stage once.

Random kills find what nobody thought of, failpoints the narrow windows that random kills miss; the mutant shows that
both would see a store that trusts half a stage.
"""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, SMALL_BED, fingerprint

pytestmark = pytest.mark.heavy  # test_owner kills a comparison in the ordinary lane
SIZES = ["--examples", "12", "--limit", "6", "--benchmarks", "gqa,mmb,pope,chair,mmhal", "--no-page"]
COMPARE = ["compare", "--methods", "nsft,dpo", *SIZES]
MUTANT = """
import sys
from harness.store import store

def commit(self, stage, staging, fields, lease):
    (staging / store.MANIFEST).write_text(store.render(store.json.loads(store.dumps(fields))))

store.Store.done = lambda self, stage: self.path(stage).exists()
store.Store.damage = lambda self, name: []
store.Store._aside = (
    lambda self, what, stage, lease: self.path(stage) if what == "staging" else self.root / what / stage.key
)
store.Store._commit = commit
from harness.cli import main
main()
"""
COUNTING = """
import os, sys
from harness.store import store

plain = store.Store.run

def run(self, stage, body):
    def counted(out):
        with open(os.environ["BODIES"], "a") as file:
            file.write(stage.name + "\\n")
        body(out)
    return plain(self, stage, counted)

store.Store.run = run
from harness.cli import main
main()
"""
FAILPOINTS = {
    name
    for file in (ROOT / "harness").rglob("*.py")
    for name in re.findall(r'failpoint\("([a-z._]+)"\)', file.read_text())
    if not name.startswith(("journal.", "prepared."))  # of an LLM, of `data prepare`: killed there by their own tests
}


def start(folder: Path, *more: str, program: list[str] | None = None, **env: str) -> "subprocess.Popen[bytes]":
    """A comparison in its own process group."""
    bed = folder / "bed.yaml"  # without lmms-eval, whose import would be most of what is killed
    bed.write_text(SMALL_BED.read_text().replace("../../", f"{ROOT}/") + "crosscheck: false\n")
    places = ["--testbed", str(bed), "--store", str(folder / "store"), "--out", str(folder / "out")]
    return subprocess.Popen(
        [sys.executable, *(program or ["-m", "harness.cli"]), *COMPARE, *places, *more],
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        stdout=subprocess.DEVNULL,
        stderr=(folder / "stderr").open("ab"),
        start_new_session=True,
    )


def finish(folder: Path, *more: str, **env: str) -> dict[str, str]:
    """Run to the end; what was published."""
    folder.mkdir(exist_ok=True)
    assert start(folder, *more, **env).wait(timeout=300) == 0, (folder / "stderr").read_text()
    return fingerprint(folder / "store", folder / "out")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], float]:
    """What an undisturbed run publishes, and how long it takes here."""
    began = time.monotonic()
    return finish(tmp_path_factory.mktemp("undisturbed") / "run"), time.monotonic() - began


def kill_at_random(folder: Path, kills: int, rng: random.Random, span: float) -> None:
    """SIGKILL the process group at random instants, each time on a fresh start of the same command."""
    folder.mkdir(exist_ok=True)
    for _ in range(kills):
        child = start(folder)
        try:
            child.wait(timeout=rng.uniform(0.1, 1.0) * span)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


@pytest.mark.parametrize("chain", range(4))
def test_killed_five_times_at_random_it_publishes_the_same(
    chain: int, undisturbed: tuple[dict[str, str], float], tmp_path: Path
) -> None:
    expected, span = undisturbed
    kill_at_random(tmp_path / "run", 5, random.Random(chain), span * 0.6)
    assert finish(tmp_path / "run") == expected


def test_killed_once_at_every_failpoint_it_publishes_the_same(
    undisturbed: tuple[dict[str, str], float], tmp_path: Path
) -> None:
    expected, _ = undisturbed
    folder = tmp_path / "run"
    folder.mkdir()
    fired = set()

    def kill_at(name: str) -> None:
        if start(folder, "--workers", "1", HARNESS_FAILPOINT=f"{name}:1").wait(timeout=300) == 137:
            fired.add(name)

    # each start goes on from where the last one died: what comes early in a run first, the folder of its tables last
    for name in sorted(
        FAILPOINTS - {"store.discarded"},
        key=lambda name: ["split", "store", "engine", "images", "features", "folder"].index(name.split(".")[0]),
    ):
        if name.startswith("folder."):  # or it holds what it should, or nothing: then nothing is taken away or written
            (folder / "out" / "table.csv").write_text("of another comparison")
        kill_at(name)
    finish(folder)
    (report,) = folder.glob("store/report/*")
    (report / "manifest.json").unlink()
    kill_at("store.discarded")
    assert finish(folder) == expected
    assert fired == FAILPOINTS


def test_four_at_once_do_every_stage_once_and_agree(undisturbed: tuple[dict[str, str], float], tmp_path: Path) -> None:
    expected, _ = undisturbed
    folders = [tmp_path / str(number) for number in range(4)]
    shared = tmp_path / "store"
    running = []
    for folder in folders:
        folder.mkdir()
        more = ["--workers", "1", "--store", str(shared)]
        running.append(start(folder, *more, program=["-c", COUNTING], BODIES=str(tmp_path / "bodies")))
    assert [child.wait(timeout=600) for child in running] == [0] * 4
    begun = (tmp_path / "bodies").read_text().split()
    assert len(begun) == len(set(begun)) > 30
    for folder in folders:
        assert fingerprint(shared, folder / "out") == expected


def test_a_store_that_trusts_half_a_stage_is_caught(undisturbed: tuple[dict[str, str], float], tmp_path: Path) -> None:
    expected, _ = undisturbed
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    calm.mkdir(), killed.mkdir()
    mutant = ["-c", MUTANT]
    assert start(calm, "--workers", "1", program=mutant).wait(timeout=300) == 0
    assert fingerprint(calm / "store", calm / "out") == expected
    child = start(killed, "--workers", "1", program=mutant)
    while not list(killed.glob("store/train/*")):
        time.sleep(0.02)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    status = start(killed, "--workers", "1", program=mutant).wait(timeout=300)
    assert status != 0 or fingerprint(killed / "store", killed / "out") != expected
