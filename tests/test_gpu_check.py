"""`make gpu-check` works, with tiny models on a CPU: what it would measure on a GPU nobody knows before."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harness import families
from tests.gpu_check import BEGIN, END, HEAD, PAGE, ROOT, filled, true_sized, whole


def test_what_measures_nothing_writes_no_page() -> None:
    before = PAGE.read_text()
    with pytest.raises(SystemExit, match="--small measures nothing"):
        whole(["llava"], True, PAGE)
    assert PAGE.read_text() == before and before.count(BEGIN) == before.count(END) == 1


@pytest.mark.parametrize(("name", "billions"), [("llava", 7.06), ("qwen2_5_vl", 8.29), ("internvl", 8.53)])
def test_true_sizes_are_those_of_the_checkpoints(name: str, billions: float) -> None:
    """Weights that hold no memory; processor and tower belong together."""
    family = families.named(name)
    words = filled(name)
    config, processor = true_sized(name, words)
    size = config.get_text_config().vocab_size
    assert 0.97 * size < len(words) <= size and words.decode([size - 1000]).strip()
    with torch.device("meta"):
        model = family.model_class()._from_config(config, dtype=torch.bfloat16)
    assert sum(weight.numel() for weight in model.parameters()) / 1e9 == pytest.approx(billions, abs=0.005)
    eyes = family.eyes(lambda kind: processor, config)
    assert eyes.processor is processor and family.flops(config).token > 12e9


@pytest.mark.heavy
def test_every_part_gives_its_row_and_a_killed_training_goes_on(tmp_path: Path) -> None:
    page = tmp_path / "gpu.md"
    page.write_text(f"# Before\n\n{BEGIN}\n\nold\n\n{END}\n\nbehind\n")
    command = [sys.executable, "-m", "tests.gpu_check", "--small", "--families", "qwen2_5_vl", "--page", str(page)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    text = page.read_text()
    assert text.startswith("# Before") and text.endswith("behind\n") and "old" not in text
    assert "tiny shapes: no measurement" in text
    heads, _, *rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert tuple(heads) == HEAD
    told = [dict(zip(heads, row, strict=True)) for row in rows]
    assert {row["family"] for row in told} == {"Qwen2.5-VL"}
    assert [row["what"].split(",")[0] for row in told] == ["sft", "dpo", "ppo", "8 captions"]
    assert told[0]["what"].endswith("20 steps, gone on with from step 10")
    assert {row["peak, GiB"] for row in told} == {"–"}  # no device, no figure
