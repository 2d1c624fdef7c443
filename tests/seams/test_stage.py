"""Every kind of stage keeps its contract (`harness.contracts.stage`), in the plan of a comparison that has them all."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.comparison.forecast import TRAITS
from harness.comparison.plan import plan
from harness.comparison.planner import Planner
from harness.comparison.worker import STAGES, kind
from harness.contracts import plugins
from harness.contracts.executor import Resources
from harness.contracts.settings import Generation, MethodSpec, Runtime
from harness.contracts.stage import CODE, Kind
from harness.contracts.steps import Request, Step
from harness.contracts.testbed_file import read_testbed
from harness.sources._chosen import source
from harness.stages._model import Modelled
from harness.store.closure import SOURCES
from harness.store.store import Stage
from harness.system.jsonl import dumps

ROOT = Path(__file__).parents[2]
KINDS = plugins.installed(STAGES)
REQUEST = Request((MethodSpec(name="nsft"), MethodSpec(name="dpo")), source("llava150k"))
PLAN = plan(REQUEST, read_testbed("mini"))
ANOTHER = Generation(backend="vllm", options={"environment": "/nowhere"})
OTHER = plan(  # what a comparison has where another backend responds, an API answers a row, and another writes
    replace(REQUEST, benchmarks=("pope",), answered=(("gpt", "openai:gpt-9"),)),
    PLAN.testbed.model_copy(update={"generation": ANOTHER, "writer": "openai:gpt-9"}),
)
STEPS = (*PLAN.steps, *(step for step in OTHER.steps if step.stage.kind in ("parity", "answer", "respond")))
PLANNER, OTHERS = (Planner(p.request, p.testbed, Runtime(), tuple(p.rows.values())) for p in (PLAN, OTHER))
RECORDED = json.loads((Path(__file__).parent / "identities.json").read_text(encoding="utf-8"))


def steps(name: str) -> list[Step]:
    return [step for step in STEPS if step.stage.kind == name]


def without_code(told: Any) -> Any:
    """What identifies a step, or a judge in it, without digests of code."""
    return {k: without_code(v) for k, v in told.items() if k not in CODE} if isinstance(told, dict) else told


def test_the_comparison_has_every_kind() -> None:
    assert {step.stage.kind for step in STEPS} == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_an_identity_is_typed_and_comes_back_from_json_as_it_was(name: str) -> None:
    for step in steps(name):
        made = kind(name).of(step)
        assert made.identity() == {key: value for key, value in step.stage.identity.items() if key not in CODE}
        assert kind(name).model_validate(json.loads(dumps(made.identity()))) == made


@pytest.mark.parametrize("name", KINDS)
def test_an_identity_of_today_is_that_of_before(name: str) -> None:
    """One step of each kind, as recorded: who changes what identifies a stage says so here."""
    recorded = RECORDED[name]
    (step,) = (step for step in steps(name) if step.title == recorded["title"])
    assert without_code(json.loads(dumps(step.stage.identity))) == recorded["identity"]
    if name != "report":  # it reads every cell
        assert {read: stage.kind for read, stage in step.reads.items()} == recorded["reads"]
    assert len(steps(name)) == recorded["steps"]


@pytest.mark.parametrize("name", KINDS)
def test_every_field_is_explained(name: str) -> None:
    told = "\n".join(each.__doc__ or "" for each in kind(name).__mro__ if issubclass(each, Kind))
    for field in kind(name).model_fields:
        assert f"\n    {field}: " in told, field


@pytest.mark.parametrize("name", KINDS)
def test_a_field_that_is_not_declared_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="colour"):
        kind(name).model_validate({**kind(name).of(steps(name)[0]).identity(), "colour": "red"})


@pytest.mark.parametrize("name", KINDS)
def test_a_step_of_another_kind_is_refused(name: str) -> None:
    other = next(step for step in PLAN.steps if step.stage.kind != name)
    with pytest.raises(ValueError, match=f"is no {name}"):
        kind(name).of(other)


@pytest.mark.parametrize("name", KINDS)
def test_it_says_what_it_reads(name: str) -> None:
    for step in steps(name):
        reads = kind(name).Reads.of(step)
        assert reads.named() == step.reads
        assert {*step.derived} == {*reads.named()} & reads.derived


@pytest.mark.parametrize("name", [name for name in KINDS if name not in ("report", "parity")])  # as many as there are
def test_it_reads_nothing_else_and_nothing_less(name: str) -> None:
    step, more = steps(name)[0], Stage("toy", {})
    with pytest.raises(TypeError, match="colour"):
        kind(name).Reads.of(Step("", Stage(name, {}, {**step.stage.inputs, "colour": more})))
    for field in fields(kind(name).Reads):
        if field.default is not None:
            rest = {read: stage for read, stage in step.reads.items() if read != field.name}
            with pytest.raises(TypeError, match=field.name):
                kind(name).Reads.of(Step("", Stage(name, {}, rest)))


def test_the_planner_gives_a_kind_what_that_kind_reads() -> None:
    score, lens = kind("score").of(steps("score")[0]), kind("lens").Reads.of(steps("lens")[0])
    with pytest.raises(TypeError, match=r"Lens\.Reads is not what a score reads"):
        PLANNER.step(score, lens, "score")


@pytest.mark.parametrize("name", KINDS)
def test_its_own_file_and_its_plugins_are_in_its_key(name: str) -> None:
    for step in steps(name):
        planner = PLANNER if step in PLAN.steps else OTHERS
        entries = list(planner.sources(kind(name).of(step), PLAN.rows.get(step.row)))
        assert step.stage.identity["code"] == SOURCES.digest(*entries)
        assert f"{STAGES}.{name}" in SOURCES.files(*entries)


def test_plugins_are_named_by_those_who_load_them() -> None:
    named = {name: {file.stem for step in steps(name) for file in loaded(step)} for name in KINDS}
    assert named["build"] == {"nsft", "dpo", "llava", "transformers"} and named["train"] == {"nsft", "dpo", "llava"}
    assert named["generate"] == named["probe"] == {"llava", "transformers"} and named["reference"] == {"llava"}
    assert named["items"] == named["score"] == {*REQUEST.benchmarks}
    assert named["split"] == {"llava150k"}
    assert named["data"] == {"benchsets", "sources"}
    assert not named["crosscheck"] and not named["report"]


def loaded(step: Step) -> list[Path]:
    """Files that a step's body loads by name."""
    sources = PLANNER.sources(kind(step.stage.kind).of(step), PLAN.rows.get(step.row))
    return [source for source in sources if isinstance(source, Path)]


@pytest.mark.parametrize("name", KINDS)
def test_who_waits_for_a_reply_holds_no_gpu_unless_a_model_responds_too(name: str) -> None:
    for each in steps(name):
        takes = kind(name).of(each).takes(Runtime(num_processes=4))
        assert takes.gpus == (0 if not issubclass(kind(name), Modelled) else 4 if name == "train" else 1)
        assert not (takes.asks and name == "train")


@pytest.mark.parametrize("name", KINDS)
def test_who_plans_is_in_no_key(name: str) -> None:
    assert (
        SOURCES.files(f"{STAGES}.{name}")
        .keys()
        .isdisjoint({"harness.comparison.planner", "harness.comparison.worker", "harness.comparison.preflight"})
    )


def by_string(tree: ast.AST) -> Iterator[int]:
    """Lines where a stage's identity, or what it reads, is asked by a text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            of = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            of = node.func.value
        else:
            continue
        attribute = getattr(of, "attr", "") in ("identity", "inputs", "reads", "derived")
        if attribute or getattr(of, "id", "") == "reads":
            yield node.lineno


def test_nobody_asks_a_planned_stage_by_strings() -> None:
    for package in ("harness", "methods", "benchmarks"):
        for file in (ROOT / package).rglob("*.py"):
            assert not list(by_string(ast.parse(file.read_bytes()))), file


def test_the_lint_finds_what_it_is_for() -> None:
    assert len(list(by_string(ast.parse("step.stage.identity['n']\nstep.reads.get('split')\nreads['split']\n")))) == 3


def test_traits_that_a_forecast_looks_at_are_fields_of_kinds() -> None:
    assert {*TRAITS} <= {field for name in KINDS for field in kind(name).model_fields}


def test_a_training_takes_its_processes_and_who_runs_a_model_a_gpu() -> None:
    """A judge's verdicts take none."""
    for step in plan(REQUEST, PLAN.testbed, Runtime(num_processes=4)).steps:
        made = kind(step.stage.kind)
        processes = 4 if step.stage.kind == "train" else 1
        gpus = processes if issubclass(made, Modelled) else 0
        asks = made.of(step).asks
        assert step.resources == Resources(processes, gpus, asks=dumps(asks) if asks else ""), step.title
    assert {step.stage.kind for step in PLAN.steps if step.resources.asks} == {"build", "lens", "score"}


def test_who_waits_for_a_slow_writer_holds_no_gpu() -> None:
    """What the model says is had ahead, by a stage of its own; the next row's waits for that alone."""
    respond, build = (next(s for s in OTHER.steps if s.title == f"{kind} nsft seed 0") for kind in ("respond", "build"))
    assert respond.resources == Resources(gpus=1) and build.resources.gpus == 0 and "gpt-9" in build.resources.asks
    assert build.derived == {"responded": respond.stage} and "responded" not in build.stage.inputs
    after = next(s for s in OTHER.steps if s.title == "build dpo seed 0")
    assert after.after == (respond.key,) and after.resources.gpus == 1
    assert not [s for s in PLAN.steps if s.stage.kind == "respond"]  # an oracle replies at once
    probe, lens = (next(s for s in OTHER.steps if s.title == f"{kind} nsft seed 0") for kind in ("probe", "lens"))
    assert probe.resources == Resources(gpus=1) and lens.resources.gpus == 0 and "gpt-9" in lens.resources.asks


def test_planning_imports_nothing_that_is_slow_to_import() -> None:
    asked = (
        "from harness.comparison.plan import plan\nfrom tests.seams import test_stage\nimport sys\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True, cwd=ROOT)
    slow = {"torch", "transformers", "pandas", "scipy", "matplotlib", "datasets", "openai", "deepspeed"}
    assert "harness.stages.train" in done.stdout.split()
    assert slow.isdisjoint(done.stdout.split())
