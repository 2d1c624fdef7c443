"""A disk that is full under any kind of stage, whoever writes: one sentence, nothing damaged, and the same bytes later.

A limit on the size of files stands for the disk: what goes beyond it fails with EFBIG, in native code too.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.store.store import MANIFEST, Store
from tests.e2e.conftest import ROOT, SMALL_BED

PROGRAM = """
import json, resource, sys
from pathlib import Path
from harness.contracts.settings import MethodSpec, Runtime
from harness.contracts.testbed_file import read_testbed
from harness.sources._chosen import source
from harness.comparison.plan import plan
from harness.system.profile import quiet
from harness.comparison.worker import Worker
from harness.contracts.steps import Request
from harness.store.store import Store
from harness.system.errors import HarnessError

root, bed, processes, tried = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
bed = read_testbed(bed).model_copy(update={"crosscheck": False, "lens": 3})
rows = (MethodSpec(name="sft"), MethodSpec(name="dpo"))
asked = Request(rows, source("llava150k"), examples=8, limit=3, benchmarks=("pope", "gqa"))
store, runtime = Store(Path(root)), Runtime(num_processes=processes)
worker, before = Worker(store, bed, asked, runtime), resource.getrlimit(resource.RLIMIT_FSIZE)
for step in plan(asked, bed).steps:
    for size in tried.get(step.stage.kind, ()):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            worker.run(step, quiet)
            said = ""
        except HarnessError as error:
            said = f"{type(error).__name__}: {error}"
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        print(json.dumps([step.stage.kind, size, said, store.verify()]), flush=True)
    worker.run(step, quiet)
"""


def run(root: Path, processes: int, tried: dict[str, list[int]]) -> list[tuple[str, int, str, dict[str, list[str]]]]:
    """A small comparison in a process of its own; kind, limit, sentence and damage of each try under a limit."""
    command = [sys.executable, "-c", PROGRAM, str(root), str(SMALL_BED), str(processes), json.dumps(tried)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]


def contents(root: Path) -> dict[str, str]:
    """The digest of every file of every stage, as its manifest has it; but those that tell the time."""
    store = Store(root)
    return {
        f"{name}/{file}": known["sha256"]
        for name in store.finished()
        for file, known in store.manifest_of(name)["files"].items()
        if file not in ("profile.json", "summary.json")
    }


@pytest.mark.heavy
@pytest.mark.parametrize("processes", [1, 2])
def test_every_kind_of_stage_meets_a_full_disk(processes: int, tmp_path: Path) -> None:
    """Each is tried with room for nothing, and with room for all but its largest file."""
    assert run(tmp_path / "plain", processes, {}) == []
    plain = Store(tmp_path / "plain")
    largest: dict[str, int] = {}
    for name in plain.finished():
        kind = name.partition("/")[0]
        sizes = [known["bytes"] for known in plain.manifest_of(name)["files"].values()]
        largest[kind] = min(largest.get(kind, 1 << 60), max(sizes))
    tries = run(tmp_path / "full", processes, {kind: [1, size - 1] for kind, size in largest.items() if size > 1})
    kinds = "data split items build reference train generate probe lens score report"
    assert {kind for kind, *_ in tries} == {*kinds.split()}
    for kind, size, sentence, damage in tries:
        assert damage == {}
        assert sentence.startswith("Full: "), (kind, size, sentence)
        assert "No finished stage is damaged; free some space and give the same command again." in sentence
    assert contents(tmp_path / "full") == contents(tmp_path / "plain")
    assert MANIFEST not in contents(tmp_path / "full")
