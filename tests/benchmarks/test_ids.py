"""Whoever asks a benchmark for a figure asks by an id that the benchmark gives: layouts, tables, bars, second opinions.

The ids are those of real items that were really scored, never of a list in a test.
"""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from layouts import LAYOUTS as SETS
from layouts import OPTIONS, Files, Fixed, perfect

from harness.contracts import plugins
from harness.contracts.benchmark import Benchmark, totals
from harness.contracts.records import Response, Score
from harness.mini.bars import BARS
from reports import items, layouts
from reports.findings import GROUPS
from reports.layouts import Column
from reports.tabulate import BESIDE
from reports.totals import AS_CAPTIONED, RULE

NAMES = plugins.names("benchmarks")
OURS = {"per_subtask", "plausible", "critic"}  # bars that the mini testbed measures itself


@cache
def computed(name: str, variant: str = "") -> frozenset[str]:
    """Every id that the benchmark computes on a small official set, and the names of its parts."""
    benchmark: Benchmark = plugins.make("benchmarks", name, Benchmark, OPTIONS.get(name, {}))
    with TemporaryDirectory() as folder:
        SETS[name](Path(folder))
        asked = list(benchmark.items(Path(folder), Files()))
    if variant:  # of CHAIR: the objects' own words
        benchmark = plugins.make("benchmarks", name, Benchmark, {"variant": variant})
        for item in asked:
            item.facts["synonyms"] = "dog\ncat\nhot dog"
    scored = [(item, benchmark.score(item, Response(item.id, perfect(name, item), 1), Fixed())) for item in asked]
    sums = totals(benchmark.units([(item, score) for item, score in scored if isinstance(score, Score)]))
    return frozenset(benchmark.compute(sums)) | frozenset(sums)


def unknown(column: Column) -> str:
    """What is wrong with a layout's column; empty where its benchmark gives its metric."""
    if column.total:
        return ""
    if column.benchmark not in NAMES:
        return f"{column.key}: no benchmark {column.benchmark}"
    metric = (
        column.metric
        or plugins.make("benchmarks", column.benchmark, Benchmark, OPTIONS.get(column.benchmark, {})).metrics[0].id
    )
    return "" if metric in computed(column.benchmark) else f"{column.key}: no {metric}"


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_computes_what_it_declares(name: str) -> None:
    benchmark: Benchmark = plugins.make("benchmarks", name, Benchmark, OPTIONS.get(name, {}))
    assert {metric.id for metric in benchmark.metrics} <= computed(name)


def test_every_column_of_the_papers_tables_is_a_metric_of_its_benchmark() -> None:
    assert [text for column in layouts.COLUMNS.values() if (text := unknown(column))] == []


def test_a_column_with_an_invented_id_would_be_found() -> None:
    assert unknown(Column("IF", "IF score", "indomain", "indomain/if")) == "IF: no indomain/if"
    assert unknown(Column("IF", "IF score", "in_domain")) == "IF: no benchmark in_domain"


@pytest.mark.parametrize("column", [c for c in layouts.COLUMNS.values() if not c.total], ids=lambda c: c.key)
def test_a_layouts_digits_direction_and_judge_are_the_benchmarks(column: Column) -> None:
    benchmark: Benchmark = plugins.make("benchmarks", column.benchmark, Benchmark, OPTIONS.get(column.benchmark, {}))
    metric = next(m for m in benchmark.metrics if m.id == (column.metric or benchmark.metrics[0].id))
    assert (column.digits, column.lower, column.judged) == (
        metric.digits, not metric.higher_is_better, benchmark.judged,
    )  # fmt: skip


def test_the_papers_layouts_name_columns_that_exist_and_printed_tables_have() -> None:
    for layout in layouts.LAYOUTS.values():
        keys = [key for _, keys in layout.groups for key in keys]
        assert set(keys) <= layouts.COLUMNS.keys()
        for row in layouts.printed()[f"table{layout.number}"]["rows"]:
            assert set(keys) <= row.keys()


@pytest.mark.parametrize("variant", ["noun", "lemma", "listed"])
def test_what_stands_beside_a_column_is_computed(variant: str) -> None:
    for name, beside in BESIDE.items():
        ids = computed(name, variant if name == "chair" else "")
        for prefix in beside:
            assert sum(id.startswith(prefix) for id in ids if "/" in id) == 1, prefix


def test_groups_and_totals_name_benchmarks() -> None:
    for group, (_, printed) in GROUPS.items():
        assert RULE[group].keys() <= AS_CAPTIONED[group].keys() <= set(printed) <= set(NAMES)
        for name in printed:
            assert plugins.make("benchmarks", name, Benchmark, {}).group == group


def test_the_part_that_marks_wrong_words_is_one() -> None:
    assert items.MADE_UP in computed(items.CAPTIONS)


def test_the_bars_of_the_mini_testbed_are_metrics() -> None:
    for bar in BARS:
        name = bar.metric.partition("/")[0]
        variant = "listed" if name == "chair" else ""
        assert bar.metric in OURS or bar.metric in computed(name, variant), bar.metric


def test_a_second_opinion_is_about_a_metric_of_ours() -> None:
    lmms = pytest.importorskip("benchmarks._lmms_stock")
    for name, stocks in lmms.STOCK.items():
        for stock in stocks:
            for ours, _, _ in stock.pairs.values():
                assert ours in computed(name), ours
