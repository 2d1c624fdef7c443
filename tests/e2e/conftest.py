"""Runs the command as a user does: another process, its own store, small sizes."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SMALL_BED = Path(__file__).with_name("small.yaml")
SMALL = ["--testbed", str(SMALL_BED), "--benchmarks", "gqa,mmb,pope,chair,mmhal"]
SMALL.append("--no-page")  # nobody looks at the page of a run that is killed


@dataclass(frozen=True)
class Ran:
    """One finished command."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        """What --json printed."""
        return json.loads(self.stdout)


def harness(
    *arguments: str,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    timeout: int = 900,
    script: Path | None = None,
) -> Ran:
    """Run `harness` with these arguments; `script`: by a file as the installed command is one."""
    command = [sys.executable, *([str(script)] if script else ["-m", "harness.cli"]), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=cwd, timeout=timeout, check=False
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def fingerprint(store: Path, out: Path) -> dict[str, str]:
    """Digests of what a comparison publishes: the table, and every score, by the key of its stage."""
    files = [out / "table.csv", *sorted(store.glob("score/*/scores.jsonl"))]
    return {
        f"{file.parent.name if file.parent != out else ''}/{file.name}": sha256(file.read_bytes()).hexdigest()
        for file in files
    }


@dataclass(frozen=True)
class Done:
    """A finished comparison: where it lies and what it said."""

    store: Path
    out: Path
    ran: Ran

    def again(self, *more: str, methods: str = "nsft,dpo") -> Ran:
        """The same comparison once more, with additions."""
        places = ["--store", str(self.store), "--out", str(self.out)]
        return harness("compare", "--methods", methods, *SMALL, *places, *more)


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """nSFT and GT-DPO compared, small."""
    folder = tmp_path_factory.mktemp("compare")
    finished = Done(folder / "store", folder / "out", Ran(0, "", ""))
    ran = finished.again("--page")
    assert ran.status == 0, ran.stderr
    return Done(finished.store, finished.out, ran)
