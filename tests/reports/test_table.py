"""What stands in the table, and what must not."""

import math
import random
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from worlds import NINE, SETTING, Pope, answers, run

from harness.contracts.benchmark import Unit
from harness.system.jsonl import dumps
from reports.files import COMPARISON
from reports.findings import Cell, Findings, Row, Setting
from reports.outcomes import Outcome
from reports.results import results_rows
from reports.tabulate import build

METHODS = [("sft", "Cont. SFT", 0.0), ("nsft", "nSFT", 0.15)]
ORDER = ["nsft", "sft"]


def cell(table: Findings, method: str, metric: str, benchmark: str = "") -> Cell:
    """The cell of a method under a metric (of a benchmark)."""
    row: Row = next(row for row in table.rows if row.method == method)
    places = [i for i, c in enumerate(table.columns) if c.metric == metric and benchmark in ("", c.benchmark, c.group)]
    assert len(places) == 1
    return row.cells[places[0]]


def made(outcomes: Sequence[Outcome], replicates: int = 300, setting: Setting = SETTING) -> Findings:
    """The table of the nine."""
    return build(outcomes, NINE, ORDER, setting, replicates)


def test_columns_are_the_papers_with_length_and_recall_beside_chair() -> None:
    table = made(run(METHODS))
    assert [c.label for c in table.columns] == (
        "SQA GQA VQA^T total MM-Vet MME MMB total POPE CHAIR recall words MMHal total".split()
    )
    assert [c.label for c in table.columns if c.lower] == ["CHAIR"]
    assert [row.method for row in table.rows] == ["baseline", "nsft", "sft"]


def test_totals_follow_the_rule_and_have_an_interval() -> None:
    table = made(run(METHODS))
    total = cell(table, "nsft", "total", "hallucination")
    by_hand = (
        cell(table, "nsft", "pope/f1_macro3").delta
        - cell(table, "nsft", "chair/mean_is@listed").delta
        + cell(table, "nsft", "mmhal/rating").delta * 100 / 6
    )
    assert total.delta == pytest.approx(by_hand)
    assert total.low < total.delta < total.high
    assert math.isnan(total.p_holm)
    assert math.isnan(cell(table, "baseline", "total", "vqa").delta)


def test_total_of_independent_benchmarks_adds_variances() -> None:
    """Different images in each benchmark: the total's half-width is the root of the sum of squares, about."""
    apart = [
        replace(o, units=[replace(unit, cluster=f"{o.benchmark} {unit.cluster}") for unit in o.units])
        for o in run(METHODS, images=150)
    ]
    table = made(apart, replicates=2000)
    halves = [cell(table, "nsft", NINE[name].metrics[0].id) for name in ("sqa", "gqa", "textvqa")]
    expected = math.sqrt(sum(((half.high - half.low) / 2) ** 2 for half in halves))
    total = cell(table, "nsft", "total", "vqa")
    assert (total.high - total.low) / 2 == pytest.approx(expected, rel=0.1)


def test_mark_is_holm_over_everything_shown_but_totals() -> None:
    table = made(run(METHODS), replicates=2000)
    assert any("over 22 comparisons" in note for note in table.notes)
    marked = {row.method: sum(c.resolved for c in row.cells) for row in table.rows}
    assert marked["baseline"] == marked["sft"] == 0
    assert marked["nsft"] >= 9


def test_a_subset_of_benchmarks_has_no_totals_for_incomplete_groups() -> None:
    some = {name: NINE[name] for name in ("mmvet", "mmb", "pope", "chair", "mmhal")}
    table = build([o for o in run(METHODS) if o.benchmark in some], some, ORDER, SETTING, 50)
    assert [c.group for c in table.columns if c.metric == "total"] == ["hallucination"]
    assert [c.label for c in table.columns][:2] == ["MM-Vet", "MMB"]


def test_a_missing_cell_is_a_dash_and_its_total_too() -> None:
    table = made([o for o in run(METHODS) if (o.method, o.benchmark) != ("sft", "gqa")])
    assert math.isnan(cell(table, "sft", "gqa/all").value)
    assert math.isnan(cell(table, "sft", "total", "vqa").delta)
    assert not math.isnan(cell(table, "nsft", "total", "vqa").delta)
    assert re.search(r"\| Cont\. SFT \| [^|]+ \| – \| [^|]+ \| – \|", COMPARISON["md"](table))


def test_too_few_verdicts_withhold_the_cell() -> None:
    """38 of 100 unscored: 62 %; 1 of 100 is still shown; where it is the baseline's, differences go too."""
    units = answers(0.6, 20, 5, seed=0)
    half = [replace(o, units=o.units[:62], unscored=38) if o.benchmark == "mmhal" and o.method == "sft" else o
            for o in run(METHODS, images=20)]  # fmt: skip
    table = made(half)
    assert cell(table, "sft", "mmhal/rating").withheld == "n/a (judge 62 %)"
    assert math.isnan(cell(table, "sft", "total", "hallucination").delta)
    for text in (COMPARISON["md"](table), COMPARISON["csv"](table), COMPARISON["tex"](table)):
        assert "judge 62" in text
    one = [Outcome("baseline", "b", 0, "mmhal", units, 0, ""), Outcome("sft", "s", 0, "mmhal", units[:99], 1, "")]
    table = build(one, {"mmhal": NINE["mmhal"]}, ["sft"], SETTING, 50)
    assert cell(table, "sft", "mmhal/rating").n == 99
    assert "compared on the 99 units scored in both: s, MMHal" in table.notes
    table = build([replace(one[0], unscored=50), one[1]], {"mmhal": NINE["mmhal"]}, ["sft"], SETTING, 50)
    assert cell(table, "baseline", "mmhal/rating").withheld
    assert cell(table, "sft", "mmhal/rating").value > 0
    assert math.isnan(cell(table, "sft", "mmhal/rating").delta)
    assert re.search(r"\| s \| \d\.\d\d \(99 %\) \[\d", COMPARISON["md"](table))
    assert re.search(r"^sft,s,1,mmhal,mmhal/rating,[\d.]+,,value,", COMPARISON["csv"](table), re.MULTILINE)


def test_a_metric_without_a_value_is_a_dash() -> None:
    empty = [Unit("a", "a", {"right": 0.0, "n": 0.0})]
    outcomes = [Outcome(method, method, 0, "pope", empty, 0, "") for method in ("baseline", "sft")]
    table = build(outcomes, {"pope": Pope("pope")}, ["sft"], SETTING, 50)
    assert "| sft | – |" in COMPARISON["md"](table)
    assert "nan" not in (COMPARISON["md"](table) + COMPARISON["csv"](table) + COMPARISON["tex"](table)).lower()
    rows = list(results_rows(outcomes, {"pope": Pope("pope")}, SETTING, 50))
    assert all("value" not in row and row["withheld"] for row in rows)


def test_nothing_at_all_gives_an_empty_table() -> None:
    table = made([])
    assert table.rows == ()
    assert "synthetic" in COMPARISON["md"](table)


def test_notes_say_what_the_intervals_leave_out() -> None:
    one, three = made(run(METHODS)), made(run(METHODS, seeds=(0, 1, 2)), replicates=50)
    assert "1 seed: does not include variation between base models" in one.notes
    assert not any("does not include" in note for note in three.notes)
    assert any(note.startswith("3 seeds (0, 1, 2)") for note in three.notes)
    short = made([o for o in run(METHODS, seeds=(0, 1)) if (o.method, o.seed) != ("sft", 1)], replicates=50)
    assert "only 1 of the 2 seeds: Cont. SFT" in short.notes


def only(outcomes: Sequence[Outcome], images: int) -> list[Outcome]:
    """The outcomes on the first images."""
    kept = {f"image {number}" for number in range(images)}
    return [replace(o, units=[unit for unit in o.units if unit.cluster in kept]) for o in outcomes]


def test_one_image_gets_no_interval_no_mark_no_total_and_a_note() -> None:
    table = made(only(run(METHODS), 1))
    cells = [cell for row in table.rows for cell in row.cells]
    assert all(math.isnan(x) for cell in cells for x in (cell.low, cell.high, cell.p_holm))
    assert not math.isnan(cell(table, "nsft", "sqa/img").value)
    (note,) = (note for note in table.notes if note.startswith("no interval and no test below 10 images"))
    assert "SQA 1" in note and "MMHal 1" in note
    assert any("over 0 comparisons" in note for note in table.notes)
    shown = COMPARISON["md"](table) + COMPARISON["csv"](table) + COMPARISON["tex"](table)
    assert not re.search(r"\[[-+\d]", shown.replace("[95 %", "")) and "nan" not in shown
    rows = list(results_rows(only(run(METHODS), 1), NINE, SETTING, 50))
    assert all("value" in row and "ci_lo" not in row for row in rows)


@pytest.mark.parametrize(
    ("images", "flag"), [(9, "no interval and no test below 10"), (10, "fewer than 30 images, so 95 %"), (30, "")]
)
def test_few_images_are_flagged(images: int, flag: str) -> None:
    flags = [note for note in made(only(run(METHODS), images)).notes if note.startswith(("fewer", "no interval and"))]
    assert [note.startswith(flag) for note in flags] == [True] * bool(flag)


def test_where_nothing_varied_there_is_no_interval() -> None:
    """All of sixty images right was "100.0 [100.0, 100.0]"; all answers as before were "+0.0 [+0.0, +0.0]"."""
    right = [replace(o, units=[replace(u, parts={"right": 1.0, "n": 1.0}) for u in o.units]) for o in run(METHODS)]
    table = made(right)
    cells = [cell for row in table.rows for cell in row.cells]
    assert all(math.isnan(cell.low) and math.isnan(cell.high) for cell in cells)
    assert {cell.delta for cell in cells if not math.isnan(cell.delta)} == {0.0}
    assert any(note.startswith("no interval where nothing varied") for note in table.notes)
    moved = build(run([("nsft", "nSFT", 0.3)]), NINE, ["nsft"], SETTING, 200)
    assert not any(note.startswith("no interval where nothing varied") for note in moved.notes)
    rows = list(results_rows(right, NINE, SETTING, 50))
    assert all("value" in row and "ci_lo" not in row for row in rows if row["metric"] != "chair/words")


def test_seeds_with_one_base_model_claim_draws_of_the_data_and_no_more() -> None:
    """`--seeds 3` of a testbed with one model."""
    seeds = (0, 1, 2)
    one = replace(SETTING, models=dict.fromkeys("012", "the same"))
    two = replace(SETTING, models={"0": "a", "1": "b", "2": "a"})
    notes = {
        name: made(run(METHODS, seeds), 100, bed).notes
        for name, bed in {"one": one, "two": two, "three": SETTING}.items()
    }
    said = {name: next(note for note in found if note.startswith("3 seeds (0, 1, 2)")) for name, found in notes.items()}
    assert said["three"].endswith("images and seeds (base model, data)")
    assert "draws of the data with one base model: they say nothing of base models in general" in said["one"]
    assert "draws of the data with 2 base models: they say nothing" in said["two"]
    for name in ("one", "two"):
        claims = [note for note in notes[name] if "base models in general" in note]
        assert all("not base models in general" in note or "nothing of base models" in note for note in claims)
        assert not any("for these 3 base models alone" in note for note in notes[name])
    unknown = made(run(METHODS, seeds), 100, Setting("mini", "paper", True)).notes
    assert any("with one base model: they say nothing" in note for note in unknown)


def test_rows_that_no_method_made_are_in_nobodys_family() -> None:
    """The baseline on blank images and the noise floor are shown; Holm's correction is for methods."""
    plain = made(run(METHODS))
    extra = [
        replace(o, method=name, label=name)
        for name in ("blank", "noise")
        for o in run([("x", "x", 0.3)])
        if o.method == "x"
    ]
    table = build([*run(METHODS), *extra], NINE, ["blank", "noise", *ORDER], SETTING, 300)
    assert [row.cells for row in table.rows if row.method in ORDER] == [
        row.cells for row in plain.rows if row.method in ORDER
    ]
    assert {cell.verdict for row in table.rows if row.method in ("blank", "noise") for cell in row.cells} == {""}


def test_input_order_gives_identical_bytes() -> None:
    outcomes = run(METHODS, seeds=(0, 1))
    rng = random.Random(1)
    texts, rows = set(), set()
    for _ in range(3):
        table = made(outcomes, replicates=100)
        texts.add(COMPARISON["csv"](table) + COMPARISON["md"](table) + COMPARISON["tex"](table))
        rows.add("\n".join(map(dumps, results_rows(outcomes, NINE, SETTING, 100))))
        outcomes = [replace(o, units=rng.sample(list(o.units), len(o.units))) for o in outcomes]
        rng.shuffle(outcomes)
    assert len(texts) == len(rows) == 1


def test_result_rows_hold_everything_needed_to_redo_the_table() -> None:
    outcomes = run(METHODS, seeds=(0, 1))
    rows = list(results_rows(outcomes, NINE, SETTING, 100))
    assert len(rows) == 2 * 3 * (9 + 2)
    chair = next(row for row in rows if row["metric"] == "chair/mean_is@listed")
    assert chair["direction"] == "lower"
    assert chair["ci_lo"] < chair["value"] < chair["ci_hi"]
    assert (chair["n"], chair["stage"], chair["protocol"]) == (300, "baseline-chair", "paper")
    assert chair["testbed"] == "mini (synthetic)"
    assert chair["synthetic"] is True
