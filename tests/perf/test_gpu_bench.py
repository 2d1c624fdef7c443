"""`make gpu-bench` works, with tiny models on a CPU: what it would measure on a GPU nobody knows before."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu_check import ROOT
from tests.perf.gpu_bench import BEGIN, END, HEAD, PAGE, row, whole


def test_what_measures_nothing_writes_no_page() -> None:
    before = PAGE.read_text()
    with pytest.raises(SystemExit, match="--small measures nothing"):
        whole(True, PAGE)
    assert PAGE.read_text() == before and before.count(BEGIN) == before.count(END) == 1


def test_without_a_gpu_there_is_no_share_and_no_peak() -> None:
    assert row("pairs", "826 places", "4", 32, 8.0, 10**12, 0.0) == ["pairs", "826 places", "4", "4.0", "–", "–"]


@pytest.mark.heavy
def test_every_part_gives_its_rows(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"# Before\n\n{BEGIN}\n\nold\n\n{END}\n\nbehind\n")
    command = [sys.executable, "-m", "tests.perf.gpu_bench", "--small", "--page", str(page)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    text = page.read_text()
    assert text.startswith("# Before") and text.endswith("behind\n") and "old" not in text
    assert "tiny shapes: no measurement" in text
    heads, _, *rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert tuple(heads) == HEAD
    names = ["samples, SFT", "pairs, the reference's pass", "pairs, GT-DPO, the reference kept"]
    assert [told[0] for told in rows] == [*names, "tokens, captions by transformers", "tokens, captions by vllm"]
    assert all(float(told[3].replace(",", "")) > 0 for told in rows[:4])
    assert {told[5] for told in rows} == {"–"}  # no device, no figure
