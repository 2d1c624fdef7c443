"""A round's adapters are no model without the rounds before: where one is gone, all after it are made again."""

from pathlib import Path

import pytest

from harness.comparison.mending import take_out
from harness.comparison.plan import plan
from harness.contracts.settings import MethodSpec
from harness.contracts.steps import Request
from harness.contracts.testbed_file import read_testbed
from harness.sources._chosen import source
from harness.store.store import Store

BED = read_testbed("mini")


@pytest.mark.parametrize(("left", "gone", "again"), [("adapter", 0, [1, 2]), ("adapter", 2, []), ("checkpoint", 0, [])])
def test_rounds_whose_model_is_gone_are_taken_out(left: str, gone: int, again: list[int], tmp_path: Path) -> None:
    rows = (MethodSpec(name="csr", training={"lora": {"r": 4}}),)
    planned, store = plan(Request(rows, source("llava150k"), benchmarks=("pope",)), BED), Store(tmp_path)
    rounds = [step for step in planned.trained["csr", 0] if step.stage.kind == "train"]
    for step in rounds:
        store.run(step.stage, lambda out: ((out / left).mkdir(), (out / left / "file").write_text("x")))  # type: ignore[arg-type, func-returns-value]
    assert len(rounds) == 3 and take_out(planned, store) == []
    store.discard(rounds[gone].stage.name)
    assert [rounds.index(one.step) for one in take_out(planned, store)] == again
    assert all(not store.done(rounds[at].stage) for at in again)
