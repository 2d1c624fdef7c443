"""A user's file never passes for one of ours: in a table, a manifest, or where the paper's numbers are earned."""

from pathlib import Path

import pytest

from harness.comparison.preflight import check
from harness.comparison.request import request
from harness.contracts import plugins
from harness.contracts.settings import Chat
from harness.judging.hire import kind_of
from harness.sources._chosen import source
from harness.system.errors import UsageError

OUTSIDE = Path(__file__).parents[1] / "outside"


@pytest.fixture(autouse=True)
def nothing_adopted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_adopted", {})


def copied(folder: Path, seam: str, file: str, name: str = "mine", **changes: str) -> str:
    """An outside file under another name, with texts changed; its path."""
    text = (OUTSIDE / seam / f"{file}.py").read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (folder / f"{name}.py").write_text(text)
    return str(folder / f"{name}.py")


def checked(methods: str = "", benchmarks: str = "gqa", judge: str = "") -> None:
    """The request, as far as it goes before a plan."""
    who = {"judge": judge} if judge else None
    bed, asked, _ = request(methods, "llava150k", "", "mini", 1, benchmarks, None, None, None, 1, who)
    check(asked, bed)


def test_a_method_called_as_one_of_ours_is_refused(tmp_path: Path) -> None:
    checked(copied(tmp_path, "method", "margin"))
    with pytest.raises(UsageError, match=r'sft\.py: the method "sft" is ours; rename the file'):
        checked(copied(tmp_path, "method", "margin", "sft"))


@pytest.mark.parametrize(("link", "file"), [("sft", "mine"), ("mine", "sft")])
def test_nor_is_a_link_or_what_it_leads_to_called_so(link: str, file: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / f"{link}.py").symlink_to(copied(tmp_path / "there", "method", "margin", file))
    with pytest.raises(UsageError, match=r'the method "sft" is ours; rename the file'):
        checked(str(tmp_path / f"{link}.py"))


def test_data_and_questions_may_be_links_to_files_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for seam, file in (("source", "squares"), ("benchmark", "colours")):
        (tmp_path / f"{seam}.py").symlink_to(copied(tmp_path / "there", seam, file, file))
    (tmp_path / "there" / "colours").symlink_to(OUTSIDE / "benchmark" / "colours")
    assert source(str(tmp_path / "source.py")).name == "squares"
    assert plugins.adopt("benchmarks", str(tmp_path / "benchmark.py")) == "colours"
    checked("dpo", benchmarks="colours")


def test_two_files_of_one_label_are_refused_and_one_file_with_other_options_is_not(tmp_path: Path) -> None:
    mine, yours = (copied(tmp_path, "method", "margin", name) for name in ("mine", "yours"))
    checked(f"{mine},{mine}:gamma=0.5")
    with pytest.raises(UsageError, match='yours and mine both have the label "margin"'):
        checked(f"{mine},{yours}")


def test_a_row_labelled_as_one_of_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='mine and nsft both have the label "nSFT"'):
        checked(copied(tmp_path, "method", "margin", **{'"margin"': '"nSFT"'}))


@pytest.mark.parametrize("changes", [{'"COL"': '"POPE"'}, {"colours/all": "pope/f1_macro3"}], ids=["label", "metric"])
def test_a_column_named_as_one_of_ours_is_refused_also_where_ours_is_not_asked(
    changes: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "mine").symlink_to(OUTSIDE / "benchmark" / "colours")
    checked(benchmarks=copied(tmp_path, "benchmark", "colours"))
    plugins.leave()
    with pytest.raises(UsageError, match="mine and pope both have"):
        checked(benchmarks=copied(tmp_path, "benchmark", "colours", **changes))


@pytest.mark.parametrize(
    ("words", "said"),
    [("openai.py:gpt-4", 'the judge "openai" is ours'), ("oracle.py", '"oracle" is a judge of a testbed of ours')],
)
def test_a_judge_called_as_one_of_ours_is_refused(words: str, said: str, tmp_path: Path) -> None:
    """ "./openai.py:gpt-4" would be "openai:gpt-4" in tables, and earn the paper's columns."""
    copied(tmp_path, "judge", "overlap", words.partition(".")[0])
    with pytest.raises(UsageError, match=said):
        kind_of(str(tmp_path / words), Chat(), {})


@pytest.mark.parametrize("lie", ["name = 'llava150k'", "def __str__(self):\n        return 'llava150k'"])
def test_a_source_that_calls_itself_as_one_of_ours_is_refused(lie: str, tmp_path: Path) -> None:
    file = copied(tmp_path, "source", "squares")
    assert source(file).name == "mine"
    copied(tmp_path, "source", "squares", **{"    short_answers = True": f"    {lie}"})
    with pytest.raises(UsageError, match="calls itself llava150k; a source is called as its file, mine"):
        source(file)
