"""What the viewer shows: every item once, every response of every row, and what changed, by what moves the table."""

import hashlib
import json
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.contracts.benchmark import totals
from harness.contracts.images import Places
from harness.system.errors import HarnessError
from harness.system.jsonl import loads
from harness.viewing import items as reading
from harness.viewing.items import LONGEST, PART, Viewed, chosen, facts
from reports.runs import opened
from tests.fake_run import FakeRun, drawn

View = Callable[..., Viewed]


@pytest.fixture
def view(tmp_path: Path) -> Iterator[View]:
    """Writes a run and opens it as the viewer does."""

    def made(run: FakeRun, name: str = "a") -> Viewed:
        with opened([run.write(tmp_path / name)]) as (one,):
            return Viewed(one)

    yield made


def parts(viewed: Viewed, number: int = 0) -> list[dict[str, Any]]:
    """Every item of a set, part by part."""
    one = viewed.set(number)
    return [item for part in range(-(-len(one.ids) // PART)) for item in one.part(part, lambda image: {})]


def test_every_item_is_there_once_with_what_each_row_said(view: View) -> None:
    viewed = view(drawn({"baseline": 0.5, "nsft": 0.7, "dpo": 0.4}, said={"nsft": "a dog"}))
    index = viewed.index()
    assert [one["items"] for one in index["sets"]] == [240, 240] and index["rows"] == ["baseline", "nSFT", "GT-DPO"]
    shown = parts(viewed)
    assert [item["id"] for item in shown] == viewed.set(0).ids and len(shown) == len({item["id"] for item in shown})
    assert {tuple(said["text"] for said in item["said"]) for item in shown} == {
        ("baseline says", "a dog", "dpo says"),
    }
    assert {item["facts"][0][0] for item in shown} == {"reference answer"}


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_what_flipped_is_what_one_row_has_right_and_the_other_wrong(view: View, seeds: tuple[int, ...]) -> None:
    run = drawn({"baseline": 0.5, "nsft": 0.7, "dpo": 0.3}, seeds=seeds)
    viewed = view(run)
    assert [(one.name, one.seed) for one in viewed.sets] == [(name, s) for s in seeds for name in run.benchmarks]
    for number, one in enumerate(viewed.sets):
        old, *new = ([right for *_, right in run.answered(row, one.seed)] for row in run.skill)
        expected = [["s" if a == b else "b" if b else "w" for a, b in zip(old, row, strict=True)] for row in new]
        listing = viewed.set(number).listing()
        assert listing["signs"] == ["s" * len(old), *map("".join, expected)]
        assert [{*row} for row in expected] == [{*"sb"}, {*"sw"}]
        assert listing["words"] == (
            ["flipped to right", "flipped to wrong"] if one.name == "sqa" else ["better", "worse"]
        )


def test_a_sign_is_the_sign_of_the_change_of_the_tables_figure(view: View) -> None:
    """By the definition: the figure with this one unit as the baseline has it."""
    viewed = view(drawn({"baseline": 0.5, "nsft": 0.7}))
    one = viewed.set(0)
    base, mine = one.answered["baseline"], one.answered["nsft"]
    metric = one.benchmark.metrics[0].id
    whole = one.benchmark.compute(totals(mine.units))[metric]
    for place, sign in enumerate(one.listing()["signs"][1]):
        unit = mine.units[place]
        swapped = [base.by_id[unit.id] if other is unit else other for other in mine.units]
        change = whole - one.benchmark.compute(totals(swapped))[metric]
        assert sign == ("b" if change > 1e-9 else "w" if change < -1e-9 else "s")


def test_unscored_items_say_why_and_are_neither_right_nor_wrong(view: View) -> None:
    viewed = view(FakeRun(unscored=2))
    assert viewed.set(0).listing()["signs"] == ["ssuu", "sbuu", "sbuu"]
    lost = parts(viewed)[-1]["said"][1]
    assert lost["why"] == "no verdict" and lost["score"] == lost["parts"] == ""


def test_where_a_judge_was_asked_its_replies_are_shown_and_elsewhere_nothing_is(view: View) -> None:
    viewed = view(FakeRun(heard="<think>so so</think>Rating: 4"))
    plain, judged = (parts(viewed, number)[0]["said"][1] for number in (0, 1))
    assert (plain["judge"], plain["heard"]) == ("", [])
    [told] = judged["heard"]
    assert judged["judge"] == "oracle" and told["reply"] == "<think>so so</think>Rating: 4"
    assert "nsft says" in told["question"] and "all/sum 4" in told["made"]
    assert told["by"] == "run 1, gpt-4-0613 at api.openai.com, 0.012 USD"


def test_a_judge_that_keeps_no_replies_is_named(view: View) -> None:
    said = parts(view(FakeRun()), 1)[0]["said"][1]
    assert (said["judge"], said["heard"]) == ("oracle", [])


@pytest.mark.parametrize("name", ["judge.json", "replies.jsonl"])
def test_replies_that_were_changed_are_refused_by_name(view: View, tmp_path: Path, name: str) -> None:
    viewed = view(FakeRun(heard="Rating: 4"), "b")
    for file in tmp_path.glob(f"b/store/*/*/{name}"):
        file.write_text(file.read_text().replace("4", "5"))
    with pytest.raises(HarnessError, match=rf"{name} is not what was stored"):
        viewed.check()


def test_an_item_that_only_the_baseline_lacks_is_compared_with_nothing(view: View) -> None:
    viewed = view(FakeRun())
    one = viewed.set(0)
    one.answered["baseline"].units = one.answered["baseline"].units[2:]
    assert one.listing()["signs"] == ["uuss", "nnss", "nnss"]


def test_a_cell_that_is_not_there_is_a_gap_with_a_note(view: View) -> None:
    viewed = view(FakeRun(unfinished=[("dpo", "gqa")]))
    viewed.check()
    assert viewed.set(0).listing()["signs"] == ["ssss", "sbss", "----"]
    assert [item["said"][2] for item in parts(viewed)] == [None] * 4
    assert viewed.index()["notes"] == ["not scored yet, or failed: GT-DPO on gqa, seed 0"]


def test_without_a_baseline_rows_are_shown_and_compared_with_nothing(view: View) -> None:
    viewed = view(FakeRun(unfinished=[("baseline", "gqa")]))
    assert viewed.set(0).listing()["signs"] == ["----", "nnnn", "nnnn"]


def test_a_run_of_which_nothing_is_scored_is_refused(view: View) -> None:
    rows = ("baseline", "nsft", "dpo")
    with pytest.raises(HarnessError, match="nothing of it is scored"):
        view(FakeRun(benchmarks=("gqa",), unfinished=[(row, "gqa") for row in rows])).check()


@pytest.mark.parametrize("name", ["items.jsonl", "responses.jsonl", "units.json"])
@pytest.mark.parametrize("spoil", ["changed", "gone"])
def test_a_damaged_stage_is_refused_by_name(view: View, tmp_path: Path, name: str, spoil: str) -> None:
    viewed = view(FakeRun(), "b")
    viewed.check()
    for file in tmp_path.glob(f"b/store/*/*/{name}"):
        file.unlink() if spoil == "gone" else file.write_text(file.read_text().replace("0", "1"))
    with pytest.raises(HarnessError, match=rf"{name} is not (there|what was stored).*comparison"):
        viewed.check()


def test_a_stage_that_is_damaged_while_it_is_viewed_is_not_shown(view: View, tmp_path: Path) -> None:
    viewed = view(FakeRun(), "b")
    assert parts(viewed)
    for file in tmp_path.glob("b/store/generate/*/responses.jsonl"):
        file.write_bytes(file.read_bytes().replace(b"says", b"lies"))
    with pytest.raises(HarnessError, match="not what was stored"):
        parts(viewed)


def test_long_texts_are_cut_and_say_by_how_much(view: View) -> None:
    said = parts(view(FakeRun(said={"nsft": "x" * (LONGEST + 7)})))[0]["said"][1]
    assert (len(said["text"]), said["cut"]) == (LONGEST, 7)


@pytest.mark.parametrize(
    ("known", "first"),
    [
        ({"choices": ["dog", "cat"], "answer": 1}, ["reference answer", "B: cat"]),
        ({"choices": {"A": "dog", "B": "cat"}, "answer": "A"}, ["reference answer", "A: dog"]),
        ({"choices": ["dog"], "answer": True}, ["reference answer", "true"]),
        ({"choices": ["dog"], "answer": 7}, ["reference answer", "7"]),
        ({"type": "x", "label": "yes"}, ["reference answer", "yes"]),
        ({"objects": ["a \u202e"]}, ["objects", '["a <U+202E>"]']),
    ],
)
def test_the_reference_answer_comes_first_with_the_option_that_it_names(known: Any, first: list[str]) -> None:
    assert facts(known)[0] == first
    assert len(facts(known)) == len(known)


def test_what_names_no_option_is_none() -> None:
    assert [chosen(*given) for given in [("C", {"A": "x"}), (-1, ["x"]), (0, None), ("A", ["x"])]] == [""] * 4


def test_groups_of_a_benchmark_can_be_chosen_from(view: View, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    viewed = view(FakeRun(benchmarks=("gqa",)))
    one = viewed.set(0)
    assert one.listing()["kinds"] == []  # of one there is nothing to choose
    monkeypatch.setattr(type(one.benchmark), "stratum", lambda self, item: "odd" if int(item.id[-1]) % 2 else "even")
    assert (one.listing()["kinds"], one.listing()["kind_of"]) == (["even", "odd"], [0, 1, 0, 1])


def test_a_pictures_name_says_nothing_of_its_record(view: View) -> None:
    viewed = view(FakeRun())
    image = next(iter(viewed.set(0).items.read(["item0"]).values())).image
    assert viewed.name(image) == hashlib.sha256(image.key.encode()).hexdigest()[:24]
    assert viewed.set(0).places == Places(viewed.run.store)


def test_ten_thousand_items_take_the_memory_of_a_part(view: View) -> None:
    """A part of 10,000 items takes what one of 1,000 does, and a list a few bytes an item and row."""
    peaks, sizes = [], []
    for name, images in (("few", 250), ("many", 2500)):
        viewed = view(drawn({"baseline": 0.5, "nsft": 0.6}, items=images, benchmarks=("sqa",)), name)
        one = viewed.set(0)
        sizes.append(len(json.dumps(one.listing())) / len(one.ids))
        tracemalloc.start()
        assert len(one.part(len(one.ids) // PART - 1, lambda image: {})) == PART
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]
    assert sizes[1] < 1.1 * sizes[0] < 12


def test_a_part_reads_its_own_lines_and_no_others(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many items there are; so a page of 10,000 items comes as fast as one of 200."""
    viewed = view(drawn({"baseline": 0.5, "nsft": 0.6}, items=100, benchmarks=("sqa",)))
    one, parsed = viewed.set(0), list[str]()
    one.listing()
    monkeypatch.setattr(reading, "loads", lambda kind, line: parsed.append(line) or loads(kind, line))
    one.part(1, lambda image: {})
    assert len(parsed) == 3 * PART  # its items, and the responses of two rows


def test_items_that_are_scored_together_share_their_sign_and_their_reason(view: View) -> None:
    viewed = view(FakeRun(benchmarks=("gqa",)))
    one = viewed.set(0)
    joined = [("item0", "both"), ("item1", "both"), ("item2", "other"), ("item3", "item3")]
    for row, right in (("baseline", 0.0), ("nsft", 1.0)):
        units = [replace(one.answered[row].by_id[f"item{at}"], id=name) for at, name in ((1, "both"), (3, "item3"))]
        units[0].parts["all/sum"] = right
        one.answered[row].units = units
        one.answered[row].__dict__.pop("by_id", None)
    assert "".join(one._signs("nsft", joined)) == "bbus"
    one.answered["nsft"].reasons = {"item2": "no verdict"}
    said = [item["said"][1]["why"] for item in parts(viewed)]
    assert said == ["another item of its unit is unscored"] * 2 + ["no verdict", ""]


def test_of_two_sets_one_is_in_memory(view: View) -> None:
    viewed = view(FakeRun())
    viewed.set(0).listing()
    viewed.set(1).listing()
    assert "answered" not in viewed.sets[0].__dict__ and "answered" in viewed.sets[1].__dict__
