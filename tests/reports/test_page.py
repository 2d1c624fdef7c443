"""Cards, figures, items and the page, from a run on disk: right, complete, and said aloud where something is not."""

import json
import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from matplotlib.colors import to_hex
from test_grid import HOSTILE, OUR_ATTRIBUTES, OUR_ELEMENTS, Seen
from worlds import NINE, Accuracy, answers

from harness.contracts.benchmark import totals
from harness.contracts.images import Places
from harness.contracts.records import Image, Item, Response, Score
from harness.system.console import duration
from harness.system.errors import UsageError
from reports import cards, figures, items, plots
from reports import report as reporting
from reports.facts import row_facts
from reports.grid import Grid
from reports.runs import Run, StoredCell, join, opened
from tests.fake_run import LABELS, FakeRun

LINKS = r"#\w*|[\w.]+\.(csv|md|tex|jsonl|json|pdf)|\./\.\./store/train/[0-9a-f]{20}/"
Drawing = Callable[[str], figures.Draw]


@pytest.fixture
def opened_run(tmp_path: Path) -> Callable[[FakeRun], Run]:
    """Writes a run folder and opens it."""

    def made(what: FakeRun) -> Run:
        with opened([what.write(tmp_path)]) as (one,):
            return one

    return made


def number(grid: Grid, row: str, heading: str) -> float:
    """A figure of a card."""
    line = next(line for line in grid.lines if " ".join(line.names) == row)
    return line.entries[[head.label for head in grid.heads].index(heading)].value


def test_the_fairness_card_counts_what_each_method_was_given(opened_run: Callable[[FakeRun], Run]) -> None:
    card = cards.fairness(row_facts(opened_run(FakeRun(seeds=(0, 1)))))
    assert number(card, "nSFT", "examples") == number(card, "GT-DPO", "examples") == 32
    assert (number(card, "nSFT", "writer calls"), number(card, "GT-DPO", "writer calls")) == (32, 0)
    assert number(card, "GT-DPO", "judge calls") == number(card, "baseline", "judge calls") == 12  # 4 items, 3 runs
    assert number(card, "nSFT", "forward tokens") == 250  # what its build read, and what it trained on
    assert "nSFT: errors of own responses by the codebook, all seeds: colour 18, existence 14" in card.notes
    assert "GT-DPO: the data have 32 rejected answers per seed, not read: so" in card.notes
    assert not any("rejected answers" in note and "nSFT" in note for note in card.notes)
    assert number(card, "GT-DPO", "trainable parameters") == 1000
    assert math.isnan(number(card, "nSFT", "tokens generated"))  # not measured: a dash, not a zero
    assert card.notes[0].startswith("every method consumed the same examples: seed 0: 32 of split.lock 000000000000")


def test_what_a_row_cost_is_said_in_words(opened_run: Callable[[FakeRun], Run]) -> None:
    words = dict(cards.cost(row_facts(opened_run(FakeRun(seeds=(0, 1))))))
    assert set(words) == {"nSFT", "GT-DPO"}  # the baseline was not made here
    assert re.fullmatch(r"\d+ s to build and train, \d+\.\d GiB of (main|GPU) memory", words["nSFT"])
    assert [duration(seconds) for seconds in (59.4, 60, 3599, 3600, 86_460)] == [
        "59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "24 h 1 min",
    ]  # fmt: skip


def test_what_became_of_rejected_answers_is_said_for_every_seed() -> None:
    """It was said for the first seed alone."""

    def said(told: dict[int, tuple[int, str]]) -> list[str]:
        return list(cards.preferences("dpo", told))

    assert said({0: (0, "")}) == []
    assert said({0: (32, "read"), 1: (32, "read")}) == ["dpo: the data have 32 rejected answers per seed, read"]
    assert said({0: (0, ""), 1: (9, "read"), 2: (8, "read")}) == [
        "dpo: the data have 9 (seed 1), 8 (seed 2) rejected answers, read"
    ]
    assert len(said({0: (9, "read"), 1: (9, "not read")})) == 2


def test_a_method_that_had_fewer_examples_is_named(opened_run: Callable[[FakeRun], Run]) -> None:
    run = opened_run(FakeRun(examples={"dpo": 31}))
    assert cards.unequal(row_facts(run)) == ["NOT COMPARABLE, seed 0: GT-DPO consumed 31 examples of 32"]
    assert not any("the same examples" in note for note in cards.fairness(row_facts(run)).notes)
    assert 'class="alarm">NOT COMPARABLE, seed 0: GT-DPO' in page_of(run)


def test_a_row_that_learnt_other_data_too_says_how_much(opened_run: Callable[[FakeRun], Run]) -> None:
    """On the card; and where another row did not, above the table."""
    told = {"joint_records": 8, "joint_dropped": 1, "joint_tokens": 60}  # of the 100 that were learnt
    run = opened_run(FakeRun(seeds=(0, 1), trained={"nsft": told}, joint={"nsft": "mix665k"}))
    unlike = "NOT THE METHOD ALONE: together with their records learnt nSFT mix665k; GT-DPO nothing else"
    notes = cards.fairness(row_facts(run)).notes
    assert notes[0] == unlike and f'class="alarm">{unlike}' in page_of(run)
    [note] = [note for note in notes if note.startswith("nSFT learnt")]
    assert "8 examples of mix665k together with its records, per seed, 1 left out: 60% of its superv" in note
    both = FakeRun(trained={"nsft": told, "dpo": told}, joint={"nsft": "mix665k", "dpo": "mix665k"})
    notes = cards.fairness(row_facts(opened_run(both))).notes
    assert sum("learnt 8 examples" in note for note in notes) == 2 and not any("NOT THE METHOD" in one for one in notes)


def test_what_was_left_out_is_counted_by_reason(opened_run: Callable[[FakeRun], Run]) -> None:
    reasons = ["too alike"] * 3 + ["empty"] * 2 + ["a", "b", "c"]
    notes = cards.fairness(row_facts(opened_run(FakeRun(dropped={"dpo": reasons})))).notes
    [note] = [note for note in notes if "left out" in note]
    assert note == "GT-DPO left out, all seeds and rounds: 3 too alike; 2 empty; 1 a; 2 for other reasons"


def test_what_max_length_cut_is_counted(opened_run: Callable[[FakeRun], Run]) -> None:
    notes = cards.fairness(row_facts(opened_run(FakeRun(seeds=(0, 1), cut={"dpo": (3, 1200)})))).notes
    assert [note for note in notes if "max_length" in note] == [
        "GT-DPO: max_length cut 2,400 tokens off 6 records, all seeds and rounds"
    ]


def test_the_profile_says_time_rates_memory_and_roles(opened_run: Callable[[FakeRun], Run]) -> None:
    grid = cards.profile(row_facts(opened_run(FakeRun())))
    assert number(grid, "GT-DPO train", "samples/s") == 16
    assert number(grid, "GT-DPO train", "tokens/s") == 100
    assert number(grid, "GT-DPO train", "TFLOP") == 3
    assert number(grid, "GT-DPO train", "host GiB") == 0.5
    assert math.isnan(number(grid, "GT-DPO train", "device GiB"))
    roles = {line.names: line.entries[-1].text for line in grid.lines}
    assert roles["GT-DPO", "train"] == "policy: trained, reference: adapters off"  # no stage of reference log-probs
    assert roles["nSFT", "train"] == "policy: trained"


def test_the_profile_has_what_was_foreseen_beside_what_was_measured(opened_run: Callable[[FakeRun], Run]) -> None:
    """Only where a device was measured; a training that ran out of memory says with what it went on."""
    told = {"peak_device_gib": 41.5, "estimated_gib": 43.0, "shortages": 2, "batch_size": 4}
    grid = cards.profile(row_facts(opened_run(FakeRun(trained={"dpo": told}))))
    assert number(grid, "GT-DPO train", "device GiB") == 41.5
    assert number(grid, "GT-DPO train", "foreseen") == 43
    assert math.isnan(number(grid, "nSFT train", "foreseen"))
    [note] = [note for note in grid.notes if "ran out" in note]
    assert note.startswith("GT-DPO: memory ran out 2 times in training, which went on with micro-batches of 4")
    plain = cards.profile(row_facts(opened_run(FakeRun(seeds=(1,), trained={"dpo": {"estimated_gib": 43.0}}))))
    assert "foreseen" not in [head.label for head in plain.heads] and not [n for n in plain.notes if "ran out" in n]


def test_the_lens_reads_the_training_log(opened_run: Callable[[FakeRun], Run]) -> None:
    """First and last of eight steps: rejected from -11 to -18; log t2/t1 = -margin / beta = -0.8 / 0.1."""
    facts = row_facts(opened_run(FakeRun()))
    rows = {name: plots.lens_of(members) for name, members in cards.by_row(facts)}
    assert rows["baseline"] == rows["nSFT"] == {}
    assert rows["GT-DPO"] == pytest.approx(
        {"before/chosen": -10, "after/chosen": -10, "before/rejected": -11, "after/rejected": -18, "log_t2_t1": -8}
    )


def drawings(label: str) -> dict[str, figures.Draw]:
    """Every figure with a label of somebody else's."""
    interval = figures.Panel({label: figures.Interval(0.5, -1.0, 2.0, True, 0.4), "other": figures.NO_INTERVAL}, -1)
    return {
        "cost": lambda: figures.cost({label: {"build": 1.0, "train": 2.0}, "b": {}}, {label: (0.5, label)}),
        "intervals": lambda: figures.intervals({label: interval, "two": interval}),
        "curves": lambda: figures.curves({label: [[{"loss": 1.0, "kl": math.nan}, {"loss": 0.5}]], "empty": [[]]}),
        "scaling": lambda: figures.scaling({label: {label: [(2, 1.0, 0.0, 2.0)]}}, {label: {label: 1.0}}),
        "distribution": lambda: figures.distribution({label: ((0.0, 6.0), {label: [0.0, 6.0, math.nan]})}),
        "lens": lambda: figures.lens({label: {"before/chosen": -1.0, "after/chosen": -2.0}}, {label: {label: 0.5}}),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(drawings("x")))
def test_figures_are_pictures_that_depend_on_nothing_else(name: str) -> None:
    first, again = (figures.picture(drawings("GT-DPO")[name], "mini (synthetic)") for _ in range(2))
    assert first == again
    assert first.png.startswith(b"\x89PNG")
    assert b"GT-DPO" in first.svg and b"testbed: mini (synthetic)" in first.svg
    assert first.dark != first.svg


def test_a_bar_of_the_lens_is_as_high_as_its_percent() -> None:
    drawn = figures.lens({"GT-DPO": {"before/chosen": -1.0}}, {"count": {"GT-DPO": 40.0, "nSFT": -15.0}})
    assert [bar.get_height() for bar in drawn.axes[2].patches] == [40.0, -15.0]


def test_the_rounds_of_a_method_follow_each_other_in_its_curves(opened_run: Callable[[FakeRun], Run]) -> None:
    *others, row = row_facts(opened_run(FakeRun()))
    drawn = plots.curves([*others, replace(row, made=(*row.made, *row.made))])
    assert drawn is not None
    (logs,) = drawn.args  # type: ignore[attr-defined]
    assert [line["step"] for line in logs["GT-DPO"][0]] == [*range(1, 9), *range(1, 9)]
    assert len(logs["nSFT"][0]) == 8


@pytest.mark.parametrize("text", [t for t in HOSTILE if len(t) < 300][::3])
def test_a_label_in_a_figure_is_text(text: str) -> None:
    tree = ElementTree.fromstring(figures.picture(drawings(text)["intervals"], text).svg)
    ours = "svg metadata RDF Work type format title creator Agent defs style g path text tspan use clipPath rect"
    for element in tree.iter():
        assert element.tag.rpartition("}")[2] in ours.split()
        for name, value in element.attrib.items():
            assert not name.startswith("on")
            assert not name.endswith("href") or value.startswith("#")


def test_a_method_has_one_colour_in_all_panels_of_figure_4() -> None:
    point = [(250, 1.0, 0.0, 2.0)]
    drawn = figures.scaling({"VQA": {"a": point, "b": point}, "all": {"b": point}}, {"mean": {"b": 1.0}})
    first, second, bars = drawn.axes
    lines = {line.get_label(): line.get_color() for line in first.lines}
    assert [line.get_color() for line in second.lines if line.get_label() == "b"] == [lines["b"]]
    assert to_hex(bars.patches[0].get_facecolor()) == lines["b"].lower()


def test_what_an_item_moved_is_the_metric_with_its_score_and_with_the_baselines() -> None:
    """Against the definition, for a ratio and for one where lower is better."""
    old, new = answers(0.6, 20, 2, seed=3), answers(0.6, 20, 2, seed=3, gain=0.2)
    for name in ("pope", "chair"):
        benchmark = NINE[name]
        metric = benchmark.metrics[0]
        found = items.moved(benchmark, new, old)
        for place, unit in enumerate(new):
            swapped = [*new[:place], old[place], *new[place + 1 :]]
            by_hand = benchmark.compute(totals(new))[metric.id] - benchmark.compute(totals(swapped))[metric.id]
            assert found[unit.id] == pytest.approx(by_hand * (1 if metric.higher_is_better else -1))
        assert {value > 0 for value in found.values() if value} == {True}
        assert any(value == 0 for value in found.values())
    assert items.moved(NINE["pope"], new, []) == {}


@dataclass(frozen=True)
class Captions(Accuracy):
    """Counts dragons and hot dogs, none of which is there; a dog is."""

    label: ClassVar[str] = "captions"

    def score(self, item: Item, response: Response, judge: Any) -> Score:
        text = response.text.lower()
        return Score(item.id, {"made_up": float(len(re.findall(r"\bdragons?\b|\bhot dog\b", text)))})


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("A dog and a dragon.", ["dragon"]),
        ("Two Dragons, a hot dog; a dragon", ["Dragons", "hot dog", "dragon"]),
        ("a dog", []),
        ("", []),
    ],
)
def test_what_the_score_counts_as_made_up_is_marked(text: str, wrong: list[str]) -> None:
    places = items.made_up(Captions(), Item("i", None, "q", "i", {}), text)
    assert [text[start:stop] for start, stop in places] == wrong
    assert "".join(piece for piece, _ in items.pieces(text, places)) == text


def test_pictures_are_encoded_anew_or_left_out(tmp_path: Path) -> None:
    FakeRun().write(tmp_path)
    (file,) = list(tmp_path.glob("store/items/*/0.png"))[:1]
    (line,) = (file.parent / "items.jsonl").read_text().splitlines()[:1]
    image = Image(**json.loads(line)["image"])
    places = Places(tmp_path / "store")
    assert items.picture(image, places).startswith("data:image/png;base64,")
    assert items.picture(replace(image, sha256="0" * 64), places) == ""  # another file than was scored
    assert items.picture(Image("gone.png", "0" * 64), places) == items.picture(None, places) == ""


def page_of(run: Run) -> str:
    """A run's page."""
    measured = reporting.Measured.of(run)
    return reporting.report_page(measured.run, measured.findings, measured.outcomes, {})


def test_a_page_reads_each_score_once(
    opened_run: Callable[[FakeRun], Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For its table and for the items that decided; once per item and row it was, 99 for 27 in `make compare`."""
    run, read, real = opened_run(FakeRun()), list[str](), StoredCell.outcome
    monkeypatch.setattr(StoredCell, "outcome", lambda cell: (read.append(cell.score), real(cell))[1])
    reporting.pages(run, tmp_path / "out")
    assert sorted(read) == sorted(cell.score for cell in run.cells if cell.done)


def test_a_judged_mean_has_its_coverage_beside_it_and_no_other_has(opened_run: Callable[[FakeRun], Run]) -> None:
    text = page_of(opened_run(FakeRun()))
    scores = text[text.index('id="scores"') : text.index('id="fairness"')]
    judged, other = scores[scores.index("MMHal") :], scores[: scores.index("MMHal")]
    assert "(100 %)" in judged and "(100 %)" not in other


def test_the_page_has_every_section_and_every_response_that_decided(opened_run: Callable[[FakeRun], Run]) -> None:
    text = page_of(opened_run(FakeRun()))
    assert text.index('id="verdict"') < text.index('id="scores"') and "to build and train" in text
    for section in ("scores", "fairness", "cost", "training", "items", "provenance"):
        assert f'<section id="{section}">' in text
    assert "synthetic testbed: these numbers say nothing about real models" in text
    assert "question item1" in text and "dpo says" in text and "baseline says" in text
    assert text.count('src="data:image/png;base64,') == 4  # one item of each benchmark decided, for each method
    assert "/tmp" not in text


@pytest.mark.parametrize("text", [*HOSTILE[::5], "</script><b>"], ids=range(len(HOSTILE[::5]) + 1))
def test_hostile_responses_ids_and_labels_do_not_live_in_the_page(
    text: str, opened_run: Callable[[FakeRun], Run]
) -> None:
    text = text.replace("\ud800", "")  # a file holds no lone surrogate
    said = dict.fromkeys(("baseline", "nsft", "dpo"), text)
    shown = page_of(opened_run(FakeRun(labels={**LABELS, "dpo": text or "-"}, said=said, item_id=text[:50] or "i")))
    for tag, attributes in Seen(shown).found:
        assert tag in OUR_ELEMENTS | {"nav", "section", "h2", "h3", "details", "summary", "picture", "source", "figure"}
        assert attributes.keys() <= OUR_ATTRIBUTES | {"id", "href"}
        assert re.fullmatch(LINKS, attributes.get("href") or "#")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)


def test_a_half_finished_run_is_reported_and_says_so(opened_run: Callable[[FakeRun], Run]) -> None:
    run = opened_run(FakeRun(unfinished=[("dpo", "gqa"), ("nsft", "gqa"), ("nsft", "mmhal")]))
    measured = reporting.Measured.of(run)
    assert "– not scored yet, in one seed at least: GT-DPO on gqa" in measured.findings.notes
    assert "unfinished: 3 of 6 cells are not scored" in page_of(run)
    shown = reporting.whole(measured, "md")
    assert "| GT-DPO | – |" in shown and "not scored yet" in shown
    assert "| nSFT | – |" in shown  # of which no cell is scored


def test_an_unknown_benchmark_is_left_out_and_named(opened_run: Callable[[FakeRun], Run]) -> None:
    run = opened_run(FakeRun(spoilt={"benchmarks": {"gqa": {}, "mmhal": {}, "nosuch": {}}}))
    assert "not installed here, so left out: nosuch" in reporting.Measured.of(run).findings.notes


def test_two_runs_of_one_method_are_two_rows_with_a_note(tmp_path: Path) -> None:
    one, other = (FakeRun(rows=("dpo",), options=options) for options in ({}, {"beta": 0.5}))
    with opened([one.write(tmp_path / "a"), other.write(tmp_path / "b")]) as runs:
        measured = reporting.Measured.of(join(runs))
    assert [row.label for row in measured.findings.rows] == ["baseline", "GT-DPO", "GT-DPO (run)"]
    assert any("two runs of GT-DPO" in note for note in measured.findings.notes)


def test_a_damaged_log_and_lost_responses_leave_gaps_not_errors(tmp_path: Path) -> None:
    folder = FakeRun().write(tmp_path)
    for log in tmp_path.glob("store/train/*/log.jsonl"):
        log.write_text('{"loss": NaN}\nnot json\n[1]\n')
    for said in tmp_path.glob("store/generate/*/responses.jsonl"):
        said.unlink()
    with opened([folder]) as (run,):
        reporting.pages(run, tmp_path)
    assert not re.search(r"(baseline|nsft|dpo) says", (tmp_path / "report.html").read_text())
    assert not (tmp_path / "lens.svg").exists()


@pytest.mark.parametrize("form", ["terminal", "md", "tex", "csv", "html"])
def test_the_command_prints_every_format_and_writes_them_all(form: str, tmp_path: Path) -> None:
    folder = FakeRun().write(tmp_path)
    shown = reporting.report([folder], 1, "", False, form, tmp_path / "out", None)
    assert "nSFT" in shown
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        f"table1.{end}" for end in ("md", "tex", "csv", "html")
    }


def test_the_command_draws_figures_and_refuses_what_there_is_nothing_for(tmp_path: Path) -> None:
    folder = FakeRun().write(tmp_path)
    for name, files in {
        "2": ["figure2.svg", "figure2.png", "figure2.pdf"],
        "lens": ["lens.svg", "lens.png", "lens.pdf"],
        "5": ["figure5.html"],
    }.items():
        assert [file.name for file in reporting.figure([folder], name, tmp_path)] == files
    with pytest.raises(UsageError, match="figure4 needs"):
        reporting.figure([folder], "4", tmp_path)  # two benchmarks make no total
    with pytest.raises(UsageError, match='no figure "3"'):
        reporting.figure([folder], "3", tmp_path)
    with pytest.raises(UsageError, match="no table 8"):
        reporting.table([folder], 8, False)
    with pytest.raises(UsageError, match="synthetic"):
        reporting.table([folder], 1, True)
