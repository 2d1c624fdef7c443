"""`harness plan --simulate`: how long, how busy, what is waited for; a chain is not shortened by more GPUs."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.commands.plan_text import show_plan
from harness.commands.simulating import numbers, outcomes
from harness.comparison import sizing
from harness.comparison.costs import Cost, costs_of
from harness.comparison.devices import DEVICES
from harness.comparison.plan import plan
from harness.comparison.simulation import simulated
from harness.contracts.settings import Runtime
from harness.contracts.steps import Step
from harness.store.store import Store
from harness.system.errors import UsageError
from tests.commands.conftest import Said
from tests.commands.test_plan_text import WANTED, finish, of_kind
from tests.scale import bed, sized
from tests.toy_steps import step

Shown = Callable[..., str]


def four() -> tuple[list[Step], dict[str, Cost]]:
    """Four trainings of an hour, the last after the first; and a judge who is asked for three."""
    trains = [step(f"train {name}", gpus=1) for name in "abc"]
    trains.append(step("train d", trains[0], gpus=1))
    judged = step("score", asks="a judge")
    cost = {one.key: Cost(3600.0, "estimated", written=10**9) for one in trains}
    return [*trains, judged], cost | {judged.key: Cost(3 * 3600.0, "estimated", replies=180)}


def test_more_gpus_shorten_it_to_its_longest_chain() -> None:
    steps, cost = four()
    found, free = outcomes(steps, cost, (1, 2, 64), workers=2)
    assert [one.seconds / 3600 for one in found] == [4, 3, 3]
    assert [one.waits_for for one in found] == ["GPUs", "its longest chain", "its longest chain"]
    assert [one.busy for one in found] == [1.0, 2 / 3, 4 / 3 / 64]
    assert [round(one.replies_a_minute, 6) for one in found] == [0.75, 1, 1]
    assert found[0].bytes_a_second == 4e9 / (4 * 3600)
    assert [one.title for one in free.chain] == ["score"] and free.seconds == 3 * 3600


def test_without_gpus_it_is_of_this_machine_s_workers() -> None:
    (here,), _ = outcomes(*four(), (), workers=2)
    assert here.gpus == 0 and here.seconds == 5 * 3600 and here.busy == 0.7


def test_a_chain_is_what_each_waited_for_last() -> None:
    a, b = step("a"), step("b")
    steps = [a, b, step("c", a, b), step("d", after=[b])]
    took = {"a": 1.0, "b": 2.0, "c": 1.0, "d": 5.0}
    free = simulated(steps, lambda one: took[one.title], {})
    assert [one.title for one in free.chain] == ["b", "d"] and free.seconds == 7


@pytest.mark.parametrize("said", ["0", "-1", "eight", "8,,1", "1.5", "1e3", "999999999", " ", "٣٣٣٣٣٣٣"])
def test_numbers_of_gpus_that_are_none_are_a_sentence(said: str) -> None:
    with pytest.raises(UsageError, match=r"e\.g\. --gpus 1,8,64"):
        numbers(said)


def test_gpus_without_a_simulation_say_what_they_are_for(harness: Said) -> None:
    with pytest.raises(UsageError, match="--simulate --gpus 64"):
        harness("plan", "--gpus", "64")


@pytest.fixture
def shown(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shown:
    monkeypatch.setenv("COLUMNS", "80")

    def show(**how: object) -> str:
        show_plan(WANTED, Store(tmp_path), 2, **how)  # type: ignore[arg-type]
        return capsys.readouterr().out

    return show


def test_it_is_shown_and_says_where_its_figures_are_from(shown: Shown, tmp_path: Path) -> None:
    assert "known; run a comparison on this store, or name a --device" in " ".join(shown(gpus=[]).split())
    finish(Store(tmp_path), of_kind("generate", row="baseline")[0], 30)
    said = shown(gpus=[])
    assert "2 workers" in said and "longest chain: 30 s" in said
    assert "stages' times are of such stages in this store, 0 by formula" in " ".join(said.split())
    assert max(map(len, said[said.index("longest chain") :].splitlines())) <= 80
    told = json.loads(shown(gpus=[], as_json=True))
    assert told["simulated"][0]["seconds"] >= 30 and told["longest_chain"]["stages"]
    assert "simulated" not in json.loads(shown(as_json=True))


def test_on_a_device_times_are_by_formula_and_replies_take_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the true size of a model."""
    monkeypatch.setattr(sizing, "_model", lambda *given: sized())
    planned = plan(WANTED.request, bed())
    h100, store = DEVICES["h100"], Store(tmp_path)
    cost = costs_of(planned, planned.steps, store, Runtime(), h100, measured=False)
    kinds = {step.stage.kind: cost[step.key].known for step in planned.steps}
    assert kinds["train"] == kinds["generate"] == kinds["build"] == "estimated" and kinds["report"] == ""
    lens = next(step for step in planned.steps if step.stage.kind == "lens")
    slower = costs_of(planned, planned.steps, store, Runtime(ask_concurrency=1), h100, measured=False)
    asked = cost[lens.key].replies
    assert asked == 2 * bed().lens
    assert slower[lens.key].seconds - cost[lens.key].seconds == pytest.approx(asked * 5 * 7 / 8)
    builds = [cost[step.key].written for step in planned.steps if step.stage.kind == "build"]
    assert sorted(map(bool, builds)) == [False, True]  # a split's features lie there once
