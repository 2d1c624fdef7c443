"""`training.joint` in requests and plans: which rows it is for, what it moves, what it costs, what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.checking.method import check_method
from harness.commands.plan_text import show_plan
from harness.comparison import sizing
from harness.comparison.devices import device_of
from harness.comparison.joining import added, amount
from harness.comparison.plan import plan
from harness.comparison.preflight import check
from harness.comparison.request import request
from harness.comparison.sizing import needs
from harness.contracts import plugins
from harness.contracts.method import Method
from harness.contracts.settings import Runtime
from harness.contracts.steps import Plan
from harness.stages.split import Split
from harness.store.store import Store
from harness.system.errors import UsageError
from methods.dpo import Dpo
from reports.cards import apart
from tests.true_shapes import planned_7b

ALL = ("training.joint=mix665k",)


def planned(*sets: str, methods: str = "sft,nsft", testbed: str = "mini", data: str = "llava150k") -> Plan:
    bed, asked, runtime = request(methods, data, "", testbed, 1, "pope", None, None, list(sets), 1)
    return plan(asked, bed, runtime, check(asked, bed))


def keys(made: Plan) -> dict[str, str]:
    return {step.title: step.key for step in made.steps}


def moved(after: Plan, before: Plan) -> set[str]:
    one, other = keys(before), keys(after)
    return {title for title in one if one[title] != other[title]} - {"report"}


def test_all_rows_learn_the_same_other_examples_beside_records_that_stay_what_they_were() -> None:
    before, after = planned(), planned(*ALL)
    assert keys(after).keys() - keys(before).keys() == {"data mix665k seed 0", "split mix665k seed 0"}
    later = {"generate", "score", "crosscheck", "probe", "lens"}
    assert {title.split()[0] for title in moved(after, before)} - later == {"train"}
    trained = [steps[-1].reads["joint"] for steps in after.trained.values()]
    assert trained[0] == trained[1] and Split.of(trained[0]).n == after.testbed.examples
    assert after.splits == before.splits  # what the methods consume is what it was


def test_one_row_may_learn_them_and_says_so() -> None:
    before, after = planned(), planned("nsft.joint={data: mix665k, examples: 7}")
    assert all(" nsft " in title for title in moved(after, before))
    [joint] = [stage for stage in after.trained["nsft", 0][-1].reads.values() if stage.kind == "split"]
    assert Split.of(joint).n == 7 and "joint" not in after.trained["sft", 0][-1].reads
    labels = {row.label: row.joint for row in after.rows.values()}
    said = "NOT THE METHOD ALONE: together with their records learnt Cont. SFT nothing else; nSFT mix665k"
    assert apart(labels) == [said]
    assert apart({"a": "mix665k", "b": "mix665k"}) == apart({"a": ""}) == apart({}) == []


@pytest.mark.parametrize("method", ["dpo", "seva", "sima", "csr", "ppo", "grpo", "kto"])
def test_a_row_without_the_loss_of_sft_is_refused_by_name(method: str) -> None:
    with pytest.raises(UsageError, match=rf"^{method} does not learn by token cross-entropy.*{method}\.joint=null"):
        planned(*ALL, methods=f"sft,{method}")
    assert planned(*ALL, f"{method}.joint=null", methods=f"sft,{method}").rows[method].joint == ""


def test_a_method_that_says_so_and_learns_otherwise_is_found() -> None:
    liar = type("Liar", (Dpo,), {"joins": True})()
    with pytest.raises(UsageError, match=r"Liar\.joins says that conversations are learnt as its records are"):
        list(check_method("Liar", liar, {}))
    assert [name for name in plugins.installed("methods") if plugins.plugin("methods", name, Method).joins] == [
        "nsft", "sft",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("sets", "data", "said"),
    [
        ("training.joint=mix66k", "llava150k", "no source in training.joint .mix66k.; did you mean .mix665k"),
        ("training.joint=./mine.json", "llava150k", "in the place of a source's official file"),
        ("training.joint=llava150k", "llava150k", "learnt twice"),
        ("training.joint=ocrvqa", "llava150k+ocrvqa", "learnt twice"),
        ("training.joint={data: mix665k, examples: 0}", "llava150k", "examples"),
        ("training.joint={data: mix665k, n: 3}", "llava150k", "n"),
        ("training.joint=7", "llava150k", "joint"),
    ],
)
def test_what_cannot_be_joined_is_a_sentence_before_any_work(sets: str, data: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        planned(sets, data=data)


def test_files_that_are_not_there_are_named_with_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    with pytest.raises(UsageError, match=r"source mix665k needs llava_v1_5_mix665k\.json"):
        planned(*ALL, testbed="llava-1.5-7b", methods="sft")


@pytest.fixture
def at_7b(monkeypatch: pytest.MonkeyPatch) -> None:
    model = planned_7b()
    monkeypatch.setattr(sizing, "_model", lambda *given: model)


def trainings(made: Plan) -> dict[str, Any]:
    steps = [step for step in made.steps if step.stage.kind == "train"]
    return {need.row: need for need in needs(made, steps, Runtime(), device_of("h100"))}


def test_the_plan_counts_their_work_and_prints_their_cost(
    at_7b: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four times the examples take five times the work, and memory does not change."""
    usual, more = planned(), planned("training.joint={data: mix665k, examples: 4000}")
    one, five = trainings(usual)["sft"], trainings(more)["sft"]
    assert five.flops == 5 * one.flops and five.seconds == pytest.approx(5 * one.seconds)
    assert five.memory == one.memory and one.joint == ""
    assert five.joint.startswith("training.joint adds 4,000 examples of mix665k to its 1,000 records:")
    assert f"{0.8 * five.flops / 1e15:,.0f} PFLOP" in five.joint and "at most 4.7 GB of features" in five.joint
    show_plan(more, Store(tmp_path), 1, device="h100")
    said = " ".join(capsys.readouterr().out.split())
    assert f"Cont. SFT: {five.joint}" in said and f"nSFT: {five.joint}" in said
    show_plan(more, Store(tmp_path), 1, as_json=True, device="h100")
    told = json.loads(capsys.readouterr().out)["estimate"]
    assert {one["row"] for one in told if "joint" in one} == {"sft", "nsft"}


def test_how_many_there_are_is_known_by_whoever_publishes_them(tmp_path: Path) -> None:
    made = planned(*ALL)
    official = replace(made, testbed=made.testbed.model_copy(update={"data": str(tmp_path)}))
    training = made.rows["sft"].training[0]
    assert amount(official, training) == 665_298 and amount(made, training) == made.testbed.examples
    assert added("mix665k", 665_298, 15_000, 12e18, 36_000, 785e9) == (
        "training.joint adds 665,298 examples of mix665k to its 15,000 records: 12,000 PFLOP, 10 h 0 min, and at most "
        "785 GB of features on disk, which all rows share"
    )
