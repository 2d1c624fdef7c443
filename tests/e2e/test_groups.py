"""GRPO in full: every round goes on from the weights of the one before, and its divergence is from the base."""

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, SMALL_BED, harness

OBJECTS = ROOT / "harness/mini/objects.txt"


@pytest.mark.heavy
def test_a_round_goes_on_from_the_one_before(tmp_path: Path) -> None:
    """At a round's first step ratios are 1: nothing is clipped, and the loss is the divergence, which has grown."""
    sets = "grpo.steps=2 grpo.group=4 grpo.learning_rate=1e-3 grpo.inner_epochs=2"
    places = ["--store", str(tmp_path / "store"), "--out", str(tmp_path / "out")]
    sizes = ["--examples", "16", "--limit", "2", "--benchmarks", "pope"]
    words = [word for one in [*sets.split(), f"grpo.objects={OBJECTS}"] for word in ("--set", one)]
    ran = harness("compare", "--testbed", str(SMALL_BED), "--methods", "grpo", *sizes, *words, *places, timeout=600)
    assert ran.status == 0, ran.stderr
    rounds: dict[int, list[dict[str, float]]] = {}
    for train in tmp_path.glob("store/train/*"):
        number = json.loads((train / "manifest.json").read_text())["identity"]["round"]
        rounds[number] = [json.loads(line) for line in (train / "log.jsonl").read_text().splitlines()]
    (first, *_), (second, *later) = rounds[0], rounds[1]
    assert first["kl"] == pytest.approx(0, abs=1e-6) and second["kl"] > 1e-4
    for begun in (first, second):
        assert begun["clip_ratio/region_mean"] == 0
        assert begun["loss"] == pytest.approx(0.04 * begun["kl"], abs=1e-4)
    assert any(line["clip_ratio/region_mean"] > 0 for line in later)
