"""The plan's summary: what runs and what is reused per row, and times from what the store recorded, never a guess."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.commands.plan_text import show_plan
from harness.comparison import forecast
from harness.comparison.forecast import Forecast, together
from harness.comparison.plan import plan
from harness.contracts.executor import Resources
from harness.contracts.settings import Chat, MethodSpec, Runtime
from harness.contracts.steps import Plan, Request, Step
from harness.contracts.testbed_file import read_testbed
from harness.sources._chosen import source
from harness.store.manifest import MANIFEST, render
from harness.store.store import Stage, Store

BED = read_testbed("mini")
WANTED = plan(
    Request((MethodSpec(name="sft"), MethodSpec(name="dpo")), source("llava150k"), benchmarks=("gqa", "pope")), BED
)
Shown = Callable[..., str]


def finish(store: Store, step: Step, seconds: float) -> None:
    """The step's stage and what it reads, each with a file of 1,000 bytes, as if it had taken so long."""
    made(store, step.stage)
    (store.path(step.stage) / MANIFEST).write_text(render({**store.manifest(step.stage), "seconds": seconds}))


def made(store: Store, stage: Stage) -> None:
    def fill(out: Path) -> None:
        (out / "file").write_bytes(bytes(1000))

    for read in stage.inputs.values():
        made(store, read)
    store.run(stage, fill)


def of_kind(kind: str, planned: Plan = WANTED, row: str = "") -> list[Step]:
    return [step for step in planned.steps if step.stage.kind == kind and row in step.title]


@pytest.fixture
def shown(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shown:
    monkeypatch.setenv("COLUMNS", "80")

    def show(planned: Plan = WANTED, **how: Any) -> str:
        show_plan(planned, Store(tmp_path), 2, **how)
        return capsys.readouterr().out

    return show


def test_an_empty_store_knows_no_time(shown: Shown) -> None:
    said = shown()
    assert said.count("not known yet") == 6 and "about" not in said
    assert re.search(r"^total +\d+ +0 +not known yet +–$", said, re.MULTILINE)
    assert json.loads(shown(as_json=True))["summary"]["seconds"] is None


def test_a_row_tells_what_runs_what_is_there_and_how_long_it_takes(shown: Shown, tmp_path: Path) -> None:
    store = Store(tmp_path)
    for step in WANTED.steps:
        if step.stage.kind in ("data", "items", "split") or "baseline" in step.title:
            finish(store, step, 3)
    said = shown()
    lines = {line[:18].strip(): line[18:].split() for line in said.splitlines()}
    assert lines["baseline"][:2] == ["0", "6"] and lines["baseline"][-2:] == ["6", "kB"]
    assert "Cont. SFT (build, train, probe, lens)" in said and "more than" in said
    assert " ".join(lines["Cont. SFT"]) == "10 0 more than 18 s –"  # six of generate, score and crosscheck, 3 s each
    rows = {row["row"]: row for row in json.loads(shown(as_json=True))["summary"]["rows"]}
    assert rows["sft"]["seconds"] == 18 and rows["sft"]["unknown"] == ["build", "train", "probe", "lens"]


def test_where_nothing_is_to_do_the_plan_says_so(shown: Shown, tmp_path: Path) -> None:
    for step in WANTED.steps:
        finish(Store(tmp_path), step, 1)
    said = shown()
    assert said.startswith(f"nothing to do: all {len(WANTED.steps)} stages are in the store (") and "to run" not in said


def test_every_stage_and_why_it_runs_are_for_those_who_ask(shown: Shown, tmp_path: Path) -> None:
    data = of_kind("data")[0]
    finish(Store(tmp_path), data, 1)
    assert data.title not in shown()
    said = shown(verbose=True)
    assert f"reused     {data.title} (" in said and "run        report: reads a stage that will run" in said


def test_a_method_is_never_told_by_what_another_took(tmp_path: Path) -> None:
    store, [fast] = Store(tmp_path), of_kind("build", row="dpo")
    finish(store, fast, 1)
    known = Forecast(store, WANTED.steps)
    assert known.of(fast) == 1 and known.of(of_kind("build", row="sft")[0]) is None


def test_a_forecast_that_forgets_methods_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "TRAITS", ("benchmark", "model"))
    with pytest.raises(AssertionError):
        test_a_method_is_never_told_by_what_another_took(tmp_path)


def test_nor_is_a_model_by_what_another_took(tmp_path: Path) -> None:
    store = Store(tmp_path)
    finish(store, of_kind("generate", row="baseline")[0], 1)
    other = plan(WANTED.request, BED.model_copy(update={"models": BED.models[1:]}))
    assert Forecast(store, other.steps).of(of_kind("generate", other, "baseline")[0]) is None
    assert Forecast(store, WANTED.steps).of(of_kind("generate", row="baseline")[0]) == 1


def test_of_several_the_median_counts_and_those_of_the_same_size_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for examples, seconds in ((100, 5.0), (200, 7.0), (400, 90.0)):
        sized = plan(Request(WANTED.request.methods, WANTED.request.data, examples=examples, benchmarks=("gqa",)), BED)
        finish(store, of_kind("build", sized, "sft")[0], seconds)
    assert Forecast(store, WANTED.steps).of(of_kind("build", row="sft")[0]) == 7
    assert Forecast(store, sized.steps).of(of_kind("build", sized, "sft")[0]) == 90


def toy(name: str, **reads: Stage) -> Step:
    return Step(name, Stage("toy", {"name": name}, reads))


def test_workers_share_what_does_not_wait() -> None:
    a, b = toy("a"), toy("b")
    c = toy("c", a=a.stage)
    took = {"a": 4.0, "b": 3.0, "c": 2.0}
    for workers, seconds in ((1, 9), (2, 6), (8, 6)):
        assert together([a, b, c], lambda step: took[step.title], workers) == seconds
    assert together([b, c], lambda step: took[step.title], 1, [(a, 1.0)]) == 6
    assert together([c], lambda step: took[step.title], 2, [(a, 1.0)]) == 3


def test_a_step_of_two_processes_takes_the_room_of_two() -> None:
    """As a course hands them out: the first in order waits for its room, and nothing overtakes it."""
    a, wide, b = toy("a"), replace(toy("wide"), resources=Resources(processes=2)), toy("b")
    for workers, seconds in ((1, 9), (2, 9), (3, 5)):
        assert together([a, wide, b], lambda step: {"a": 4.0, "wide": 2.0, "b": 3.0}[step.title], workers) == seconds
    assert together([a, b], lambda step: 3.0, 2, [(wide, 1.0)]) == 4


def test_the_family_of_the_bases_is_named(shown: Shown) -> None:
    assert "testbed: mini (synthetic), LLaVA-1.5;" in shown()


def test_a_stage_that_holds_a_gpu_while_a_slow_writer_replies_is_named(shown: Shown) -> None:
    """The oracle of `mini` replies at once; nSFT's writer is asked behind its responses, a lens behind its probe."""
    slow = BED.model_copy(update={"writer": "openai:m", "writing": Chat(price=(0, 0))})
    rows = (MethodSpec(name="nsft"), MethodSpec(name="grpo", options={"captions": "judge", "steps": 2}))
    said = {
        writer: shown(plan(replace(WANTED.request, methods=rows[:many]), bed))
        for writer, many, bed in (("oracle", 2, BED), ("behind", 1, slow), ("between", 2, slow))
    }
    held = "build grpo seed 0 round 1 (and 1 more like it) holds a GPU while the writer is waited for.\n"
    assert [name for name, text in said.items() if "holds a GPU" in text] == ["between"] and held in said["between"]


def test_what_an_executor_would_hand_to_others_is_shown(shown: Shown, tmp_path: Path) -> None:
    cluster = Runtime(executor="slurm", executor_options={"sbatch": ["--partition=gpu"]})
    said = shown(runtime=cluster)
    assert said.count("#SBATCH --partition=gpu") == len(WANTED.steps) and "# train dpo" in said
    assert json.loads(shown(runtime=cluster, as_json=True))["handed"] in said
    assert "#SBATCH" not in shown() and "handed" not in json.loads(shown(as_json=True))
    assert not (tmp_path / ".jobs").exists()
