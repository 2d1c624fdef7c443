"""All seven methods are planned for every real base by its testbed alone: no method knows which model it trains."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import harness
import harness.mini
from harness import families
from harness.commands.testbed_check import examine
from harness.comparison.devices import device_of
from harness.comparison.needs import by_row
from harness.comparison.plan import plan
from harness.comparison.preflight import check
from harness.comparison.request import request
from harness.comparison.sizing import needs
from harness.contracts.settings import Runtime, Testbed
from harness.contracts.steps import ALL_BENCHMARKS, Plan, Step
from harness.contracts.testbed_file import read_testbed
from harness.models.folder import fetch, inspect
from harness.models.load import revision
from harness.stages.build import Build
from harness.stages.split import Split
from harness.stages.train import Train
from harness.system.errors import UsageError
from tests.small_models import made

METHODS = ("sft", "nsft", "dpo", "seva", "sima", "csr", "ppo")
FAMILY = {
    "llava-1.5-7b": "llava",
    "llava-1.5-13b": "llava",
    "llava-next-13b": "llava_next",
    "qwen2.5-vl-7b": "qwen2_5_vl",
    "qwen3-vl-8b": "qwen3_vl",
    "internvl3.5-8b": "internvl",
}


def said(name: str) -> dict[str, Any]:
    """What a testbed's file says."""
    told: dict[str, Any] = yaml.safe_load((Path(harness.__file__).parent / "testbeds" / f"{name}.yaml").read_text())
    return told


@pytest.mark.parametrize("name", FAMILY)
def test_what_is_missing_is_fetched_from_whoever_has_it(name: str) -> None:
    [model] = (Path(model) for model in said(name)["models"])
    owner, _, _ = families.named(FAMILY[name]).example.partition("/")
    assert fetch(model) == f"hf download {owner}/{model.name} --local-dir {model}"


def test_no_testbed_is_left_out() -> None:
    files = {file.stem for file in (Path(harness.__file__).parent / "testbeds").glob("*.yaml")}
    assert files - {"mini"} == set(FAMILY)


@pytest.fixture(scope="module", params=FAMILY)
def bed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    """The folders that a testbed names: a small model of its family, a stub for data; a plan reads no pictures."""
    root = tmp_path_factory.mktemp("data")
    [model] = (Path(model).name for model in said(request.param)["models"])
    made(families.named(FAMILY[request.param]), root / "models" / model)
    shutil.copytree(Path(harness.mini.__file__).parent / "clip", root / "models" / "clip-vit-large-patch14-336")
    for name in (*(f"benchmarks/{name}" for name in ALL_BENCHMARKS), "sources/llava150k"):
        (root / name).mkdir(parents=True)
        (root / name / f"{Path(name).name}.json").write_text("[]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_DATA", str(root))
        patch.setenv("OPENAI_API_KEY", "none")
        yield read_testbed(request.param)


def steps(planned: Plan, method: str, kind: str) -> list[Step]:
    return [step for step in planned.trained[method, 0] if step.stage.kind == kind]


def planned(name: str, *words: str) -> Plan:
    """The plan of a command line."""
    bed, asked, _ = request(",".join(METHODS), "llava150k", "", name, 1, "", None, None, [*words], 1)
    check(asked, bed)
    return plan(asked, bed)


@pytest.fixture(scope="module")
def whole(bed: Testbed) -> Plan:
    """The plan without a further word."""
    return planned(bed.name)


def test_every_method_builds_and_trains_from_one_split_of_ten_thousand(bed: Testbed, whole: Plan) -> None:
    [split] = whole.splits
    assert Split.of(split).n == 10_000
    for method in METHODS:
        builds, trains = steps(whole, method, "build"), steps(whole, method, "train")
        assert len(builds) == len(trains) == {"csr": 3, "ppo": 9}.get(method, 1)
        assert {step.reads["split"].key for step in builds} == {split.key}
        assert {Train.of(step).model for step in trains} == {revision(bed.models[0])}
    assert len(whole.cells) == (1 + len(METHODS)) * len(ALL_BENCHMARKS)


def test_a_plan_says_what_every_stage_takes(whole: Plan) -> None:
    found = by_row([*needs(whole, whole.steps, Runtime(), device_of("h100"))])
    trains = {need.row: need for need in found if need.kind == "train"}
    assert trains.keys() == set(METHODS) and all(need.flops > 0 and need.seconds > 0 for need in trains.values())
    asking = {need.row for need in found if need.kind in ("build", "respond") and need.flops > 0}
    assert asking == set(METHODS) - {"sft"}


def test_the_doctor_names_the_family_and_a_picture_s_places(bed: Testbed) -> None:
    _, asked, _ = request("", "llava150k", "", bed.name, 1, "", None, None, None, 1)
    found = next(examine(bed, asked))
    fewest, most = inspect(Path(bed.models[0])).places
    taken = f"{most}" if fewest == most else f"{fewest} to {most}"
    assert found.good and found.said.startswith(
        f"{families.named(FAMILY[bed.name]).title}, whole by its headers; an image takes {taken} places"
    )


@pytest.mark.parametrize("method", METHODS)
def test_the_testbed_s_training_arguments_reach_every_step(bed: Testbed, whole: Plan, method: str) -> None:
    """The method's own there, else the common ones; what a round sets itself (PPO's, a rate and passes) goes first."""
    told = said(bed.name)
    common = {"num_train_epochs": 1} | told["training"] | told["methods"].get(method, {})
    for step in steps(whole, method, "train"):
        train = Train.of(step)
        got, lesson = train.training.model_dump(), whole.rows[step.row].lessons[train.round]
        wanted = common | dict(lesson.training)
        lora = wanted.pop("lora")
        assert (got["lora"] is None) if lora is None else set(lora) <= set(got["lora"])
        assert all(list(got["lora"][name]) == list(one) if isinstance(one, list) else got["lora"][name] == one
                   for name, one in (lora or {}).items())  # fmt: skip
        assert {name: got[name] for name in wanted} == wanted


def test_a_preference_s_reference_is_cached_and_csr_s_moves_each_round(whole: Plan) -> None:
    assert {method for method in METHODS if steps(whole, method, "reference")} == {"dpo", "seva", "sima", "csr"}
    trains = steps(whole, "csr", "train")
    for kind in ("build", "reference", "train"):
        first, *later = steps(whole, "csr", kind)
        assert "policy" not in first.reads
        assert [step.reads["policy"].key for step in later] == [step.key for step in trains[:-1]]


def test_ppo_s_roles_go_on_from_round_to_round(whole: Plan) -> None:
    reward, first, *later = steps(whole, "ppo", "train")
    asked = [set(step.reads) - {"split"} for step in steps(whole, "ppo", "build")]
    assert asked == [{"responded"}, {"reward"}, *[{"reward", "policy", "critic"}] * 7]
    assert set(first.reads) == {"build", "reward"}
    assert all(set(step.reads) == {"build", "reward", "policy", "critic"} for step in later)
    assert {step.reads["reward"].key for step in (first, *later)} == {reward.key}


def test_csr_knows_its_clip_and_writers_are_known_where_they_write(bed: Testbed, whole: Plan) -> None:
    assert {Build.of(step).clip for step in steps(whole, "csr", "build")} == {revision(bed.clip)}
    wrote = {method for method in METHODS for step in steps(whole, method, "build") if Build.of(step).writer}
    assert wrote == {"nsft", "ppo"}


def test_without_adapters_ppo_is_refused_with_the_cure(bed: Testbed) -> None:
    with pytest.raises(UsageError, match="keeps its roles as adapters"):
        planned(bed.name, "training.lora=null", "ppo.lora=null")
