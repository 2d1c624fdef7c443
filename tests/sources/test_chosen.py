"""What a word of `--data` means, and what is asked of the source that it means before anything runs."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.comparison.planner import Planner
from harness.comparison.preflight import check
from harness.comparison.worker import Worker
from harness.contracts import plugins
from harness.contracts.records import Dropped, Example, Item
from harness.contracts.settings import Reading, Runtime
from harness.contracts.steps import Request
from harness.contracts.testbed_file import read_testbed
from harness.sources._chosen import named, source
from harness.store.store import Store
from harness.system.errors import UsageError
from harness.system.jsonl import read_jsonl
from harness.system.profile import quiet
from harness.testbeds.mini import Mini
from tests.seams.sources import Tried, liar, made

BED = read_testbed("mini")


@pytest.fixture
def signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tried]:
    """A source in a user's file, with its data beside it and held-out ones beside those."""
    monkeypatch.setattr(plugins, "_adopted", {})
    yield made("signs", tmp_path / "data")


@pytest.mark.parametrize(
    ("word", "images", "said"),
    [
        ("llava15k", "", 'no data "llava15k"; did you mean "llava150k"'),
        ("local", "", 'no data "local".*JSON lines'),
        ("gone.py", "", "no file gone.py"),
        ("llava150k", "photos", "llava150k says itself where its pictures are"),
    ],
)
def test_a_word_that_means_nothing_is_a_sentence(word: str, images: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        source(word, images)


@pytest.mark.parametrize("name", ["llava150k", "local"])
def test_a_user_s_file_of_a_name_that_is_taken_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.py").write_text("")
    with pytest.raises(UsageError, match=f'the source "{name}" is ours; rename the file'):
        source(str(tmp_path / f"{name}.py"))


@pytest.mark.parametrize(("beside", "home"), [("", "mine"), ("all/x", "all/x"), ("rows.csv", "rows.csv")])
def test_its_data_lie_beside_it_where_it_says(
    beside: str, home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "_adopted", {})
    text = f"from harness.contracts.source import Source\nclass Mine(Source):\n    beside = {beside!r}\n"
    (tmp_path / "mine.py").write_text(text)
    assert source(str(tmp_path / "mine.py")).home == tmp_path / home


def test_each_named_source_says_where_its_files_come_from(tmp_path: Path) -> None:
    """Place, size, layout, and one command into the folder."""
    for name in named():
        with pytest.raises(UsageError) as missing:
            source(name, home=tmp_path).check()
        says, command = re.split(r"Fetch it \(\d.*? [MG]B.*?\): ", str(missing.value))
        assert re.search(r"Put .* \(\d[\d.]* [MG]B\) from https://", says)
        assert command.startswith("hf download ") and str(tmp_path / "sources" / name) in command


def test_a_source_that_the_world_is_not_drawn_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mini, "sources", ("llava150k", "ocrvqa"))
    check(Request((), source("ocrvqa"), benchmarks=("gqa",)), BED)
    with pytest.raises(UsageError, match="mini draws its pictures, and knows how for llava150k, ocrvqa only"):
        check(Request((), source("textcaps"), benchmarks=("gqa",)), BED)


def test_held_out_examples_are_asked_about(signs: Tried, tmp_path: Path) -> None:
    """Those in `signs-heldout`; the oracle of the drawn world knows none of them."""
    bed = BED.model_copy(update={"judge": "openai:gpt-4o-mini", "writer": "openai:gpt-4o-mini"})
    asked = Request((), signs.source, benchmarks=("indomain",))
    step = Planner(asked, bed, Runtime(), ()).items("indomain")
    store = Store(tmp_path / "store")
    Worker(store, bed, asked, Runtime(workers=1)).run(step, quiet)
    items = read_jsonl(Item, store.path(step.stage) / "items.jsonl")
    assert [item.facts["answer"] for item in items] == ["City 50", "City 51", "City 52"]
    with pytest.raises(UsageError, match="indomain needs a judge, and the oracle of mini"):
        check(asked, BED)
    shutil.rmtree(tmp_path / "data" / "signs-heldout")
    with pytest.raises(UsageError, match="held-out examples of the source; --data signs has none"):
        check(asked, bed)


def test_more_held_out_examples_are_other_items_and_the_same_split(signs: Tried) -> None:
    asked = Request((), signs.source, benchmarks=("indomain",))

    def keys() -> tuple[str, str]:
        planner = Planner(asked, BED, Runtime(), ())
        return planner.split(0).key, planner.items("indomain").key

    before = keys()
    file = signs.root / "signs-heldout" / "signs.json"
    file.write_text(file.read_text().replace("City 50", "City 60"))
    after = keys()
    assert before[0] == after[0] and before[1] != after[1]


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        ({"example": lambda *_: "a sign"}, "signs.example must give the Example '0.png' of signs, with turns"),
        ({"records": lambda *_: [(1, {})]}, "signs.records must give pairs: a text"),
    ],
)
def test_what_is_no_example_is_the_file_s_fault(lie: dict[str, Any], said: str, signs: Tried) -> None:
    with pytest.raises(UsageError, match=said):
        next(liar(**lie)(signs).source.load())


@pytest.mark.parametrize("text", ["", " \n", "look: <image>", "</s>", "\ud800", 3])
def test_a_text_that_no_template_holds_is_dropped_whoever_read_it(text: Any, signs: Tried) -> None:
    def example(self: Any, id: str, told: Any, shown: Any, reading: Reading) -> Example:
        return replace(self.true.example(self, id, told, shown, reading), rejected=text)

    assert {type(found) for found in liar(example=example)(signs).source.load()} == {Dropped}
