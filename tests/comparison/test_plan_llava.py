"""All seven methods are planned for a real LLaVA by its testbed alone: no method knows which model it trains."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import harness
import harness.mini
from harness.comparison.plan import plan
from harness.comparison.preflight import check
from harness.comparison.request import request
from harness.contracts.settings import Testbed
from harness.contracts.steps import ALL_BENCHMARKS, Plan, Step
from harness.contracts.testbed_file import read_testbed
from harness.models.load import revision
from harness.stages.build import Build
from harness.stages.split import Split
from harness.stages.train import Train
from harness.system.errors import UsageError

METHODS = ("sft", "nsft", "dpo", "seva", "sima", "csr", "ppo")
SAID = yaml.safe_load((Path(harness.__file__).parent / "testbeds" / "llava-1.5-7b.yaml").read_text())


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    """The folders that the testbed names: mini's models, and a stub for data; a plan reads headers and no pictures."""
    root = tmp_path_factory.mktemp("data")
    for model, mine in (("llava-1.5-7b-hf", "bases/0"), ("clip-vit-large-patch14-336", "clip")):
        shutil.copytree(Path(harness.mini.__file__).parent / mine, root / "models" / model)
    for name in (*(f"benchmarks/{name}" for name in ALL_BENCHMARKS), "sources/llava150k"):
        (root / name).mkdir(parents=True)
        (root / name / f"{Path(name).name}.json").write_text("[]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_DATA", str(root))
        patch.setenv("OPENAI_API_KEY", "none")
        yield read_testbed("llava-1.5-7b")


def steps(planned: Plan, method: str, kind: str) -> list[Step]:
    return [step for step in planned.trained[method, 0] if step.stage.kind == kind]


def planned(*words: str) -> Plan:
    """The plan of a command line."""
    bed, asked, _ = request(",".join(METHODS), "llava150k", "", "llava-1.5-7b", 1, "", None, None, [*words], 1)
    check(asked, bed)
    return plan(asked, bed)


@pytest.fixture(scope="module")
def made(bed: Testbed) -> Plan:
    """The plan without a further word."""
    return planned()


def test_every_method_builds_and_trains_from_one_split_of_ten_thousand(bed: Testbed, made: Plan) -> None:
    [split] = made.splits
    assert Split.of(split).n == 10_000
    for method in METHODS:
        builds, trains = steps(made, method, "build"), steps(made, method, "train")
        assert len(builds) == len(trains) == {"csr": 3, "ppo": 9}.get(method, 1)
        assert {step.reads["split"].key for step in builds} == {split.key}
        assert {Train.of(step).model for step in trains} == {revision(bed.models[0])}
    assert len(made.cells) == (1 + len(METHODS)) * len(ALL_BENCHMARKS)


@pytest.mark.parametrize("method", METHODS)
def test_the_testbed_s_training_arguments_reach_every_step(made: Plan, method: str) -> None:
    """The method's own there, else the common ones; what a round sets itself (PPO's, a rate and passes) goes first."""
    said = {"num_train_epochs": 1} | SAID["training"] | SAID["methods"].get(method, {})
    for step in steps(made, method, "train"):
        train = Train.of(step)
        got, lesson = train.training.model_dump(), made.rows[step.row].lessons[train.round]
        wanted = said | dict(lesson.training)
        assert got["lora"].items() >= wanted.pop("lora").items()
        assert {name: got[name] for name in wanted} == wanted


def test_a_preference_s_reference_is_cached_and_csr_s_moves_each_round(made: Plan) -> None:
    assert {method for method in METHODS if steps(made, method, "reference")} == {"dpo", "seva", "sima", "csr"}
    trains = steps(made, "csr", "train")
    for kind in ("build", "reference", "train"):
        first, *later = steps(made, "csr", kind)
        assert "policy" not in first.reads
        assert [step.reads["policy"].key for step in later] == [step.key for step in trains[:-1]]


def test_ppo_s_roles_go_on_from_round_to_round(made: Plan) -> None:
    reward, first, *later = steps(made, "ppo", "train")
    asked = [set(step.reads) - {"split"} for step in steps(made, "ppo", "build")]
    assert asked == [set(), {"reward"}, *[{"reward", "policy", "critic"}] * 7]
    assert set(first.reads) == {"build", "reward"}
    assert all(set(step.reads) == {"build", "reward", "policy", "critic"} for step in later)
    assert {step.reads["reward"].key for step in (first, *later)} == {reward.key}


def test_csr_knows_its_clip_and_writers_are_known_where_they_write(bed: Testbed, made: Plan) -> None:
    assert {Build.of(step).clip for step in steps(made, "csr", "build")} == {revision(bed.clip)}
    wrote = {method for method in METHODS for step in steps(made, method, "build") if Build.of(step).writer}
    assert wrote == {"nsft", "ppo"}


def test_without_adapters_ppo_is_refused_with_the_cure(bed: Testbed) -> None:
    with pytest.raises(UsageError, match="keeps its roles as adapters"):
        planned("training.lora=null", "ppo.lora=null")
