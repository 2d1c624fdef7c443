"""A writer behind the network is waited for without a model: what this says was had, and is in the store."""

import json
from pathlib import Path

import pytest

from harness.backends.transformers import Transformers
from harness.checking.method import check_named
from harness.comparison.plan import plan
from harness.comparison.worker import Bodies
from harness.contracts.records import Conversation
from harness.contracts.schedule import attempt
from harness.contracts.settings import Chat, MethodSpec, Runtime
from harness.contracts.steps import Request, Step
from harness.contracts.testbed_file import read_testbed
from harness.sources._chosen import source
from harness.store.store import Store
from harness.system.errors import UsageError
from harness.system.jsonl import read_jsonl
from tests.judging.fake import serving

BED = read_testbed(str(Path(__file__).parents[1] / "e2e" / "small.yaml")).model_copy(
    update={"lens": 0, "writer": "openai:m", "writing": Chat(price=(0, 0))}
)
REQUEST = Request((MethodSpec(name="nsft"),), source("llava150k"), benchmarks=("pope",), examples=4, limit=3)
TURN = json.dumps({"errors": [], "turns": [{"question": "Is there a cat?", "answer": "No."}]})


@pytest.mark.parametrize("ahead", [True, False])
def test_a_build_behind_its_responses_runs_no_model(
    ahead: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without them, the mutant, it would run one, on whatever it finds."""
    planned, store = plan(REQUEST, BED), Store(tmp_path)
    steps = {step.stage.kind: step for step in planned.steps}
    bodies = Bodies(str(tmp_path), planned.testbed, REQUEST, Runtime())

    def make(step: Step) -> str:
        failed = attempt(bodies, step)
        return str(failed.error) if failed else ""

    def respond(*_: object, **__: object) -> None:
        raise UsageError("a model runs")

    with serving(lambda body, times: TURN) as server:
        assert not [make(step) for step in planned.steps if step.stage.kind in ("data", "split") and make(step)]
        if ahead:
            assert make(steps["respond"]) == "" and not server.asked
        monkeypatch.setattr(Transformers, "respond", respond)
        assert make(steps["build"]) == ("" if ahead else "a model runs")
    if ahead:
        [first, *_] = read_jsonl(Conversation, store.path(steps["build"].stage) / "records.jsonl")
        assert first.branches[-1][-1].answer == "No."


LATE = """
from dataclasses import dataclass, replace
from methods.nsft import Nsft

@dataclass(frozen=True)
class Late(Nsft):
    def build(self, examples, round):
        examples = list(examples)
        yield from super().build(examples, round)
        round.{}
"""


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("respond([])", "respond"),
        ("measure([], 'policy')", "measure"),
        ("similarity([])", "similarity"),
        ("number", ""),
    ],
)
def test_a_method_that_asks_its_model_later_is_told(call: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(LATE.format(call))
    said = list[str]()
    if told:
        with pytest.raises(UsageError, match=rf"late\.build asks its model \(round\.{told}\) where"):
            said += check_named(str(tmp_path / "late.py"), {}, None)
    else:
        said += check_named(str(tmp_path / "late.py"), {}, None)
        assert any("records from two examples" in line for line in said)
