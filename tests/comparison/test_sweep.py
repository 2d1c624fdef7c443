"""How a sweep chooses: gains by hand, the same rule for every method, and one small sweep as a user runs it."""

import json
import math
from pathlib import Path

import pytest
import yaml

from harness.comparison.progress import Silent
from harness.comparison.sweep import FIRST_SEED, best, choose, gain
from harness.contracts.settings import MethodSpec, Runtime
from harness.contracts.steps import Request
from harness.contracts.testbed_file import read_testbed
from harness.sources._chosen import source
from harness.store.store import Store
from harness.system.errors import HarnessError
from reports.totals import RULE

NAMES = [name for names in RULE.values() for name in names]
SMALL = Path(__file__).parents[1] / "e2e" / "small.yaml"


def test_a_gain_is_over_the_baseline_of_its_own_seed() -> None:
    """GQA goes up by 4 and by 2; POPE down by 1 in one seed of two."""
    value = {(row, seed, name): 50.0 + 10 * seed for row in ("baseline", "sft@1") for seed in (0, 1) for name in NAMES}
    value["sft@1", 0, "gqa"] += 4
    value["sft@1", 1, "gqa"] += 2
    value["sft@1", 1, "pope"] -= 1
    assert sorted(gain(value, "sft@1").values()) == [-0.5, 0.0, 3.0]


def test_the_largest_sum_of_totals_wins_and_of_equal_ones_the_first() -> None:
    gains = {1e-5: {"vqa": 1.0, "hal": 0.0}, 3e-5: {"vqa": 4.0, "hal": -2.0}, 1e-4: {"vqa": 0.1 + 0.2, "hal": 1.7}}
    assert best(gains) == [3e-5, 1e-4]  # 0.1 + 0.2 is more than 0.3


def test_a_rate_without_a_value_is_never_chosen() -> None:
    assert best({1e-5: {"vqa": math.nan}, 1e-4: {"vqa": -1.0}}) == [1e-4]
    with pytest.raises(HarnessError, match="no rate can be chosen"):
        best({1e-5: {"vqa": math.nan}})


@pytest.mark.heavy
def test_a_sweep_trains_every_rate_on_the_tuning_split_and_names_one_per_method(tmp_path: Path) -> None:
    bed, store = read_testbed(str(SMALL)), Store(tmp_path)
    request = Request((MethodSpec(name="sft"),), source("llava150k"), examples=4, limit=4, benchmarks=tuple(NAMES))
    chosen = choose(request, bed.model_copy(update={"crosscheck": False}), Runtime(), store, (1e-5, 1e-3), Silent())
    told = yaml.safe_load(chosen.text)
    assert told == {"methods": {"sft": {"learning_rate": chosen.rates["sft"]}}}
    assert "(synthetic)" in chosen.text and chosen.text.count("<- chosen") == 1
    assert len(list(tmp_path.glob("train/*"))) == 2
    data = [json.loads(file.read_text())["identity"] for file in tmp_path.glob("data/*/manifest.json")]
    assert {(what["split"], what["seed"]) for what in data if "source" in what} == {("tuning", FIRST_SEED)}
    assert {what["split"] for what in data if "benchmark" in what} == {"tuning-benchmark"}
