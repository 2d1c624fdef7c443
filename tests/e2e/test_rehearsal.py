"""The documented command, rehearsed for every family: its shipped testbed, a folder in the official layouts, and a
writer and a judge over HTTP. Only sizes are small, and models say little (`tests.rehearsal`).
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import families
from tests.e2e.conftest import ROOT, Ran, harness
from tests.judging.fake import Server, serving
from tests.rehearsal import laid, replies, taught
from tests.small_models import FAMILIES

pytestmark = pytest.mark.heavy
SHIPPED = {  # testbed and model of a family; others take the first
    "llava": ("llava-1.5-7b", "llava-1.5-7b-hf"),
    "llava_next": ("llava-next-13b", "llava-v1.6-vicuna-13b-hf"),
    "qwen2_5_vl": ("qwen2.5-vl-7b", "Qwen2.5-VL-7B-Instruct"),
    "qwen3_vl": ("qwen3-vl-8b", "Qwen3-VL-8B-Instruct"),
    "internvl": ("internvl3.5-8b", "InternVL3_5-8B-HF"),
}
SEVEN = ("sft", "nsft", "dpo", "seva", "sima", "csr", "ppo")
SMALL = (
    "csr.iterations=2", "csr.beams=2", "csr.keep_worst=1", "csr.max_depth=2", "csr.sentence_tokens=12", "ppo.steps=2",
    "ppo.response_length=24",
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return laid(tmp_path_factory.mktemp("data"), ("pope", "chair", "mmhal", "textvqa"))


def moved_in(family: str, data: Path, home: Path) -> Path:
    """The folder again with a model of the family, and its testbed's file."""
    shutil.copytree(data, home)
    bed, model = SHIPPED.get(family, SHIPPED["llava"])
    taught(families.named(family), home / "models" / model, home)
    text = (ROOT / "harness" / "testbeds" / f"{bed}.yaml").read_text() + "crosscheck: false\n"
    outside = ROOT / "tests" / "outside" / "family" / f"{family}.py"
    text += f"family: {outside}\n" if outside.is_file() else ""
    (home / "bed.yaml").write_text(text.replace("response_tokens: 1024", "response_tokens: 24"))
    return home


@pytest.fixture(scope="module")
def asked() -> Iterator[Server]:
    """Writer and judge."""
    with serving(replies) as server:
        yield server


def compared(home: Path, out: Path, methods: tuple[str, ...], *more: str) -> Ran:
    """The command, and what must be in its folder: every row, and trainings that had something to learn."""
    sets = [word for setting in SMALL if setting.split(".")[0] in methods for word in ("--set", setting)]
    words = ["--methods", ",".join(methods), "--examples", "12", "--limit", "3", *sets, *more]
    places = ["--testbed", str(home / "bed.yaml"), "--store", str(out / "store"), "--out", str(out / "out")]
    ran = harness("compare", *places, *words, env={"HARNESS_DATA": str(home)})
    assert ran.status == 0, ran.stderr
    rows = {json.loads(line)["method"] for line in (out / "out" / "results.jsonl").read_text().splitlines()}
    assert rows == {"baseline", *methods}
    trained = [json.loads(file.read_text())["records"] for file in (out / "store").glob("train/*/summary.json")]
    assert len(trained) >= len(methods) and min(trained) > 0
    return ran


@pytest.mark.parametrize("family", FAMILIES)
def test_all_seven_methods_end_in_a_table(family: str, data: Path, asked: Server, tmp_path: Path) -> None:
    """With adapters, in bfloat16, as testbeds have it; InternVL's preferences in full."""
    home, before = moved_in(family, data, tmp_path / "home"), sum(asked.asked.values())
    compared(home, tmp_path, SEVEN, "--benchmarks", "pope")
    assert sum(asked.asked.values()) > before  # nSFT's turns, PPO's preferences


@pytest.mark.parametrize("family", FAMILIES)
def test_all_weights_learn_in_full_precision_too(family: str, data: Path, asked: Server, tmp_path: Path) -> None:
    """In float32, in every method but PPO, whose roles are adapters."""
    home = moved_in(family, data, tmp_path / "home")
    full = [f"{part}.lora=null" for part in ("training", *SEVEN) if part != "ppo"]
    words = [word for setting in ("training.dtype=float32", *full) for word in ("--set", setting)]
    compared(home, tmp_path, SEVEN, "--benchmarks", "pope", *words)
    kept = {len([*stage.rglob("checkpoint/*.safetensors")]) for stage in (tmp_path / "store").glob("train/*")}
    assert kept == {0, 1}  # whole policies, and PPO's adapters


def test_joined_sources_and_judged_benchmarks_in_full_precision(data: Path, asked: Server, tmp_path: Path) -> None:
    """The paper's mix of three sources, all weights, in float32."""
    home = moved_in("llava", data, tmp_path / "home")
    sets = ("training.dtype=float32", "training.lora=null", "dpo.lora=null")
    words = [word for setting in sets for word in ("--set", setting)]
    more = ("--benchmarks", "pope,chair,mmhal,textvqa", "--data", "ocrvqa+textcaps+llava150k")
    compared(home, tmp_path, ("sft", "dpo"), *words, *more)
    [lock] = tmp_path.glob("store/split/*/split.lock")
    drawn = {id.partition(":")[0] for id, _ in json.loads(lock.read_text())["examples"]}
    assert drawn == {"ocrvqa", "textcaps", "llava150k"}
    told = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert {row["value"] for row in told if row["metric"] == "mmhal/rating"} == {3.0}
