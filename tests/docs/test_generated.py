"""Pages that are made from the code are what the code would make of them today."""

import re
import runpy
from pathlib import Path

import pytest

from harness.contracts.settings import Runtime, Testbed, Training

ROOT = Path(__file__).parents[2]
MADE = runpy.run_path(str(ROOT / "docs" / "generate.py"))


@pytest.mark.parametrize(("file", "text"), MADE["pages"]().items(), ids=lambda it: getattr(it, "name", ""))
def test_a_page_is_not_stale(file: Path, text: str) -> None:
    assert file.read_text(encoding="utf-8") == text, "run `make docs`"


def test_every_field_is_there_with_its_default_and_a_sentence() -> None:
    page = MADE["settings"]()
    for model in (Testbed, Training, Runtime):
        for name in model.model_fields:
            row = re.search(rf"^\| `{name}` \| .+ \| (\*\*required\*\*|`.+`) \| .{{6,}} \|$", page, re.MULTILINE)
            assert row, name
    assert "| `beta` | `0.1` | strength of the implicit KL" in page
    assert "| `learning_rate` | float, > 0 | `2e-06` | The highest rate of the schedule. |" in page


def test_no_path_of_a_machine_is_in_it() -> None:
    assert str(ROOT) not in MADE["settings"]()
