"""A comparison makes a second figure of every cell where lmms-eval is installed, and nothing else depends on it."""

from pathlib import Path

import pytest

from harness.comparison.plan import plan
from harness.contracts import plugins
from harness.contracts.settings import MethodSpec
from harness.contracts.steps import Plan, Request
from harness.contracts.testbed_file import read_testbed
from harness.sources._chosen import source
from harness.store.closure import SOURCES
from harness.store.contents import listing

BED = read_testbed("mini")
REQUEST = Request((MethodSpec(name="dpo"),), source("llava150k"))


def keys(planned: Plan) -> dict[str, str]:
    """Title -> key of everything but the report and the second figures."""
    return {step.title: step.key for step in planned.steps if step.stage.kind not in ("crosscheck", "report")}


def test_every_cell_has_a_second_figure_that_the_report_reads() -> None:
    planned = plan(REQUEST, BED)
    checks = {cell.crosscheck.key for cell in planned.cells if cell.crosscheck}
    assert len(checks) == len(planned.cells)
    assert checks <= {stage.key for stage in planned.report.reads.values()}


def test_without_lmms_eval_all_else_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    before = plan(REQUEST, BED)
    monkeypatch.setattr(plugins, "lmms_eval", lambda: "")
    after = plan(REQUEST, BED)
    assert not any(step.stage.kind == "crosscheck" for step in after.steps)
    assert keys(after) == keys(before)


def test_another_version_of_lmms_eval_makes_second_figures_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    before = plan(REQUEST, BED)
    monkeypatch.setattr(plugins, "lmms_eval", lambda: "0.8.0")
    after = plan(REQUEST, BED)
    assert keys(after) == keys(before)
    made = [{cell.crosscheck.key for cell in planned.cells if cell.crosscheck} for planned in (before, after)]
    assert len(made[0]) == len(made[1])
    assert not made[0] & made[1]


def test_a_package_that_lmms_eval_needs_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plugins.lmms_eval() == "0.7.3"
    found = plugins.importlib.util.find_spec
    monkeypatch.setattr(plugins.importlib.util, "find_spec", lambda name: None if name == "loguru" else found(name))
    assert plugins.lmms_eval() == ""


def test_a_change_to_the_adapter_rescores_nothing() -> None:
    """Which files are in whose key; `tests/store/test_closure.py` tries every one."""
    adapter = "benchmarks._lmms"
    assert adapter in SOURCES.files("harness.stages.crosscheck")
    plugin = SOURCES.files(*(f"benchmarks.{name}" for name in plugins.names("benchmarks")))
    assert adapter not in plugin and "benchmarks._parquet" in plugin
    assert not any(adapter in SOURCES.files(f"harness.stages.{kind}") for kind in ("items", "score", "report"))


def test_parquet_is_part_of_what_identifies_data(tmp_path: Path) -> None:
    """Same name, same size, other bytes."""
    file = tmp_path / "test.parquet"
    file.write_bytes(b"one")
    before = listing(tmp_path)
    file.write_bytes(b"two")
    assert listing(tmp_path) != before
