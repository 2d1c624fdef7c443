"""The example on a seam's page is an implementation that its suite runs."""

import re
from pathlib import Path

import pytest

from tests.seams.found import outside

PAGES = sorted((Path(__file__).parents[2] / "docs" / "extend").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_example_is_a_file_that_is_tried(page: Path) -> None:
    shown = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    files = [Path(file).read_text() for file in outside(page.stem)]
    assert shown and all(block in files for block in shown)
