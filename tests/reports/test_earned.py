"""The paper's numbers stand beside ours where a run earned it: a run that did, and one for each way not to."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from worlds import NINE

from harness.contracts import plugins
from harness.contracts.benchmark import Benchmark, Unit
from harness.contracts.testbed_file import read_testbed, setting_of
from reports import paper
from reports.earned import Ran
from reports.findings import Setting
from reports.grid import Grid
from reports.outcomes import Outcome
from reports.paper import Part, paper_table
from reports.report import table
from reports.tabulate import build
from tests.fake_run import FakeRun

SEVEN = {"hidden_size": 4096, "layers": 32, "vision_hidden_size": 1024, "vision_layers": 24, "patches": 576}
MINI = {"hidden_size": 128, "layers": 4, "vision_hidden_size": 64, "vision_layers": 2, "patches": 16}
REAL = Setting("llava-1.5-7b", "llava", False)
EARNED = Ran("llava150k", {"0": SEVEN}, setting_of(read_testbed("llava-1.5-7b")), {name: {} for name in NINE}, {10_000})
COLUMNS = "SQA GQA VQA^T total MMVet MME MMB total POPE CHAIR MMHal total".split()
OFFICIAL = {"sqa": 2017, "gqa": 12_578, "textvqa": 5000, "mmvet": 218, "mme": 1187, "mmb": 1176}
OFFICIAL |= {"pope": 9000, "chair": 500, "mmhal": 96}


@cache
def units(count: int, right: int) -> tuple[Unit, ...]:
    """Units of forty images, every `right`-th of them right."""
    return tuple(Unit(f"{n}", f"{n % 40}", {"right": float(n % right == 0), "n": 1.0}) for n in range(count))


def scored(counts: Mapping[str, int] = OFFICIAL) -> list[Outcome]:
    """The baseline and nSFT on the nine, with so many units."""
    rows = (("baseline", "LLaVA-1.5-7B", 3), ("nsft", "nSFT", 2))
    return [Outcome(row, of, 0, name, units(n, right), 0, row) for row, of, right in rows for name, n in counts.items()]


def beside(
    ran: Ran = EARNED, outcomes: Sequence[Outcome] | None = None, number: int = 1, own: Sequence[str] = ()
) -> Grid:
    """A table of the paper beside what was run."""
    known = scored() if outcomes is None else outcomes
    made = build(known, NINE, ["nsft"], REAL, 10)
    part = Part("runs/x", ran.data, made, known, NINE, {"nsft": ("nsft", {})}, (ran,), own)
    return paper_table(number, [part], beside=True)


def shown(grid: Grid) -> list[str]:
    """The columns that have the paper's numbers beside them."""
    return [head.label.removesuffix(" (paper)") for head in grid.heads if head.label.endswith("(paper)")]


def changed(**fields: Any) -> Ran:
    """The run that earned it, but for some settings."""
    return replace(EARNED, setting={**EARNED.setting, **fields})


def test_a_run_of_the_papers_model_settings_data_and_questions_has_its_numbers_beside_it() -> None:
    grid = beside()
    assert shown(grid) == COLUMNS
    line = next(line for line in grid.lines if line.names == ("nSFT",) and line.block == "LLaVA-150k")
    at = [head.label for head in grid.heads].index("SQA (paper)")
    assert line.entries[at].value == 68.4 and line.entries[at - 1].value == pytest.approx(50, abs=0.1)
    assert ("SeVa",) in {line.names for line in grid.lines}  # not measured: a dash, and its row is there
    notes = "\n".join(grid.notes)
    assert "not measured here" in notes and "withheld" not in notes
    assert "judged by openai:gpt-4-0613; the paper does not say which version" in notes
    assert "CHAIR: ours is chair/mean_is@noun; the paper does not say how it finds objects" in notes
    assert "POPE: ours has 9,000 questions" in notes and "whether their weights are the published ones" in notes


WHOLE: dict[str, tuple[Ran, str]] = {
    "another model": (replace(EARNED, models={"0": MINI}), "the model is not LLaVA-1.5-7B (hidden_size 128, layers 4"),
    "one seed with another": (replace(EARNED, models={"0": SEVEN, "1": MINI}), "the model is not LLaVA-1.5-7B"),
    "no tower of its": (replace(EARNED, models={"0": SEVEN | {"patches": 256}}), "patches 256"),
    "nothing recorded": (replace(EARNED, models={}, setting={}), "did not record its model and settings"),
    "another rate": (
        changed(training=EARNED.setting["training"] | {"learning_rate": 1e-3}),
        "training.learning_rate is 0.001, in the paper's testbed 2e-06",
    ),
    "no adapters": (changed(training=EARNED.setting["training"] | {"lora": None}), "training.lora is None"),
    "a method's passes": (
        changed(methods={}),
        "methods.csr is not set, in the paper's testbed {'learning_rate': 1e-07",
    ),
    "shorter responses": (changed(response_tokens=64), "response_tokens is 64, in the paper's testbed 1024"),
    "turned pictures": (
        changed(reading=EARNED.setting["reading"] | {"images": "upright"}),
        "reading.images is upright, in the paper's testbed llava",
    ),
    "another writer": (changed(writer="openai:llama-3-8b"), "writer is openai:llama-3-8b"),
    "fewer examples": (replace(EARNED, examples={5000}), "trained on 5,000 examples, the paper on 10,000"),
    "a seed with fewer": (replace(EARNED, examples={10_000, 9000}), "trained on 9,000, 10,000 examples"),
}


@pytest.mark.parametrize("what", WHOLE)
def test_one_that_is_not_the_papers_has_none_of_them_and_one_line_says_why(what: str) -> None:
    ran, reason = WHOLE[what]
    grid = beside(ran)
    assert shown(grid) == []
    [line] = [note for note in grid.notes if "withheld" in note]
    assert line.startswith("the paper's numbers are withheld: ") and reason in line
    assert not any(note.startswith("paper: as printed") for note in grid.notes)


@pytest.mark.parametrize("what", WHOLE)
def test_a_check_that_finds_nothing_would_be_caught(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper, "shortfalls", lambda *given: {})
    with pytest.raises((AssertionError, KeyError)):
        test_one_that_is_not_the_papers_has_none_of_them_and_one_line_says_why(what)


def with_option(name: str, **options: Any) -> Ran:
    """The run that earned it, with options of one benchmark."""
    return replace(EARNED, options={**EARNED.options, name: options})


COLUMN: dict[str, tuple[Callable[[], Grid], set[str], str]] = {
    "a part of the questions": (
        lambda: beside(outcomes=scored(OFFICIAL | {"textvqa": 200})),
        {"VQA^T"},
        "VQA^T (paper) withheld: 200 of 5,000 questions",
    ),
    "MME's questions for its pairs": (lambda: beside(outcomes=scored(OFFICIAL | {"mme": 2374})), {"MME"}, "not 1,187"),
    "another file": (
        lambda: beside(outcomes=scored(OFFICIAL | {"mmb": 1164})),
        {"MMB"},
        "MMB (paper) withheld: 1,164 of 1,176 questions",
    ),
    "no OCR tokens": (lambda: beside(with_option("textvqa", ocr=False)), {"VQA^T"}, "ocr=False, not True"),
    "other objects": (lambda: beside(with_option("chair", variant="listed")), {"CHAIR"}, "variant=listed, not noun"),
    "fewer subtasks": (lambda: beside(with_option("mme", subtasks=("count",))), {"MME"}, "subtasks=('count',)"),
    "not scored": (
        lambda: beside(outcomes=[o for o in scored() if o.benchmark != "gqa"]),
        {"GQA"},
        "GQA (paper) withheld: not scored",
    ),
    "another judge": (lambda: beside(changed(judge="openai:gpt-4o")), {"MMVet", "MMHal"}, "the judge is openai:gpt-4o"),
    "ChatGPT": (lambda: beside(changed(judge="openai:gpt-3.5-turbo-0613")), {"MMVet"}, "the paper's GPT-4"),
}


@pytest.mark.parametrize("what", COLUMN)
def test_a_column_that_did_not_earn_it_is_withheld_and_so_is_its_total(what: str) -> None:
    make, lost, line = COLUMN[what]
    grid = make()
    totals = {"SQA": 3, "GQA": 3, "VQA^T": 3, "MMVet": 7, "MMB": 7, "POPE": 11, "CHAIR": 11, "MMHal": 11}
    without = {totals[column] for column in lost if column in totals}
    assert shown(grid) == [c for at, c in enumerate(COLUMNS) if c not in lost and at not in without]
    assert sum("withheld" in note for note in grid.notes) == len(lost)
    assert any(line in note for note in grid.notes)


def test_either_set_of_pope_is_counted_by_its_own_number() -> None:
    llavas = with_option("pope", random_rows=2910)
    assert "POPE" in shown(beside(llavas, scored(OFFICIAL | {"pope": 8910})))
    assert "POPE" not in shown(beside(llavas))
    assert "POPE" not in shown(beside(outcomes=scored(OFFICIAL | {"pope": 8910})))


def test_unscored_questions_were_asked() -> None:
    some = [replace(o, units=o.units[5:], unscored=5) if o.benchmark == "gqa" else o for o in scored()]
    assert shown(beside(outcomes=some)) == COLUMNS


@pytest.mark.parametrize(
    ("number", "data", "says"),
    [
        (2, "llava150k", "aligned with llava150k, the paper with a mixture"),
        (5, "textcaps", "aligned with textcaps, the paper with llava150k"),
        (7, "textcaps", "trained on 10,000 examples, the paper on 5,000"),
    ],
)
def test_a_table_has_its_own_data_and_number_of_examples(number: int, data: str, says: str) -> None:
    grid = beside(replace(EARNED, data=data), number=number)
    assert shown(grid) == [] and any(says in note for note in grid.notes)
    if number == 7:
        assert shown(beside(replace(EARNED, data=data, examples={5000}), number=7)) == ["MMB", "VQA^T", "SQA"]


def test_a_row_of_ones_own_does_not_take_a_name_of_the_papers() -> None:
    """`--methods ./nsft.py`, or nsft at another learning rate: its line has no numbers of the paper's."""
    names = [line.names for line in beside(own=["nsft"]).lines]
    assert ("nSFT (nsft)",) in names and ("nSFT",) in names
    mine = next(line for line in beside(own=["nsft"]).lines if line.names == ("nSFT (nsft)",))
    at = [head.label for head in beside().heads].index("SQA (paper)")
    assert mine.entries[at].value != mine.entries[at].value


BESIDE = {
    "mmb_cn": 1164, "seed": 14_233, "shr": 200, "mmstar": 1500, "llava_bench": 60, "realworldqa": 765, "cvbench": 2638,
}  # fmt: skip


@pytest.mark.parametrize("name", [*OFFICIAL, *BESIDE])
def test_the_official_number_of_units_is_the_one_the_plugin_counts(name: str) -> None:
    made: Benchmark = plugins.make("benchmarks", name, Benchmark, {})
    assert made.official_units == (OFFICIAL | BESIDE)[name]


def test_what_ran_is_read_from_the_manifest_and_the_locks(tmp_path: Path) -> None:
    """The command, on a run that has the testbed's name and not its model."""
    named = {"testbed": "llava-1.5-7b", "synthetic": False}
    run = FakeRun(spoilt=named).write(tmp_path)
    assert any("an older version wrote the run" in note for note in table([run], 1, True).notes)
    recorded = named | {"architectures": {"0": SEVEN}, "setting": EARNED.setting}
    (run / "manifest.json").write_text(json.dumps(json.loads((run / "manifest.json").read_text()) | recorded))
    [line] = [note for note in table([run], 1, True).notes if "are withheld" in note]
    assert line == "the paper's numbers are withheld: trained on 32 examples, the paper on 10,000"
