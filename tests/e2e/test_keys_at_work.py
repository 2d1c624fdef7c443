"""What really runs when a stage is made is in its key: every file of ours of which a function is called."""

from pathlib import Path

import pytest

from harness.comparison import request as asking
from harness.comparison.plan import plan
from harness.comparison.planner import Planner
from harness.comparison.worker import Worker, kind
from harness.contracts.settings import MethodSpec, Runtime
from harness.contracts.steps import Plan, Request, Step
from harness.contracts.testbed_file import read_testbed
from harness.sources._chosen import source
from harness.store.closure import NEUTRAL, OURS, SOURCES
from harness.store.store import Store
from harness.system.profile import quiet
from tests.recording import recording

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[2]
BED = read_testbed(str(Path(__file__).with_name("small.yaml"))).model_copy(update={"lens": 3})
# Who calls the body, loads its plugin, and hands on.
RUNNERS = ("harness.comparison.worker", "harness.contracts.plugins", "harness.testbeds.mini")


def in_key(step: Step, planned: Plan) -> set[Path]:
    """Every source file whose digest is in the step's key, or that cannot change a result."""
    planner = Planner(planned.request, BED, Runtime(), tuple(planned.rows.values()))
    made = kind(step.stage.kind).of(step)
    entries = list(planner.sources(made, planned.rows.get(step.row)))
    entries += ["harness.mini.oracle_kind"] if made.asks else []
    for stage in step.stage.inputs.values():  # their keys are in this one
        if stage.kind == "score":
            entries += planner.sources(kind("score").of(stage))
    known = set(SOURCES.files(*entries).values())
    places = (ROOT / name.replace(".", "/") for name in (*NEUTRAL, *RUNNERS))
    return known | {path for place in places for path in (place.with_suffix(".py"), place / "__init__.py")}


def test_whatever_is_called_while_a_stage_is_made_is_in_its_key(tmp_path: Path) -> None:
    request = Request(
        rows(), source("llava150k"), examples=3, limit=1, benchmarks=("gqa", "chair", "mmhal", "indomain")
    )
    planned = plan(request, BED)
    worker = Worker(Store(tmp_path), BED, request, Runtime(workers=1))
    missing: dict[str, set[str]] = {}
    for step in planned.steps:
        with recording() as called:
            worker.run(step, quiet)
        ours = {Path(file) for file in called if file.startswith(tuple(f"{ROOT / package}/" for package in OURS))}
        if unknown := ours - in_key(step, planned):
            missing.setdefault(step.stage.kind, set()).update(str(path.relative_to(ROOT)) for path in unknown)
    assert not missing


def rows() -> tuple[MethodSpec, ...]:
    """Methods that ask a writer, themselves and a reward model, with the small testbed's options."""
    given = "sft,nsft,sima,ppo"
    _, asked, _ = asking.request(
        given, "llava150k", "", str(Path(__file__).with_name("small.yaml")), 1, "pope", 6, 2, [], 1
    )
    return asked.methods
