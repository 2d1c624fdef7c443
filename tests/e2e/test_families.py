"""Methods on a small model of every family, by the command; of one also with adapters, in bfloat16.

SIMA and CSR are left out: their records are made of what a model says of pictures, and these know nothing. Both train
as GT-DPO does here, and draw their candidates as the suite of backends has them.
"""

import json
from pathlib import Path

import pytest

from harness import families
from tests.e2e.conftest import ROOT, SMALL_BED, harness
from tests.small_models import FAMILIES, made

pytestmark = pytest.mark.heavy
METHODS = ("sft", "nsft", "dpo", "seva", "ppo")
OUTSIDE = ROOT / "tests" / "outside" / "family"


@pytest.fixture(scope="module", params=FAMILIES)
def bed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small testbed with a model that knows nothing; a world of few, since what it says is noise."""
    home = tmp_path_factory.mktemp(request.param)
    made(families.named(request.param), home / "model")
    text = SMALL_BED.read_text().replace("../../harness/mini/bases/0", str(home / "model"))
    text = text.replace("../../", f"{ROOT}/").replace("160", "24") + "crosscheck: false\n"
    if (OUTSIDE / f"{request.param}.py").is_file():
        text += f"family: {OUTSIDE / request.param}.py\n"
    (home / "bed.yaml").write_text(text)
    return home / "bed.yaml"


@pytest.mark.parametrize("settings", [(), ("training.lora={r: 4}", "training.dtype=bfloat16")], ids=["full", "half"])
def test_methods_end_in_a_table(bed: Path, tmp_path: Path, settings: tuple[str, ...]) -> None:
    if settings and "qwen3_vl" not in bed.parent.name:
        pytest.skip("one family is enough: what differs between them is tried in either dtype by their suite")
    words = [word for setting in settings for word in ("--set", setting)]
    sizes = ["--examples", "6", "--limit", "2", "--benchmarks", "pope", "--no-page"]
    places = ["--store", str(tmp_path / "store"), "--out", str(tmp_path / "out")]
    ran = harness("compare", "--testbed", str(bed), "--methods", ",".join(METHODS), *sizes, *places, *words)
    assert ran.status == 0, ran.stderr
    rows = {json.loads(line)["method"] for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()}
    assert rows == {"baseline", *METHODS}
    trained = {json.loads(file.read_text())["records"] for file in (tmp_path / "store").glob("train/*/summary.json")}
    assert min(trained) > 0
