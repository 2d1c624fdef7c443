"""A user edits a file between or during comparisons: no stage is made by code that is not in its key."""

from pathlib import Path
from typing import Any

import pytest

from harness import families
from harness.comparison.progress import Silent
from harness.comparison.worker import Bodies
from harness.contracts import plugins, schedule
from harness.contracts.executor import Executor
from harness.contracts.family import Family
from harness.contracts.settings import Runtime
from harness.models import load
from harness.store.closure import SOURCES
from harness.store.store import Store
from harness.system.errors import UsageError

MINE = """
from harness.contracts.executor import Executor

WORD = "{word}"


class Mine(Executor):
    def run(self, course, bodies, workers):
        pass
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(MINE.format(word="first"))
    return file


def word(file: Path) -> str:
    """What the file says when it is loaded now."""
    plugins.plugin("harness.executors", str(file), Executor)
    return str(vars(plugins.module("harness.executors", str(file)))["WORD"])


def test_a_file_that_changes_during_a_comparison_is_refused_by_whoever_makes_its_stages(mine: Path) -> None:
    """Else the stage would lie under the key of the code before, and be found there when the edit is taken back."""
    assert word(mine) == "first"
    plugins.hold(plugins.editions())
    mine.write_text(MINE.format(word="second"))
    try:
        with pytest.raises(UsageError, match="has changed since this comparison began"):
            word(mine)
        mine.write_text(MINE.format(word="first") + "# a comment is no other code\n")
        assert word(mine) == "first"
    finally:
        plugins.hold({})
    mine.write_text(MINE.format(word="second"))
    assert word(mine) == "second"


def test_a_file_beside_it_that_has_changed_is_imported_again(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its content is in the key; Python alone would go on with what it imported first."""
    monkeypatch.syspath_prepend(str(mine.parent))
    mine.write_text(MINE.replace('WORD = "{word}"', "from beside_mine import WORD"))
    (mine.parent / "beside_mine.py").write_text('WORD = "first"\n')
    assert word(mine) == "first"
    (mine.parent / "beside_mine.py").write_text('WORD = "other"\n')
    assert word(mine) == "other"


def test_what_makes_stages_is_made_anew_for_another_edition_and_after_each_comparison(
    mine: Path, tmp_path: Path
) -> None:
    """It keeps methods that it has loaded: a notebook's second comparison would build with the code of the first."""
    given: Any = (str(tmp_path), None, None, Runtime())
    word(mine)
    before = Bodies(*given)
    mine.write_text(MINE.format(word="second"))
    word(mine)
    assert Bodies(*given) != before and Bodies(*given) == Bodies(*given)
    schedule._here = before, lambda step, tick: None
    plugins.hold(before.editions)
    schedule.execute([], before, Store(tmp_path), Runtime(), Silent())
    assert schedule._here is None and not plugins.held()


def test_an_edited_family_is_another_and_so_is_what_is_kept_of_its_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures' features stay in the store from comparison to comparison, and are what the family's code made."""
    monkeypatch.setattr(plugins, "_adopted", dict(plugins.adopted()))
    file = tmp_path / "edited.py"
    text = (Path(__file__).parents[1] / "outside" / "family" / "toy.py").read_text()
    file.write_text(text)
    plugins.adopt(families.PACKAGE, str(file))
    first = families.named("edited")
    assert families.named("edited") is first
    file.write_text(text.replace("SIDE, MOST = 32, 4", "SIDE, MOST = 32, 3"))
    second = families.named("edited")
    assert second is not first and isinstance(second, Family)


def test_features_are_known_by_the_code_of_the_family(monkeypatch: pytest.MonkeyPatch) -> None:
    base = Path(load.__file__).parents[1] / "mini" / "bases" / "0"
    before = load.load(base).features.kind
    assert load.load(base).features.kind == before
    monkeypatch.setattr(SOURCES, "digest", lambda *entries: "other code")
    assert load.load(base).features.kind != before
