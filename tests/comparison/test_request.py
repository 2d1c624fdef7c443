"""The command line's words become rows: names, options, training arguments, and what the testbed says."""

from pathlib import Path
from typing import Any

import pytest

from harness.comparison.compare import prepare, try_outside
from harness.comparison.preflight import check
from harness.comparison.request import request
from harness.comparison.worker import Worker
from harness.contracts import plugins
from harness.contracts.method import Lesson
from harness.contracts.row import Row
from harness.contracts.schedule import pending
from harness.contracts.settings import MethodSpec
from harness.contracts.testbed_file import read_testbed
from harness.store.store import Store
from harness.system.errors import UsageError
from harness.system.profile import quiet
from methods.grpo import Grpo

BED = read_testbed("mini")


def rows(methods: str, *sets: str) -> tuple[MethodSpec, ...]:
    return request(methods, "llava150k", "", "mini", 1, "gqa", None, None, list(sets), 1)[1].methods


def test_a_row_may_have_options_of_its_own() -> None:
    plain, control = rows("nsft,nsft:turns=random:learning_rate=1e-3")
    assert (plain.id, plain.options) == ("nsft", {})
    assert (control.id, control.stem) == ("nsft:turns=random:learning_rate=1e-3", "nsft")
    assert control.options == {"turns": "random"}
    assert control.training["learning_rate"] == 1e-3


def test_the_row_wins_over_set_and_set_over_the_testbed() -> None:
    bed = request("dpo", "llava150k", "", "mini", 1, "gqa", None, None, None, 1)[0]
    given = bed.methods["dpo"]["learning_rate"]
    first, second = rows("dpo,dpo:learning_rate=3", "dpo.learning_rate=2")
    assert rows("dpo")[0].training["learning_rate"] == given
    assert (first.training["learning_rate"], second.training["learning_rate"]) == (2, 3)


def test_a_testbed_may_set_options_beside_training_arguments() -> None:
    (ppo,) = rows("ppo")
    assert ppo.options["response_length"] == 160
    assert ppo.training["lora"]


def test_a_file_of_ones_own_goes_by_its_name_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As its page says: --set margin.learning_rate; and a table's rows do not depend on where it was made."""
    text = (Path(__file__).parents[1] / "outside" / "method" / "margin.py").read_text()
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "margin.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    there = rows("there/margin.py,there/margin.py:gamma=2", "margin.learning_rate=1e-5")
    monkeypatch.chdir(tmp_path / "there")
    here = rows("./margin.py,./margin.py:gamma=2", "./margin.py.learning_rate=1e-5")
    assert here == there
    assert [row.id for row in here] == ["margin", "margin:gamma=2"]
    assert [row.training["learning_rate"] for row in here] == [1e-5, 1e-5]
    monkeypatch.chdir("/")
    assert plugins.source("methods", here[0].name) == (tmp_path / "there" / "margin.py").resolve()


def test_a_backend_of_ones_own_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster's processes start elsewhere."""
    text = (Path(__file__).parents[1] / "outside" / "backend" / "naive.py").read_text()
    (tmp_path / "naive.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    bed = request("sft", "llava150k", "", "mini", 1, "gqa", None, None, ["generation.backend=./naive.py"], 1)[0]
    assert bed.generation.backend == str((tmp_path / "naive.py").resolve())


def test_a_method_is_not_named_as_a_part_of_the_comparison(tmp_path: Path) -> None:
    """--set training.x would mean either."""
    (tmp_path / "training.py").write_text("")
    with pytest.raises(UsageError, match=r"--methods training\.py: training is something else here; rename the file"):
        rows(str(tmp_path / "training.py"))


@pytest.mark.parametrize("methods", ["nsft:turns", "nsft:turns="])
def test_an_option_without_a_value_is_a_sentence(methods: str) -> None:
    with pytest.raises(UsageError, match=r"NAME\.FIELD=VALUE"):
        rows(methods)


@pytest.mark.parametrize(
    ("given", "said"),
    [("training.lora={r: 16, alfa: 1}", 'no training lora field "alfa"'), ("judging.run=2", 'did you mean "runs"')],
)
def test_a_field_nobody_has_is_named_also_inside_what_is_not_set(given: str, said: str) -> None:
    """The testbed has no adapters, so there is no `lora` whose fields could be listed."""
    with pytest.raises(UsageError, match=said):
        rows("sft", given)


def test_an_option_nobody_has_is_named_with_the_nearest() -> None:
    (spec,) = rows("nsft:turn=random")
    with pytest.raises(UsageError, match='did you mean "turns"'):
        Row.of(spec, BED)


def test_roles_that_are_adapters_need_adapters() -> None:
    with pytest.raises(UsageError, match="keeps its roles as adapters"):
        Row.of(MethodSpec(name="ppo"), BED)


def test_a_policy_can_go_on_in_full_where_its_loss_reads_no_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one that does, the base would have to be there beside the weights that learn."""
    assert BED.training.lora is None and Row.of(MethodSpec(name="grpo"), BED).lessons[1].continues
    monkeypatch.setattr(Grpo, "lesson", lambda self, number: Lesson(reference=True, continues=True))
    with pytest.raises(UsageError, match="grpo keeps its roles as adapters"):
        Row.of(MethodSpec(name="grpo"), BED)


@pytest.mark.parametrize(
    "value", ["{", "[1", "@home", "a: b: c", ".nan", "|", "*x", "&x", "!!python/name:os.system", "\t", "", ".inf"]
)
def test_what_yaml_takes_for_its_own_signs_is_text_or_a_sentence(value: str) -> None:
    try:
        (spec,) = rows(f"nsft:turns={value}")
        Row.of(spec, BED)
    except UsageError as error:
        assert "row" in str(error) or "turns" in str(error) or "NAME.FIELD" in str(error)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999", ".NaN"])
@pytest.mark.parametrize("field", ["dpo.beta", "training.learning_rate", "runtime.ask_timeout_s", "dpo.learning_rate"])
def test_a_number_that_is_none_is_refused_by_name(field: str, value: str) -> None:
    with pytest.raises(UsageError, match=field.rpartition(".")[2]):
        bed, wanted, _ = request("dpo", "llava150k", "", "mini", 1, "gqa", None, None, [f"{field}={value}"], 1)
        check(wanted, bed)


def test_a_benchmark_named_twice_is_a_sentence() -> None:
    bed, wanted, _ = request("dpo", "llava150k", "", "mini", 1, "pope,gqa,pope", None, None, None, 1)
    with pytest.raises(UsageError, match="pope is named 2 times"):
        check(wanted, bed)


def test_a_row_is_resolved_once_by_whoever_plans_and_once_by_a_worker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """However many checks, steps and stages ask for it: its method is made once in a process."""
    made, make = [], plugins.make

    def counted(package: str, name: str, *given: Any) -> Any:
        made.extend([name] * (package == "methods"))
        return make(package, name, *given)

    monkeypatch.setattr(plugins, "make", counted)
    bed, wanted, runtime = request("csr,dpo,dpo:beta=1", "llava150k", "", "mini", 2, "gqa", None, None, None, 1)
    store = Store(tmp_path)
    planned = prepare(wanted, bed, runtime, store)
    pending(planned.goals, store, planned.steps)
    try_outside(planned, planned.steps)
    assert made == ["csr", "dpo", "dpo"]
    worker = Worker(store, bed, wanted, runtime)
    for step in planned.steps:
        worker.work(step, tmp_path, quiet)
    assert made == ["csr", "dpo", "dpo"] * 2
    rows = {step.title: worker.work(step, tmp_path, quiet).row for step in planned.steps if step.row}
    assert all(row and row.lessons == planned.rows[row.id].lessons for row in rows.values())
    assert {row.id for row in rows.values() if row} == {"csr", "dpo", "dpo:beta=1"}
