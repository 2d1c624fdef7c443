"""Whatever is set otherwise than in the paper's testbed withholds its numbers: every field there is, none named here.

A field that somebody adds is tried by being there. What of a testbed is no setting stands in a list, with the reason.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from pydantic import BaseModel
from test_earned import EARNED, REAL, SEVEN, scored
from worlds import NINE

from harness.contracts import plugins
from harness.contracts.benchmark import Benchmark
from harness.contracts.settings import Chat, Joint, Lora, Testbed
from harness.contracts.testbed_file import read_testbed, setting_of
from reports import earned
from reports.earned import ARCHITECTURES, FREE, WHERE, Ran, shortfalls
from reports.layouts import LAYOUTS
from reports.report import Measured
from tests.fake_run import FakeRun, drawn
from tests.laws import caught

BED = read_testbed(REAL.testbed)
Leaf = tuple[str, ...]
NO_SETTING: dict[Leaf, str] = {
    ("name",): "what it is called; it is not told by that",
    ("synthetic",): "such a run has no table with the paper",
    ("protocol",): "of another protocol there is no table with the paper",
    ("models",): "the model's sizes are compared instead",
    ("family",): "the same",
    ("data",): "where files lie; their questions are counted",
    ("clip",): "where the model of the paper's CSR lies",
    ("lens",): "looks on, changes nothing",
    ("crosscheck",): "another opinion beside ours",
    ("examples",): "the splits' own numbers are compared",
    ("scenes",): "of a drawn world",
    ("prices",): "what replies cost",
    ("writing", "price"): "the same",
    ("judging", "price"): "the same",
    ("judging", "runs"): "more of the same verdicts",
    ("reading", "links"): "which files may be opened; where they may not, nothing runs",
    ("reading", "max_dropped"): "where a run stops",
    **{("answering", field): "how a row is asked that nobody trained here" for field in Chat.model_fields},
}
OTHERS = {"judge": "openai:gpt-4o", "writer": "openai:gpt-4o"}  # any GPT-4 is the paper's, for all that it says
UNSET = {"lora": Lora(), "joint": Joint(data="mix665k")}
JUDGED = {"MMVet", "MMHal"}


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, also where it may be null."""
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def leaves(model: type[BaseModel], above: Leaf = ()) -> Iterator[Leaf]:
    """Every field of a model and of the models in it that holds none itself."""
    for name, field in model.model_fields.items():
        if inner := model_of(field.annotation):
            yield from leaves(inner, (*above, name))
        else:
            yield (*above, name)


def other(value: Any, annotation: Any) -> Any:
    """Another value of the same kind."""
    if get_origin(annotation) is Literal:
        return next((one for one in get_args(annotation) if one != value), f"not {value}")
    if isinstance(value, bool):
        return not value
    if isinstance(value, Mapping):
        return {**value, "zz": {"zz": 1}}
    if isinstance(value, tuple):
        return (*value, "zz")
    return 7 if value is None else value + type(value)(1)


def changed(model: BaseModel, leaf: Leaf) -> BaseModel:
    """The same settings, but for one field."""
    name, *rest = leaf
    value = getattr(model, name)
    new = OTHERS.get(name) or (
        changed(value or UNSET[name], tuple(rest)) if rest else other(value, type(model).model_fields[name].annotation)
    )
    return model.model_copy(update={name: new})


LEAVES = list(leaves(Testbed))


def withheld(ran: Ran) -> dict[str, tuple[str, ...]]:
    return shortfalls(LAYOUTS[1], REAL.testbed, [ran], scored())


def test_the_run_that_earned_it_lacks_nothing() -> None:
    assert withheld(EARNED) == {}


@pytest.mark.parametrize("leaf", LEAVES, ids=".".join)
def test_every_field_of_a_testbed_is_a_setting_or_says_why_it_is_none(leaf: Leaf) -> None:
    bed = changed(BED, leaf)
    assert isinstance(bed, Testbed) and bed != BED
    assert (setting_of(bed) == setting_of(BED)) == (leaf in NO_SETTING), NO_SETTING.get(leaf, "changes no setting")


def test_the_list_names_only_what_is_there() -> None:
    assert NO_SETTING.keys() <= {*LEAVES}


@pytest.mark.parametrize("leaf", [leaf for leaf in LEAVES if leaf not in NO_SETTING], ids=".".join)
def test_every_setting_that_differs_withholds_the_papers_numbers(leaf: Leaf) -> None:
    """All of them, or the columns that it is about; and the reason names it."""
    bed = changed(BED, leaf)
    assert isinstance(bed, Testbed)
    found = withheld(replace(EARNED, setting=setting_of(bed)))
    if leaf[0] == "benchmarks":  # the options that a run had are in its manifest, and are tried below
        return
    if leaf[0] in ("judge", "judging"):
        assert found.keys() >= JUDGED and "" not in found and "POPE" not in found
        assert all(".".join(leaf) in " ".join(found[key]) or leaf == ("judge",) for key in JUDGED)
    else:
        told = leaf[:2] if leaf[:2] == ("training", "joint") else leaf  # which is null there
        assert any(".".join(told) in reason for reason in found.get("", [])), found


@pytest.mark.parametrize(
    "leaf", [("training", "weight_decay"), ("reading", "ignore"), ("judging", "seed")], ids=".".join
)
def test_a_setting_that_is_not_compared_would_be_caught(leaf: Leaf, monkeypatch: pytest.MonkeyPatch) -> None:
    real = earned._differences
    without = ".".join(leaf)
    wrong = lambda *given: (one for one in real(*given) if one[0] != without)  # noqa: E731
    monkeypatch.setattr(earned, "_differences", wrong)
    caught(test_every_setting_that_differs_withholds_the_papers_numbers, leaf)


def test_a_setting_that_is_not_recorded_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(bed: Testbed, real: Callable[[Testbed], dict[str, Any]] = setting_of) -> dict[str, Any]:
        return {name: value for name, value in real(bed).items() if name != "response_tokens"}

    monkeypatch.setattr(earned, "setting_of", without)
    monkeypatch.setitem(globals(), "setting_of", without)
    caught(test_every_field_of_a_testbed_is_a_setting_or_says_why_it_is_none, ("response_tokens",))


def options() -> Iterator[tuple[str, str]]:
    """Every option of every benchmark of the table that decides what is asked or counted."""
    for name in NINE:
        made = plugins.make("benchmarks", name, Benchmark, {})
        yield from ((name, one.name) for one in fields(made) if one.name not in WHERE | FREE.get(name, set()))


@pytest.mark.parametrize(("name", "option"), list(options()))
def test_every_option_of_a_benchmark_that_differs_withholds_its_column(name: str, option: str) -> None:
    made = plugins.make("benchmarks", name, Benchmark, {})
    usual, kind = getattr(made, option), get_type_hints(type(made))[option]
    value = usual[:1] if isinstance(usual, tuple) and usual else other(usual, kind)
    found = withheld(replace(EARNED, options={**EARNED.options, name: {option: value}}))
    mine = {column.key for column in LAYOUTS[1].columns if column.benchmark == name}
    assert mine <= found.keys() and "" not in found
    assert all(f"{option}=" in " ".join(found[key]) for key in mine)


@pytest.mark.parametrize(("name", "option"), [("mme", "subtasks"), ("chair", "variant")])
def test_an_option_that_is_not_compared_would_be_caught(
    name: str, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(earned, "FREE", {name: {option}})
    caught(test_every_option_of_a_benchmark_that_differs_withholds_its_column, name, option)


@pytest.mark.parametrize("base", ARCHITECTURES)
@pytest.mark.parametrize("size", SEVEN | {"tilings": 0})
def test_every_size_of_a_model_counts_in_every_seed(base: str, size: str) -> None:
    """And the model itself is known whatever else is recorded of it."""
    right = {**ARCHITECTURES[base], "vocab_size": 32_064}
    wrong = right | {size: right[size] + 1}
    assert earned._is(base, right) and not earned._is(base, wrong)
    if base == REAL.testbed:
        for models in ({"0": wrong}, {"0": right, "1": wrong}, {"0": wrong, "1": right}):
            assert "" in withheld(replace(EARNED, models=models))


@pytest.mark.parametrize("number", LAYOUTS)
def test_one_run_among_several_that_did_not_earn_it_withholds_it_from_all(number: int) -> None:
    """A table over several comparisons is worth what the least of them is, in whichever place it stands."""
    table = LAYOUTS[number]
    bad = replace(EARNED, setting={**EARNED.setting, "response_tokens": 1})
    alone = shortfalls(table, REAL.testbed, [bad], scored())
    assert any("response_tokens" in reason for reason in alone[""])
    for ran in ([EARNED, bad], [bad, EARNED]):
        together = shortfalls(table, REAL.testbed, ran, scored())
        assert {*alone[""]} <= {*together[""]}


def test_a_published_checkpoint_takes_no_name_of_the_papers(tmp_path: Path) -> None:
    """`--rows dpo=./theirs`: who trained it, on what, nobody here can tell; its line is its own."""
    folder = drawn({"baseline": 0.5, "nsft": 0.6, "dpo": 0.6}, spoilt={"published": {"dpo": "their weights"}})
    [run] = opened_runs(folder, tmp_path)
    assert "dpo" in Measured.of(run).part.own and "nsft" not in Measured.of(run).part.own


def opened_runs(made: FakeRun, folder: Path) -> list[Any]:
    from reports.runs import opened

    with opened([made.write(folder)]) as runs:
        return list(runs)
