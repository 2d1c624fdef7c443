"""Our own comparison behind our own gate: the same again passes, a method that learns the wrong way round fails."""

import json
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.e2e.conftest import ROOT, Ran, harness

pytestmark = pytest.mark.heavy  # whole comparisons

SIZES = ["--benchmarks", "pope", "--examples", "48", "--limit", "60", "--set", "training.learning_rate=1e-3"]
POLICY = "margins: {pope: 1}\nrows: [baseline, mine]\nbudgets: {train: {seconds: 600}}\n"
MINE = '''
"""A method of one's own, which learns as GT-DPO does."""

from dataclasses import dataclass

from methods.dpo import Dpo


@dataclass(frozen=True)
class Mine(Dpo):
    label = "Mine"
    of_the_paper = False

    def loss(self, logps):
        return Dpo(beta=self.beta).loss(logps)
'''
FLIPPED = MINE.replace("beta=self", "beta=-self")  # prefers what it should reject


def compared(folder: Path, store: str, method: Path | None = None) -> Path:
    """A small comparison of one method; its run folder."""
    out = folder / f"{store}-{len(list(folder.iterdir()))}"
    bed = str(Path(__file__).with_name("small.yaml"))
    ran = harness(
        "compare", "--testbed", bed, "--methods", str(method or folder / "mine.py"), *SIZES,
        "--store", str(folder / store), "--out", str(out),
    )  # fmt: skip
    assert ran.status == 0, ran.stderr
    return out


@dataclass(frozen=True)
class Accepted:
    """What was accepted, and a place for more."""

    folder: Path
    run: Path
    file: Path

    def gate(self, run: Path, *more: str) -> Ran:
        """The command a CI server runs."""
        policy = self.folder / "gate.yaml"
        policy.write_text(POLICY)
        return harness("gate", str(run), "--baseline", str(self.file), "--policy", str(policy), *more)


@pytest.fixture(scope="module")
def accepted(tmp_path_factory: pytest.TempPathFactory) -> Accepted:
    """A method, compared and accepted."""
    folder = tmp_path_factory.mktemp("gate")
    (folder / "mine.py").write_text(MINE)
    run = compared(folder, "store")
    said = harness("gate", str(run), "--accept", str(folder / "accepted.zip"))
    assert said.status == 0 and "Mine on pope accepted" in said.stdout, said.stderr
    return Accepted(folder, run, folder / "accepted.zip")


def test_the_same_comparison_run_again_elsewhere_passes(accepted: Accepted) -> None:
    ran = accepted.gate(compared(accepted.folder, "another-store"))
    assert ran.status == 0, ran.stdout
    assert "harness gate: passed (3 passed)" in ran.stdout
    assert ran.stdout.count("+0.0 [+0.0, +0.0]") == 2


def test_a_flipped_sign_fails_the_gate_and_says_where(accepted: Accepted, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FLIPPED)
    xml, markdown = tmp_path / "junit.xml", tmp_path / "summary.md"
    run = compared(accepted.folder, "store", tmp_path / "mine.py")
    ran = accepted.gate(run, "--junit", str(xml), "--markdown", str(markdown))
    assert ran.status == 1, ran.stdout
    assert "1 regressed, 2 passed" in ran.stdout
    assert "policy (Mine, seed 0): build.code, code" in ran.stdout
    assert markdown.read_text() in ran.stdout
    (failed,) = ElementTree.parse(xml).getroot().findall(".//testcase[failure]")
    assert (failed.get("classname"), failed.get("name")) == ("Mine", "pope/f1_macro3")


def test_a_bundle_of_the_run_prints_the_runs_own_tables(accepted: Accepted, tmp_path: Path) -> None:
    file = tmp_path / "bundle.zip"
    assert harness("report", str(accepted.run), "--bundle", str(file)).status == 0
    ran = harness("report", str(file), "--out", str(tmp_path / "out"))
    assert ran.status == 0, ran.stderr
    for name in ("table.csv", "table.md", "table.tex", "table.txt", "results.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (accepted.run / name).read_bytes(), name


def test_the_manifest_says_what_made_the_run(accepted: Accepted) -> None:
    manifest = json.loads((accepted.run / "manifest.json").read_text())
    assert manifest["finished"] is True
    assert manifest["command"][:2] == ["harness", "compare"]
    assert (manifest["testbed"], manifest["protocol"], manifest["seeds"]) == ("mini-small", "llava", [0])
    assert {"torch", "transformers"} <= manifest["packages"].keys()
    assert [len(digest) for digest in manifest["split_lock"].values()] == [64]
    assert [len(digest) for digest in manifest["models"].values()] == [64]
    if (ROOT / ".git").exists():
        assert len(manifest["source"]["commit"]) == 40


def test_an_interrupted_run_is_reported_as_far_as_it_came(accepted: Accepted, tmp_path: Path) -> None:
    bed = str(Path(__file__).with_name("small.yaml"))
    arguments = [
        "--testbed",
        bed,
        "--methods",
        str(accepted.folder / "mine.py"),
        *SIZES,
        "--store",
        str(tmp_path / "store"),
    ]
    env = {"HARNESS_FAILPOINT": "store.committed:4"}
    assert harness("compare", *arguments, "--out", str(tmp_path / "out"), "--workers", "1", env=env).status == 137
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["finished"] is False
    ran = accepted.gate(tmp_path / "out")
    assert ran.status == 3, ran.stdout + ran.stderr
    assert harness("gate", str(tmp_path / "out"), "--accept", str(tmp_path / "a.zip")).status == 3
