"""All seven methods in one comparison, small, with a row of other options and the lens."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from harness.contracts.backend import Adapted, Model
from harness.contracts.images import Places, resolved
from harness.contracts.records import Record
from harness.contracts.settings import Runtime
from harness.models.load import load
from harness.models.reference import reference_logps
from harness.stages._model import left_by
from harness.store.store import Store
from harness.system.jsonl import read_jsonl
from tests.e2e.conftest import ROOT, SMALL_BED, Done, Ran, harness

pytestmark = pytest.mark.heavy  # whole comparisons

ADAPTERS = "learning_rate: 3.0e-3, lora: {r: 4, lora_alpha: 8}"  # so that rounds add to rounds
BASE = ROOT / "harness/mini/bases/0"
METHODS = ("sft", "nsft", "nsft:turns=random:layout=separate", "dpo", "seva", "sima:order=swap", "csr", "ppo")


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("seven")
    bed = folder / "seven.yaml"
    text = SMALL_BED.read_text().replace("../../", f"{ROOT}/").replace("csr: {", f"csr: {{{ADAPTERS}, ")
    bed.write_text(text + "lens: 12\ncrosscheck: false\n")
    places = ["--store", str(folder / "store"), "--out", str(folder / "out")]
    sizes = ["--examples", "12", "--limit", "4", "--benchmarks", "pope"]
    ran = harness("compare", "--testbed", str(bed), "--methods", ",".join(METHODS), *sizes, *places, timeout=600)
    assert ran.status == 0, ran.stderr
    return Done(folder / "store", folder / "out", Ran(0, ran.stdout, ran.stderr))


def test_every_method_has_its_row(seven: Done) -> None:
    rows = {json.loads(line)["method"] for line in (seven.out / "results.jsonl").read_text().splitlines()}
    assert rows == {"baseline", *METHODS}


def test_every_first_round_consumed_the_whole_lock_and_ppo_s_later_ones_share_it(seven: Done) -> None:
    (lock,) = seven.store.glob("split/*/split.lock")
    locked = sorted(id for id, _ in json.loads(lock.read_text())["examples"])
    consumed: dict[str, list[list[str]]] = {}
    for build in seven.store.glob("build/*"):
        what = json.loads((build / "manifest.json").read_text())["identity"]
        lines = (build / "records.jsonl").read_text() + (build / "dropped.jsonl").read_text()
        ids = sorted(json.loads(line)["id"] for line in lines.splitlines())
        consumed.setdefault(f"{what['method']} {what['round'] > 0}", []).append(ids)
    shares = consumed.pop("ppo True")
    assert sorted(id for share in shares for id in share) == locked
    assert all(ids == locked for each in consumed.values() for ids in each)


def test_csr_s_second_round_starts_from_the_first_and_ppo_s_rounds_from_the_base(seven: Done) -> None:
    reads = {}
    for train in seven.store.glob("train/*"):
        manifest = json.loads((train / "manifest.json").read_text())
        reads[manifest["identity"]["method"], manifest["identity"]["round"]] = set(manifest["inputs"])
    assert reads["csr", 1] == {"build", "policy"}
    assert reads["ppo", 1] == {"build", "reward"}
    assert reads["ppo", 2] == {"build", "reward", "policy", "critic"}


def test_the_lens_and_the_fairness_card_know_every_method(seven: Done) -> None:
    lenses = [json.loads((stage / "profile.json").read_text()) for stage in seven.store.glob("lens/*")]
    assert len(lenses) == len(METHODS)
    assert all({"before/chosen", "after/rejected", "log_t2_t1"} <= found.keys() for found in lenses)
    page = (seven.out / "report.html").read_text()
    assert "every method consumed the same examples: seed 0: 12 of" in page and "NOT COMPARABLE" not in page
    for label in ("Cont. SFT", "nSFT", "GT-DPO", "SeVa", "CSR", "PPO", "sima:order=swap"):
        assert label in page


def test_the_card_counts_what_every_method_took(seven: Done) -> None:
    """No dash where a method trained; writer calls where there is a writer, more passes where there are more models."""
    lines = (seven.out / "cards.md").read_text().split("**Profile**")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    heads, _, _, *rows = cells
    card = {row[0]: dict(zip(heads, row, strict=True)) for row in rows}
    assert len(card) == len(METHODS)
    figures = [{name: float(row[name].replace(",", "")) for name in heads[1:]} for row in card.values()]
    assert all(row["examples"] == 12 and row["judge calls"] == 0 for row in figures)
    counted = ("records", "supervised tokens", "optimiser steps", "forward tokens", "trainable parameters")
    assert all(row[name] > 0 for row in figures for name in counted)
    by_label = dict(zip(card, figures, strict=True))
    assert {label for label, row in by_label.items() if row["writer calls"]} >= {"nSFT", "PPO"}
    assert by_label["Cont. SFT"]["tokens generated"] == 0
    assert by_label["CSR"]["tokens generated"] > by_label["GT-DPO"]["tokens generated"] > 0
    assert by_label["PPO"]["trainable parameters"] < by_label["Cont. SFT"]["trainable parameters"]


def test_every_method_s_training_is_drawn(seven: Done) -> None:
    drawn = (seven.out / "curves.svg").read_text()
    assert (seven.out / "curves.png").stat().st_size > 10_000
    for label in ("Cont. SFT", "nSFT", "GT-DPO", "SeVa", "CSR", "PPO", "sima:order=swap"):
        assert f">{label}<" in drawn


def test_csr_s_second_reference_is_the_first_round_s_policy(seven: Done, tmp_path: Path) -> None:
    """Its log-probs are those of the model that round 1 trained, and not the base's."""
    stages = {
        file.parent: json.loads(file.read_text())["inputs"] for file in seven.store.glob("reference/*/manifest.json")
    }
    [(folder, reads)] = [(folder, reads) for folder, reads in stages.items() if "policy" in reads]
    stored_records = read_jsonl(Record, seven.store / reads["build"] / "records.jsonl")
    records = [resolved(record, Places(seven.store)) for record in stored_records]
    stored = load_file(folder / "logps.safetensors")["policy"]

    def by(model: Model) -> Tensor:
        reference_logps(model, records, Runtime(), tmp_path / "logps")
        return load_file(tmp_path / "logps")["policy"]

    assert torch.equal(by(Adapted(BASE, left_by(Store(seven.store), reads["policy"])[1])), stored)
    assert not torch.allclose(by(BASE), stored, atol=1e-3)


def test_rounds_of_adapters_leave_no_second_model_and_export_one(seven: Done, tmp_path: Path) -> None:
    """CSR's second round is the base and two adapters; PPO's last is the base and one, which went on from the first."""
    manifests = {file.parent: json.loads(file.read_text()) for file in seven.store.glob("train/*/manifest.json")}
    last = {(told["identity"]["method"], told["identity"]["round"]): folder for folder, told in manifests.items()}
    large = (BASE / "model.safetensors").stat().st_size / 3
    for folder in (last["csr", 0], last["csr", 1], last["ppo", 1], last["ppo", 2]):
        assert max(file.stat().st_size for file in folder.rglob("*")) < large
    whole, adapters = left_by(Store(seven.store), f"train/{last['csr', 1].name}")
    assert (whole, adapters) == (None, (last["csr", 0] / "adapter", last["csr", 1] / "adapter"))
    assert left_by(Store(seven.store), f"train/{last['ppo', 2].name}")[1] == (last["ppo", 2] / "adapters" / "policy",)
    ran = harness("export", str(seven.out), "--checkpoint", "csr", "--out", str(tmp_path / "csr"))
    assert ran.status == 0, ran.stderr
    found, expected = load(tmp_path / "csr"), load(Adapted(BASE, adapters))
    pairs = zip(found.model.state_dict().values(), expected.model.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
