"""What is made stands between its marks, and nowhere else."""

from pathlib import Path

import pytest

from tests.made_page import filled


def test_what_was_made_before_is_replaced_and_the_words_around_stay(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Before\n\n<!-- a -->\n\nold\n\n<!-- b -->\n\nbehind\n")
    assert filled(page, "<!-- a -->", "<!-- b -->", "new") == "# Before\n\n<!-- a -->\n\nnew\n\n<!-- b -->\n\nbehind\n"


@pytest.mark.parametrize("text", ["", "<!-- a -->", "<!-- b --><!-- a -->", "<!-- a --><!-- a --><!-- b -->"])
def test_a_page_without_its_marks_is_not_written_over(text: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match="lost its marks"):
        filled(page, "<!-- a -->", "<!-- b -->", "new")
