"""What the page about Figure 2 is made of: who holds what, and that tables and bars replace those before."""

from pathlib import Path

import pytest

from harness.contracts.settings import Lora
from tests.perf import figure2
from tests.perf.figure2 import Cost, Row


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> dict[str, Row]:
    """With adapters, of a model of two layers, where every record costs the same."""
    monkeypatch.setattr(figure2, "LAYERS", 2)
    monkeypatch.setattr(figure2, "cost", lambda method, lora: Cost(3 * 10**12, 10**8, 10**12))
    return {row.what: row for row in figure2.rows(Lora())}


def test_a_kept_reference_is_nobody_and_a_second_model_is_one_more(rows: dict[str, Row]) -> None:
    sft, kept, two = (rows[name] for name in (
        "SFT", "DPO, the reference's log-probs kept", "DPO, two models, a pair a tree"))  # fmt: skip
    assert (kept.memory, kept.flops) == (sft.memory, sft.flops)
    assert two.flops - kept.flops == 10**12 and 0.9 * sft.weights < two.weights - sft.weights < sft.weights


def test_four_roles_on_one_model_hold_three_models_less(rows: dict[str, Row]) -> None:
    four, one = rows["PPO, four models"], rows["PPO, four roles on one model"]
    assert four.weights > 3 * one.weights and four.states == one.states and four.flops == one.flops == 16 * 10**12


def test_the_page_keeps_its_words_and_changes_its_tables(rows: dict[str, Row], tmp_path: Path) -> None:
    page, found = tmp_path / "figure2.md", list(rows.values())
    page.write_text(f"# Words\n{figure2.BEGIN}old\n{figure2.END}after\n")
    figure2.written(found, found[:2], page)
    text, drawing = page.read_text(), page.with_suffix(".svg").read_bytes()
    assert "old" not in text and text.startswith("# Words\n") and text.endswith("after\n")
    assert text.count("| SFT | 1 |") == 2 and text.count("| PPO, four models | 4 |") == 1
    figure2.written(found, found[:2], page)
    assert page.with_suffix(".svg").read_bytes() == drawing
