"""docs/python.md is a notebook that runs: its cells, top to bottom, in one process."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT

CELLS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.heavy
def test_every_cell_runs(tmp_path: Path) -> None:
    body = "".join(f"    {line}\n" if line else "\n" for cell in CELLS for line in cell.split("\n"))
    (tmp_path / "guide.py").write_text(f'if __name__ == "__main__":\n{body}')
    ran = subprocess.run(
        [sys.executable, "guide.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=500,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    said = ran.stdout
    assert re.search(r"^nSFT ", said, re.MULTILINE) and "gqa/all" in said and "response" in said
    assert said.splitlines()[-1].startswith('no method "nfst"; did you mean "nsft"?')


def test_cells_are_python() -> None:
    assert len(CELLS) == 7
    for cell in CELLS:
        compile(cell, "docs/python.md", "exec")
